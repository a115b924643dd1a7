'use strict'

/** What is printed: answers on stdout, and what went wrong on stderr. */

const { writeSync } = require('node:fs')

const { UsageError, codeOf } = require('../exit-codes.js')

/** What a thread can sleep on. */
const NEVER = new Int32Array(new SharedArrayBuffer(4))
const FULL_PIPE_MS = 5

/** How a program ends that SIGPIPE ends. */
const EXIT_OF_SIGPIPE = 141

/** A reader of a stream that went away, as `head` does, ends a command quietly. */
function watchStreams() {
  process.stderr.on('error', () => undefined)
  process.stdout.on('error', (error) => {
    process.exit(codeOf(error) === 'EPIPE' ? EXIT_OF_SIGPIPE : 1)
  })
}

/** @param {string} line */
function print(line) {
  try {
    writeAll(1, `${line}\n`)
  } catch (error) {
    if (codeOf(error) === 'EPIPE') process.exit(EXIT_OF_SIGPIPE)
    throw error
  }
}

/**
 * Of what goes wrong, and of `run`, whose command must not end with the reader of this.
 * @param {string} text
 */
function printError(text) {
  try {
    writeAll(2, text)
  } catch {
    // There is no place left to say so.
  }
}

/**
 * Without the streams of the process, which take a `run` milliseconds to set up. Bun 1.2 also does not tell a
 * stream that its reader has gone.
 * @param {1 | 2} file
 * @param {string} text
 */
function writeAll(file, text) {
  let rest = Buffer.from(text)
  while (rest.length > 0) {
    try {
      rest = rest.subarray(writeSync(file, rest))
    } catch (error) {
      // A pipe that is full, and does not block.
      if (codeOf(error) !== 'EAGAIN') throw error
      Atomics.wait(NEVER, 0, 0, FULL_PIPE_MS)
    }
  }
}

/** @param {unknown} value */
function printJson(value) {
  print(JSON.stringify(value))
}

/** @param {string} line */
function note(line) {
  printError(`fencelock: ${line}\n`)
}

/** @param {unknown} value */
function noteJson(value) {
  printError(`${JSON.stringify(value)}\n`)
}

/**
 * @param {unknown} error
 * @param {boolean} json
 */
function reportError(error, json) {
  const code = codeOf(error) ?? 'INTERNAL'
  const message = messageOf(error)
  const hint = error instanceof UsageError ? 'see fencelock --help' : undefined
  if (json) return noteJson({ event: 'error', code, message, ...(hint !== undefined && { hint }) })
  note(hint === undefined ? message : `${message} (${hint})`)
  if (code === 'INTERNAL' && error instanceof Error) printError(`${error.stack ?? ''}\n`)
}

/**
 * In words of the command line.
 * @param {unknown} error
 * @returns {string}
 */
function messageOf(error) {
  if (error instanceof UsageError) return error.message
  // Only a failure needs it.
  const { withFlags } = require('./flags.js')
  return withFlags(error instanceof Error ? error.message : String(error))
}

/**
 * Wraps at spaces.
 * @param {string} text
 * @param {string} indent of all lines but the first
 * @param {number} [width]
 */
function wrap(text, indent, width = textWidth()) {
  /** @type {string[]} */
  const lines = []
  let line = ''
  for (const word of text.split(' ')) {
    if (line !== '' && indent.length + line.length + 1 + word.length > width) {
      lines.push(line)
      line = word
    } else {
      line = line === '' ? word : `${line} ${word}`
    }
  }
  return [...lines, line].join(`\n${indent}`)
}

function textWidth() {
  return Math.max(60, Math.min(process.stdout.columns ?? 100, 100))
}

/**
 * Columns that are as wide as their cells.
 * @param {readonly (readonly string[])[]} rows
 */
function columns(rows) {
  const { padEnd, widthOf } = require('./width.js')
  const widths = (rows[0] ?? []).map((_, index) => Math.max(...rows.map((row) => widthOf(row[index] ?? ''))))
  return rows.map((row) =>
    row
      .map((cell, index) => padEnd(cell, widths[index] ?? 0))
      .join('  ')
      .trimEnd(),
  )
}

/**
 * Without what a resource's name may have, and what would write to the terminal, turn the direction of the
 * text around, or not be seen.
 * @param {string} text
 */
function plain(text) {
  return text.replaceAll(
    /[\p{Cc}\p{Cf}\p{Co}\p{Cs}\p{Zl}\p{Zp}\p{Default_Ignorable_Code_Point}]/gu,
    (character) => {
      const digits = (character.codePointAt(0) ?? 0).toString(16)
      return `\\u{${digits}}`
    },
  )
}

module.exports = {
  columns,
  messageOf,
  note,
  noteJson,
  plain,
  print,
  printError,
  printJson,
  reportError,
  textWidth,
  watchStreams,
  wrap,
}
