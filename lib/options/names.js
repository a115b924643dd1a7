'use strict'

/** Names of resources, and the prefix of Redis keys. The guards check theirs here, too. */

const { invalid } = require('../errors.js')
const { string, wrongType } = require('./validate.js')

const MAX_RESOURCE_BYTES = 512
/** All resources of a lock are one script call, or one transaction, that others wait for. */
const MAX_RESOURCES = 1_000
const MAX_PREFIX_BYTES = 64

/** @param {unknown} value */
function resourceName(value) {
  if (typeof value !== 'string') throw wrongType('a resource', 'a string', value)
  // The byte length is at most three times the length, so most names need no count.
  const tooLong = value.length * 3 > MAX_RESOURCE_BYTES && Buffer.byteLength(value) > MAX_RESOURCE_BYTES
  if (value === '' || tooLong) {
    throw invalid(
      RangeError,
      `a resource must have 1 to ${MAX_RESOURCE_BYTES} bytes of UTF-8, got ${Buffer.byteLength(value)}`,
    )
  }
  if (!value.isWellFormed()) {
    throw invalid(
      TypeError,
      `a resource must be well-formed Unicode, but ${JSON.stringify(value)} has a lone surrogate`,
    )
  }
  return value
}

/**
 * One name, or a frozen array of them.
 * @param {unknown} value
 */
function resourceNames(value) {
  if (!Array.isArray(value)) return resourceName(value)
  // Read once, and copied by it: a Proxy may answer another length each time.
  const { length } = value
  if (length === 0) throw invalid(RangeError, 'an array of resources must not be empty')
  if (!(length <= MAX_RESOURCES)) {
    throw invalid(
      RangeError,
      `one lock covers at most ${MAX_RESOURCES} resources, got ${length}; lock what they have in common`,
    )
  }
  const names = Object.freeze(Array.from({ length }, (_, index) => resourceName(value[index])))
  if (new Set(names).size < names.length) {
    const twice = names.find((name, index) => names.indexOf(name) !== index)
    throw invalid(RangeError, `the resource ${JSON.stringify(twice)} is named twice`)
  }
  return names
}

/**
 * The prefix of every Redis key. Without braces, so that the hash tag of a key is its resource.
 * @param {unknown} value
 */
function keyPrefix(value = 'fencelock') {
  const prefix = string('prefix', value)
  const bytes = Buffer.byteLength(prefix)
  if (bytes < 1 || bytes > MAX_PREFIX_BYTES || /[{}\s\p{Cc}\p{Cs}]/u.test(prefix)) {
    throw invalid(
      RangeError,
      `prefix must have 1 to ${MAX_PREFIX_BYTES} bytes of UTF-8, without braces, spaces and control characters`,
    )
  }
  return prefix
}

module.exports = { MAX_RESOURCE_BYTES, MAX_RESOURCES, keyPrefix, resourceName, resourceNames }
