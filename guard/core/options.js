'use strict'

/** What is passed to the guards for Redis and HTTP, checked. */

const { kind, nearest, string, tagOf, wrongType } = require('../../lib/options/validate.js')
const { invalid } = require('../../lib/errors.js')

/** Lua's `unpack` takes about 8,000, and a script keeps its server from everything else. */
const MAX_PARTS = 7_000
const MAX_PREFIX_BYTES = 64

/** An object with none but the known keys; `undefined` counts as an empty one. */
function known(name, value, keys) {
  if (value === undefined) return {}
  if (typeof value !== 'object' || value === null || tagOf(value) !== 'Object') {
    throw wrongType(name, 'an object', value)
  }
  for (const key of Object.keys(value)) {
    if (keys.includes(key)) continue
    const near = nearest(key, keys)
    const hint = near === undefined ? `known are ${keys.join(', ')}` : `did you mean ${JSON.stringify(near)}?`
    throw invalid(TypeError, `unknown option ${JSON.stringify(key)} in ${name}; ${hint}`)
  }
  return value
}

/** As for the lock manager: no brace may come before that of the hash tag. */
function keyPrefix(value = 'fencelock') {
  string('prefix', value)
  const bytes = Buffer.byteLength(value)
  if (bytes < 1 || bytes > MAX_PREFIX_BYTES || /[{}\s\p{Cc}]/u.test(value)) {
    throw invalid(
      RangeError,
      `prefix must have 1 to ${MAX_PREFIX_BYTES} bytes of UTF-8, without braces, spaces and control characters`,
    )
  }
  return value
}

/** A key of the caller's. */
function redisKey(value) {
  string('a key', value)
  if (value === '') throw invalid(RangeError, 'a key must not be empty')
  return value
}

/** The same values, if they are not too many for one command. */
function few(name, values) {
  if (values.length > MAX_PARTS) {
    throw invalid(
      RangeError,
      `${name} must have at most ${MAX_PARTS} parts, got ${values.length}: use several calls, a lock of the same token passes`,
    )
  }
  return values
}

/** What a command takes, in the two types that every client sends as they are. */
function parts(name, values) {
  return few(name, values).map((value) => {
    if (typeof value === 'string') return string(name, value)
    if (value instanceof Uint8Array) return Buffer.from(value.buffer, value.byteOffset, value.byteLength)
    if (typeof value === 'bigint' || Number.isFinite(value)) return String(value)
    const got = Array.isArray(value) ? 'an array' : kind(value)
    throw invalid(
      TypeError,
      `${name} must hold strings, Buffers, finite numbers and bigints only, got ${got}`,
    )
  })
}

module.exports = { few, keyPrefix, known, parts, redisKey }
