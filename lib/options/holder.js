'use strict'

/** The option `holderName`: who holds the locks of a manager, for people. */

const { hostname } = require('node:os')

const { invalid } = require('../errors.js')
const { string } = require('./validate.js')

const MAX_BYTES = 256

/**
 * @param {unknown} value
 * @returns {import('../../binding.js').HolderConfig}
 */
function holderConfig(value) {
  const host = cut(hostname())
  const { pid } = process
  const name = value === undefined ? `${host}:${pid}` : string('holderName', value)
  const bytes = Buffer.byteLength(name)
  if (bytes < 1 || bytes > MAX_BYTES || /\p{Cc}/u.test(name)) {
    throw invalid(
      RangeError,
      `holderName must have 1 to ${MAX_BYTES} bytes of UTF-8, without control characters`,
    )
  }
  return { name, host, pid }
}

/**
 * What a system calls itself may be anything.
 * @param {string} text
 */
function cut(text) {
  return text
    .replaceAll(/\p{Cc}/gu, '')
    .slice(0, MAX_BYTES / 4)
    .toWellFormed()
}

module.exports = { holderConfig }
