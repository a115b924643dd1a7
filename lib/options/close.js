'use strict'

/** The options of `close`. */

const { invalid } = require('../errors.js')
const { CLOSE_KEYS, elsewhere } = require('./keys.js')
const { object, wrongType } = require('./validate.js')

const DRAIN_MS = 4_000
const MAX_DRAIN_MS = 86_400_000

/**
 * For how long `close` waits for locks, in milliseconds; may be infinite.
 * @param {unknown} value
 */
function drainTime(value) {
  const { drainMs = DRAIN_MS } = object('options', value, CLOSE_KEYS, { elsewhere })
  if (typeof drainMs !== 'number') throw wrongType('drainMs', 'a number', drainMs)
  if (drainMs === Infinity) return drainMs
  if (!Number.isInteger(drainMs) || drainMs < 0 || drainMs > MAX_DRAIN_MS) {
    throw invalid(
      RangeError,
      `drainMs must be an integer from 0 to ${MAX_DRAIN_MS}, or Infinity, got ${drainMs}`,
    )
  }
  return drainMs
}

module.exports = { drainTime }
