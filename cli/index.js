'use strict'

/** `fencelock <command>`: finds the command, and turns what happens into an exit status. */

const { EXIT, UsageError, exitOf } = require('./exit-codes.js')
const { print, printError, reportError, watchStreams } = require('./output/print.js')

/** @param {readonly string[]} args */
async function main(args = process.argv.slice(2)) {
  const end = args.indexOf('--')
  const json = args.slice(0, end === -1 ? undefined : end).includes('--json')
  try {
    process.exitCode = await dispatch(args)
  } catch (error) {
    reportError(error, json)
    process.exitCode = exitOf(error)
  }
}

/** @param {readonly string[]} args */
async function dispatch([name, ...rest]) {
  require('./options/encoding.js').refuseReplaced([name ?? '', ...rest])
  // `run` uses none.
  if (name !== 'run') watchStreams()
  switch (name) {
    case undefined:
      printError(`${helpOf(undefined)}\n`)
      return EXIT.usage
    case 'help':
    case '--help':
    case '-h':
      print(helpOf(rest[0]))
      return EXIT.ok
    case '--version':
    case '-V':
      print(`fencelock ${version()}`)
      return EXIT.ok
    default:
      return runCommand(name, rest)
  }
}

/**
 * @param {string} name
 * @param {readonly string[]} args
 */
async function runCommand(name, args) {
  const { COMMANDS, find } = require('./commands/index.js')
  const command = find(name)
  const { optionsOf, readArguments } = require('./options/arguments.js')
  const call = readArguments(optionsOf(command), args, process.env)
  if (call.values.help === true) {
    print(helpOf(name))
    return EXIT.ok
  }
  return command.run({ ...call, commands: COMMANDS })
}

/** @param {string | undefined} name */
function helpOf(name) {
  const { generalHelp, commandHelp } = require('./help.js')
  if (name === undefined) return generalHelp()
  const { find } = require('./commands/index.js')
  return commandHelp(name, find(name))
}

/** @returns {string} */
function version() {
  /** @type {unknown} */
  const manifest = require('../package.json')
  if (typeof manifest === 'object' && manifest !== null && 'version' in manifest)
    return String(manifest.version)
  throw new UsageError('package.json has no version')
}

module.exports = { main }
