'use strict'

/** How calls end, in one word. */

const { LockError } = require('../errors.js')

/** @import { LockErrorCode } from '../../index.js' */

/** @type {Partial<Record<LockErrorCode, string>>} */
const BY_CODE = {
  LOCK_HELD: 'busy',
  INSUFFICIENT_REPLICAS: 'insufficient',
  OUTCOME_UNKNOWN: 'unknown',
  LOCK_LOST: 'lost',
  BACKEND_UNAVAILABLE: 'unavailable',
  UNSUPPORTED: 'unsupported',
  CLOSED: 'closed',
}

/** What calls end with that do what they should: that a lock is busy is an answer, and no error. */
const EXPECTED = new Set(['busy', 'timeout', 'aborted', 'closed'])

/** @param {unknown} error */
function outcomeOf(error) {
  const code = error instanceof LockError ? BY_CODE[error.code] : undefined
  return code ?? 'failed'
}

/**
 * Notes how a call failed.
 * @param {{ outcome: string | undefined, error?: unknown }} context
 * @param {string} outcome
 * @param {unknown} error
 */
function noteFailure(context, outcome, error) {
  context.outcome = outcome
  if (!EXPECTED.has(outcome)) context.error = error
}

module.exports = { noteFailure, outcomeOf }
