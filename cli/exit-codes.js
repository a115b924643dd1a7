'use strict'

/** The exit statuses of fencelock itself: those of flock(1), and otherwise of sysexits.h. */

const { constants } = require('node:os')

const EXIT = {
  ok: 0,
  /** Held by another owner (`run`), free (`inspect`), nothing released, or a check that failed. */
  no: 1,
  /** EX_USAGE */
  usage: 64,
  /** EX_UNAVAILABLE */
  unavailable: 69,
  /** EX_SOFTWARE */
  internal: 70,
  /** EX_TEMPFAIL */
  lost: 75,
  /** EX_CONFIG */
  unsupported: 78,
  /** As shells have them. */
  notExecutable: 126,
  notFound: 127,
}

/** @type {Readonly<Record<string, number>>} */
const OF_ERROR = {
  LOCK_HELD: EXIT.no,
  LOCK_LOST: EXIT.lost,
  BACKEND_UNAVAILABLE: EXIT.unavailable,
  INSUFFICIENT_REPLICAS: EXIT.unavailable,
  OUTCOME_UNKNOWN: EXIT.unavailable,
  UNSUPPORTED: EXIT.unsupported,
  INVALID_OPTION: EXIT.usage,
}

/** What the caller can mend on the command line. */
class UsageError extends Error {
  code = 'USAGE'
}

/**
 * @param {unknown} error
 * @returns {string | undefined}
 */
function codeOf(error) {
  const code = error instanceof Error && 'code' in error ? error.code : undefined
  return typeof code === 'string' ? code : undefined
}

/** @param {unknown} error */
function exitOf(error) {
  if (error instanceof UsageError) return EXIT.usage
  const code = codeOf(error)
  if (code === undefined) return EXIT.internal
  // The addon is missing, or is for another platform.
  return OF_ERROR[code] ?? (code.startsWith('ADDON_') ? EXIT.unsupported : EXIT.internal)
}

/**
 * As shells say that a signal ended a program.
 * @param {NodeJS.Signals} signal
 */
function exitOfSignal(signal) {
  return 128 + (constants.signals[signal] ?? 0)
}

module.exports = { EXIT, UsageError, codeOf, exitOf, exitOfSignal }
