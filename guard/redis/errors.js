'use strict'

/** The errors of a Redis guard. */

const { BackendUnavailableError, OutcomeUnknownError, UnsupportedError } = require('../../lib/errors.js')
const { messageOf } = require('../core/properties.js')
const { nameOf } = require('../core/token.js')

/** @import { Lease } from '../core/token.js' */
/** @import { Meaning } from './clients.js' */

/**
 * What a call was about.
 * @typedef {Pick<Lease, 'names' | 'strategy'> & { isRead?: boolean }} About `isRead`: it never writes
 */

/**
 * For a key of a fence whose value is not a token, or of its owner.
 * @param {string | undefined} key
 * @param {string | undefined} resource
 * @param {About} about
 */
function notAToken(key, resource, { strategy, isRead = false }) {
  return new UnsupportedError(
    `the key ${JSON.stringify(key)} does not hold a token${isRead ? '' : ', so nothing was written'}: ` +
      'something else uses it. Delete it, or give the guard another prefix',
    { resource, strategy },
  )
}

/**
 * For an answer to the last of several attempts: a client that sends a command again by itself does not say
 * whether the earlier ones were executed.
 * @param {unknown} cause what the last attempt was answered
 * @param {About} about
 */
function resent(cause, { names, strategy }) {
  return new OutcomeUnknownError(
    `the guard of ${nameOf(names)}: the connection broke before the answer, and the client may have sent the ` +
      `script again; the last attempt was refused (${messageOf(cause)}), but an earlier one may have written. ` +
      'Read what the data holds now, under a lock that is held',
    { resource: names[0], strategy, cause },
  )
}

/**
 * What to throw for a script that has no result. Errors of the caller's part remain those of the client.
 * @param {Meaning} meaning
 * @param {unknown} error
 * @param {About} about
 */
function failure(meaning, error, about) {
  return about.isRead ? readFailure(meaning, error, about) : writeFailure(meaning, error, about)
}

/**
 * A read can be repeated, whether it was executed or not.
 * @param {Meaning} meaning
 * @param {unknown} error
 * @param {About} about
 */
function readFailure(meaning, error, { names, strategy }) {
  const about = `the fence of ${nameOf(names)} cannot be read`
  const fields = { resource: names[0], strategy, cause: error }
  switch (meaning) {
    case 'unsupported':
      return new UnsupportedError(
        `${about}: that needs EVALSHA, EVAL and GET, which this server or user may not run: ` +
          `${messageOf(error)}. Allow them, or use another server`,
        fields,
      )
    case 'refused':
      return new BackendUnavailableError(
        `${about}: the server refused (${messageOf(error)}). Try again later`,
        fields,
      )
    case 'unsent':
      return new BackendUnavailableError(
        `${about}: there is no connection (${messageOf(error)}). Try again later`,
        fields,
      )
    case 'unknown':
      return new BackendUnavailableError(
        `${about}: there was no answer (${messageOf(error)}). Try again later`,
        fields,
      )
    case 'slots':
    case 'unloaded':
    case 'mistake':
    case 'reply':
      break
  }
  return error
}

/**
 * @param {Meaning} meaning
 * @param {unknown} error
 * @param {About} about
 */
function writeFailure(meaning, error, { names, strategy }) {
  const about = `the guard of ${nameOf(names)}`
  const fields = { resource: names[0], strategy, cause: error }
  switch (meaning) {
    case 'slots':
      return new UnsupportedError(
        `${about}: the keys are not in one slot of the cluster, so nothing was written. Give each key of ` +
          'the data the same hash tag as guard.fenceKey(resource) has; several resources need a common one',
        fields,
      )
    case 'unsupported':
      return new UnsupportedError(
        `${about} needs EVALSHA, EVAL, GET, SET and the commands of the write, which this server or user ` +
          `may not run: ${messageOf(error)}; nothing was written. Allow them, or use another server`,
        fields,
      )
    case 'refused':
    case 'unsent': {
      const what = meaning === 'refused' ? 'the server refused' : 'there is no connection'
      return new BackendUnavailableError(
        `${about}: ${what} (${messageOf(error)}); ` +
          'nothing was written. Retry with the same lock while it is held',
        fields,
      )
    }
    case 'unknown':
      return new OutcomeUnknownError(
        `${about}: there was no answer (${messageOf(error)}); the write may have been done, or may still ` +
          'be. Advance under the same lock and read, or write again with it (an equal token passes)',
        fields,
      )
    case 'unloaded':
    case 'mistake':
    case 'reply':
      break
  }
  return error
}

module.exports = { failure, notAToken, resent }
