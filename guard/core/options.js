'use strict'

/** Checks of arguments that only guards have. */

const { invalid } = require('../../lib/errors.js')
const { isUint8Array, kind, string } = require('../../lib/options/validate.js')

/** Lua's `unpack` takes about 8,000 values, and a script blocks its server. */
const MAX_PARTS = 7_000

/**
 * A Redis key of the caller.
 * @param {unknown} value
 */
function redisKey(value) {
  const key = string('a key', value)
  if (key === '') throw invalid(RangeError, 'a key must not be empty')
  return key
}

/**
 * The same values, unless there are too many for one command.
 * @template T
 * @param {string} name
 * @param {T[]} values
 */
function few(name, values) {
  if (values.length > MAX_PARTS) {
    throw invalid(
      RangeError,
      `${name} must have at most ${MAX_PARTS} parts, got ${values.length}: ` +
        'use several calls, an equal token passes',
    )
  }
  return values
}

/**
 * The arguments of a command, in the two types that every client sends unchanged.
 * @param {string} name
 * @param {unknown[]} values
 */
function parts(name, values) {
  return few(name, values).map((value) => part(name, value))
}

/**
 * @param {string} name
 * @param {unknown} value
 * @returns {string | Buffer}
 */
function part(name, value) {
  if (typeof value === 'string') return string(name, value)
  if (isUint8Array(value)) return Buffer.from(value.buffer, value.byteOffset, value.byteLength)
  if (typeof value === 'bigint' || Number.isFinite(value)) return String(value)
  throw invalid(
    TypeError,
    `${name} must hold strings, Buffers, finite numbers and bigints only, got ${kind(value)}`,
  )
}

module.exports = { few, parts, redisKey }
