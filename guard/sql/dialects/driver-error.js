'use strict'

/** The errors of database drivers, and of query builders that wrap them. */

const { propertiesOf } = require('../../core/properties.js')

/**
 * What drivers put on their errors.
 * @typedef {object} DriverError
 * @property {unknown} [code]
 * @property {unknown} [errno]
 * @property {unknown} [errcode]
 * @property {unknown} [message]
 */

/**
 * Anything can be thrown.
 * @param {unknown} error
 * @returns {DriverError}
 */
function driverError(error) {
  const { originalCode, originalMessage } = propertiesOf(error)
  // Prisma copies what the driver said.
  if (originalCode !== undefined || originalMessage !== undefined) {
    return { code: originalCode, errno: Number(originalCode), message: originalMessage }
  }
  return propertiesOf(error)
}

/**
 * The error that this one wraps. Most query builders have it in `cause`, Prisma in `meta`, Sequelize in
 * `original`, TypeORM in `driverError`.
 * @param {object} error
 */
function wrapped(error) {
  const { cause, meta, original, driverError: inner } = propertiesOf(error)
  const all = [cause, propertiesOf(meta).driverAdapterError, original, inner]
  return all.find((each) => typeof each === 'object' && each !== null)
}

/**
 * A predicate for an error or any that it wraps.
 * @param {(error: DriverError) => boolean} matches
 */
function byCause(matches) {
  /** @param {unknown} thrown */
  return (thrown) => {
    const seen = new Set()
    let error = thrown
    while (typeof error === 'object' && error !== null && !seen.has(error)) {
      if (matches(driverError(error))) return true
      seen.add(error)
      error = wrapped(error)
    }
    return false
  }
}

module.exports = { byCause, driverError }
