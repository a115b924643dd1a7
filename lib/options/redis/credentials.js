'use strict'

/** The options `credentials`, functions, and what they return. */

const { invalid } = require('../../errors.js')
const { CREDENTIALS_KEYS } = require('../keys.js')
const { object, optional, string, wrongType } = require('../validate.js')

/** @typedef {() => unknown} CredentialsFunction */

/**
 * @param {string} name
 * @param {unknown} value
 */
function credentialsFunction(name, value) {
  if (typeof value === 'function') return /** @type {CredentialsFunction} */ (value)
  throw wrongType(name, 'a function', value, '; credentials that never change are username and password')
}

/**
 * @param {string} name of the options
 * @param {{
 *   readonly username?: unknown, readonly password?: unknown, readonly credentials?: unknown,
 * }} options
 */
function exclusiveCredentials(name, options) {
  const { username, password } = options
  const ask = optional(credentialsFunction, `${name}.credentials`, options.credentials)
  if (ask !== undefined && (username !== undefined || password !== undefined)) {
    throw invalid(
      TypeError,
      `${name}.credentials is asked for username and password: leave out ${name}.username and ${name}.password`,
    )
  }
  return ask
}

/**
 * A function for credentials, and those who log in with what it returns.
 * @typedef {{
 *   readonly name: string, readonly ask: CredentialsFunction,
 *   readonly servers: { credentials?: number | undefined }[],
 * }} CredentialsSource
 */

/**
 * @param {string} name that of the option
 * @param {unknown} value what the function returned, after an await
 */
function credentials(name, value) {
  const result = `the result of ${name}`
  if (value === undefined) throw wrongType(result, 'an object', value)
  const { username, password, expiresInMs } = object(result, value, CREDENTIALS_KEYS)
  if (password === undefined) {
    throw invalid(
      TypeError,
      `${result} has no password${username === undefined ? '' : ', which a username needs'}`,
    )
  }
  if (string(`password in ${result}`, password) === '') {
    throw invalid(RangeError, `password in ${result} must not be empty`)
  }
  return {
    username: optional(string, `username in ${result}`, username),
    password: /** @type {string} */ (password),
    expiresInMs: optional(lifetime, `expiresInMs in ${result}`, expiresInMs),
  }
}

/**
 * @param {string} name
 * @param {unknown} value perhaps the difference of two clocks, so not always an integer
 */
function lifetime(name, value) {
  if (typeof value !== 'number') throw wrongType(name, 'a number', value)
  if (value > 0 && value < Infinity) return value
  throw invalid(RangeError, `${name} must be a finite number above 0: the milliseconds that are left`)
}

module.exports = { credentials, exclusiveCredentials }
