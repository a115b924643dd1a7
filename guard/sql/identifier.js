'use strict'

/** Names of tables, schemas and columns. */

const { invalid } = require('../../lib/errors.js')
const { string } = require('../../lib/options/validate.js')

/**
 * @param {string} name of the option
 * @param {unknown} value
 * @param {{ of: string, limit?: string, fits?: (value: string) => boolean }} rule `of` is what it names,
 *   `limit` how messages describe `fits`
 */
function identifier(name, value, { of, limit = '', fits = () => true }) {
  const text = string(name, value)
  if (text === '' || text.includes('\0') || !fits(text)) {
    throw invalid(RangeError, `${name} must be the name of a ${of}: not empty, without NUL${limit}`)
  }
  return text
}

module.exports = { identifier }
