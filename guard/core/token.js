'use strict'

/**
 * What a guard takes as a lock: anything with a token and the resources it is for. A lock of this package also knows
 * whether it is still held; one that came over the wire does not, and needs not: the token decides.
 */

const { kind, wrongType } = require('../../lib/options/validate.js')
const { LockLostError, StaleTokenError, invalid } = require('../../lib/errors.js')
const { resourceNames } = require('../../lib/options/names.js')

/** What every store's 64-bit integer holds. */
const MAX_TOKEN = 2n ** 63n - 1n

/** How messages name the lock of these resources. */
function nameOf(names) {
  const more = names.length > 1 ? ` and ${names.length - 1} more` : ''
  return `${JSON.stringify(names[0])}${more}`
}

/**
 * @param {unknown} value a lock, or `{ resource, token }`, or `{ resources, token }`
 * @returns {{ names: readonly string[], token: bigint, lock: any }}
 */
function readLock(value) {
  if (typeof value !== 'object' || value === null) {
    throw wrongType('lock', 'a lock, or { resource, token }', value)
  }
  const { resources: several, resource, token } = value
  // A plain object may hold both, for example parsed from a lock's toJSON().
  const names = several === undefined ? resourceNames(resource) : resourceNames(several)
  if (typeof token !== 'bigint') {
    const hint =
      typeof token === 'string' || typeof token === 'number' ? `, got ${kind(token)}: use BigInt(…)` : ''
    if (hint) throw invalid(TypeError, `lock.token must be a bigint${hint}`)
    throw wrongType('lock.token', 'a bigint', token)
  }
  if (token < 1n || token > MAX_TOKEN) {
    throw invalid(RangeError, `lock.token must be from 1n to ${MAX_TOKEN}n (2^63 - 1), got ${token}n`)
  }
  return { names: typeof names === 'string' ? [names] : names, token, lock: value }
}

function lost({ names, lock }, message, cause) {
  return new LockLostError(`the lock on ${nameOf(names)} ${message}`, {
    code: 'LOCK_LOST',
    resource: names[0],
    strategy: lock.strategy,
    cause,
  })
}

/** A lock that knows that it ended needs no trip to the database. */
function assertHeld(lease) {
  if (lease.lock.held === false) {
    throw lost(
      lease,
      'is no longer held: its lease ended or it was released; nothing was written: acquire it anew',
    )
  }
}

/** For those who chose that a lock lost meanwhile undoes the transaction, although its token was still the highest. */
function assertNotAborted(lease) {
  const { held, signal } = lease.lock
  if (signal?.aborted !== true && held !== false) return
  if (signal?.reason instanceof LockLostError) throw signal.reason
  throw lost(
    lease,
    'was lost before the commit (abortOnLoss): the transaction was rolled back',
    signal?.reason,
  )
}

function stale({ token, lock }, name, current) {
  return new StaleTokenError(
    `the token ${token} for ${JSON.stringify(name)} is stale: the data has seen ${current}, so somebody else got the lock later; ` +
      'nothing was written: stop, acquire the lock anew, and read again',
    { code: 'STALE_TOKEN', resource: name, strategy: lock.strategy, token, current },
  )
}

module.exports = { MAX_TOKEN, assertHeld, assertNotAborted, nameOf, readLock, stale }
