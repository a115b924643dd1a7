'use strict'

/** Access to values of unknown type: clients, errors that were caught, messages that were parsed. */

/**
 * @param {unknown} value
 * @returns {Readonly<Record<string, unknown>>}
 */
function propertiesOf(value) {
  return /** @type {Record<string, unknown>} */ (value ?? {})
}

/**
 * Whether a client has these methods. Clients are recognized by them, so that fencelock depends on none of
 * them.
 * @template {string} Name
 * @param {object} client
 * @param {...Name} names
 * @returns {client is { [K in Name]: Function }}
 */
function hasMethods(client, ...names) {
  return names.every((name) => typeof propertiesOf(client)[name] === 'function')
}

/**
 * A number that says how many connections a pool has at most; undefined if it does not say.
 * @param {unknown} value
 */
function poolSize(value) {
  return typeof value === 'number' && value >= 1 ? value : undefined
}

/**
 * The message of an error. Anything can be thrown.
 * @param {unknown} error
 */
function messageOf(error) {
  return String(propertiesOf(error).message ?? error)
}

module.exports = { hasMethods, messageOf, poolSize, propertiesOf }
