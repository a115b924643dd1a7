'use strict'

/** The help: of the program, and of each command as a manual page has it. */

const { COMMANDS } = require('./commands/index.js')
const { columns, textWidth, wrap } = require('./output/print.js')

/** @import { Command, Options } from './options/arguments.js' */

function generalHelp() {
  const commands = Object.entries(COMMANDS).map(([name, { summary }]) => [`  ${name}`, summary])
  return `fencelock: locks with fencing tokens, from the shell

Usage: fencelock <command> [options]
       fencelock <command> --help
       fencelock --version

Commands:
${columns(commands).join('\n')}

Where the locks are:
  --redis <url>     or FENCELOCK_REDIS: strong locks on Redis
  --quorum <urls>   or FENCELOCK_QUORUM: quorum locks on independent Redis nodes
  --local <file>    or FENCELOCK_LOCAL: local locks in a file, by default ./locks.sqlite

Examples:
  fencelock run nightly-report --no-wait -- ./report.sh
  fencelock run deploy --redis rediss://cache.example --wait 5m -- make deploy
  fencelock inspect deploy --json
  fencelock doctor`
}

/**
 * @param {string} name
 * @param {Command} command
 */
function commandHelp(name, { usage, description, groups, statuses, examples }) {
  const summary = COMMANDS[name]?.summary ?? ''
  const width = textWidth()
  const blocks = [
    `fencelock ${name}: ${summary}`,
    `Usage: ${usage
      .split('\n')
      .map((line) => `fencelock ${name} ${line}`.trimEnd())
      .join('\n       ')}`,
    ...description.map((paragraph) => wrap(paragraph, '', width)),
    ...groups.map(({ title, options }) => `${title}:\n${optionLines(options, width).join('\n')}`),
    `Exit status:\n${definitions(statuses, width).join('\n')}`,
    `Examples:\n${examples.map(([what, line]) => `  # ${what}\n  ${line}`).join('\n')}`,
  ]
  return blocks.join('\n\n')
}

/**
 * @param {Options} options
 * @param {number} width
 */
function optionLines(options, width) {
  const rows = Object.entries(options).map(([name, { short, value, choices, text, variable }]) => {
    const shown = choices?.join('|') ?? value
    const flag = `${short === undefined ? '    ' : `-${short}, `}--${name}${shown === undefined ? '' : ` <${shown}>`}`
    return /** @type {const} */ ([flag, variable === undefined ? text : `${text} [${variable}]`])
  })
  return definitions(rows, width)
}

/**
 * @param {readonly (readonly [string, string])[]} rows
 * @param {number} width
 */
function definitions(rows, width) {
  const longest = Math.min(30, Math.max(...rows.map(([term]) => term.length)))
  const indent = ' '.repeat(longest + 4)
  return rows.map(([term, text]) => {
    const body = wrap(text, indent, width)
    return term.length > longest ? `  ${term}\n${indent}${body}` : `  ${term.padEnd(longest)}  ${body}`
  })
}

module.exports = { commandHelp, generalHelp }
