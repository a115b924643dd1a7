'use strict'

/**
 * The properties of anything: an error that was caught, a message that was parsed, what a callback returned.
 * @param {unknown} value
 * @returns {Readonly<Record<string, unknown>>}
 */
function propertiesOf(value) {
  return /** @type {Record<string, unknown>} */ (value ?? {})
}

module.exports = { propertiesOf }
