'use strict'

/** The option `redis.credentials`, a function, and what it returns. */

const { invalid } = require('../errors.js')
const { CREDENTIALS_KEYS } = require('./keys.js')
const { object, optional, string, wrongType } = require('./validate.js')

const RESULT = 'the result of redis.credentials'

/** @typedef {() => unknown} CredentialsFunction */

/**
 * @param {string} name
 * @param {unknown} value
 */
function credentialsFunction(name, value) {
  if (typeof value === 'function') return /** @type {CredentialsFunction} */ (value)
  throw wrongType(name, 'a function', value, '; credentials that never change are username and password')
}

/** @param {unknown} value what the function returned, after an await */
function credentials(value) {
  if (value === undefined) throw wrongType(RESULT, 'an object', value)
  const { username, password, expiresInMs } = object(RESULT, value, CREDENTIALS_KEYS)
  if (password === undefined) {
    throw invalid(
      TypeError,
      `${RESULT} has no password${username === undefined ? '' : ', which a username needs'}`,
    )
  }
  if (string(`password in ${RESULT}`, password) === '') {
    throw invalid(RangeError, `password in ${RESULT} must not be empty`)
  }
  return {
    username: optional(string, `username in ${RESULT}`, username),
    password: /** @type {string} */ (password),
    expiresInMs: optional(lifetime, `expiresInMs in ${RESULT}`, expiresInMs),
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

module.exports = { credentials, credentialsFunction }
