'use strict'

/**
 * What a guard accepts as a lock: any object with a token and the resources that the token is for. A lock of
 * this package also knows whether it is still held. A token from a message does not, and need not: the data
 * decides by the token.
 */

const { LockLostError, StaleTokenError, invalid } = require('../../lib/errors.js')
const { resourceNames } = require('../../lib/options/names.js')
const { kind, propertyOf, wrongType } = require('../../lib/options/validate.js')
const { readOwner } = require('./owner.js')

/** @import { Strategy } from '../../index.js' */
/** @import { FencedLock } from '../fenced-lock.js' */

/** The largest 64-bit integer of every store. */
const MAX_TOKEN = 2n ** 63n - 1n

/**
 * A checked lock.
 * @typedef {object} Lease
 * @property {readonly string[]} names of its resources
 * @property {bigint} token
 * @property {string | undefined} owner its hash, see owner.js
 * @property {FencedLock} lock
 * @property {Strategy | undefined} strategy whatever the lock has, for errors
 */

/**
 * How messages name the lock on these resources.
 * @param {readonly string[]} names
 */
function nameOf(names) {
  const more = names.length > 1 ? ` and ${names.length - 1} more` : ''
  return `${JSON.stringify(names[0])}${more}`
}

/**
 * @param {string} name
 * @param {unknown} value
 */
function readToken(name, value) {
  if (typeof value === 'string' || typeof value === 'number') {
    throw invalid(TypeError, `${name} must be a bigint, got ${kind(value)}: use BigInt(…)`)
  }
  if (typeof value !== 'bigint') throw wrongType(name, 'a bigint', value)
  if (value < 1n || value > MAX_TOKEN) {
    throw invalid(RangeError, `${name} must be from 1n to ${MAX_TOKEN}n (2^63 - 1), got ${value}n`)
  }
  return value
}

/**
 * @param {unknown} value a lock, or `{ resource, token }`, or `{ resources, token }`; `owner` may be missing
 * @returns {Lease}
 */
function readLock(value) {
  if (typeof value !== 'object' || value === null) {
    throw wrongType('lock', 'a lock, or { resource, token }', value)
  }
  // A plain object may have both properties, for example when parsed from a lock's toJSON().
  const names = resourceNames(propertyOf(value, 'resources') ?? propertyOf(value, 'resource'))
  return {
    names: typeof names === 'string' ? [names] : names,
    token: readToken('lock.token', propertyOf(value, 'token')),
    owner: readOwner(value),
    lock: /** @type {FencedLock} */ (value),
    strategy: /** @type {Strategy | undefined} */ (propertyOf(value, 'strategy')),
  }
}

/**
 * @param {Lease} lease
 * @param {string} message
 * @param {unknown} [cause]
 */
function lost({ names, strategy }, message, cause) {
  return new LockLostError(`the lock on ${nameOf(names)} ${message}`, {
    resource: names[0],
    strategy,
    cause,
  })
}

/**
 * Saves the round trip for a lock that knows that it has ended.
 * @param {Lease} lease
 */
function assertHeld(lease) {
  if (lease.lock.held === false) {
    throw lost(
      lease,
      'is no longer held: its lease ended or it was released; nothing was written. Acquire it again',
    )
  }
}

/**
 * For the option `abortOnLoss`: fails if the lock was lost, even though its token may still be the highest.
 * @param {Lease} lease
 */
function assertNotAborted(lease) {
  const { held, signal } = lease.lock
  if (signal?.aborted !== true && held !== false) return
  if (signal?.reason instanceof LockLostError) throw signal.reason
  throw lost(
    lease,
    'was lost before the commit (abortOnLoss): the transaction was rolled back. Acquire it again',
    signal?.reason,
  )
}

/**
 * @param {Pick<Lease, 'token' | 'strategy'>} lease
 * @param {string | undefined} name of the resource
 * @param {bigint} current the token that the data has seen; an equal one was another owner's
 */
function stale({ token, strategy }, name, current) {
  const why =
    current === token
      ? 'the data has seen it from another owner of the lock: after a network split two owners can have one ' +
        'token'
      : `the data has seen ${current}, from a later owner of the lock`
  return new StaleTokenError(
    `the token ${token} for ${JSON.stringify(name)} is stale: ${why}; nothing was written. ` +
      'Stop, acquire the lock again, and read again',
    { resource: name, strategy, token, current },
  )
}

module.exports = { assertHeld, assertNotAborted, nameOf, readLock, readToken, stale }
