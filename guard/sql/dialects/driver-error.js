'use strict'

/** The errors of database drivers. */

const { propertiesOf } = require('../../core/properties.js')

/**
 * What drivers put on their errors.
 * @typedef {object} DriverError
 * @property {unknown} [code]
 * @property {unknown} [errno]
 * @property {unknown} [errcode]
 * @property {unknown} [message]
 * @property {unknown} [cause]
 */

/**
 * Anything can be thrown.
 * @param {unknown} error
 * @returns {DriverError}
 */
function driverError(error) {
  return propertiesOf(error)
}

/**
 * A predicate for an error or any of its causes: query builders wrap the errors of drivers.
 * @param {(error: DriverError) => boolean} matches
 */
function byCause(matches) {
  /** @param {unknown} thrown */
  return (thrown) => {
    const seen = new Set()
    let error = thrown
    while (typeof error === 'object' && error !== null && !seen.has(error)) {
      if (matches(error)) return true
      seen.add(error)
      error = driverError(error).cause
    }
    return false
  }
}

module.exports = { byCause, driverError }
