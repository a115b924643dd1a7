'use strict'

/** What the functions of this entry point are about: managers and locks of this copy of fencelock. */

const { invalid } = require('../lib/errors.js')
const { targetOf } = require('../lib/identity.js')
const { internalsOf } = require('../lib/lock-manager.js')
const { leaseOf } = require('../lib/lock/lock.js')

/**
 * The insides of a manager.
 * @param {unknown} locks
 */
function managerOf(locks) {
  return internalsOf(instance(locks)) ?? refuse('locks', 'a LockManager')
}

/**
 * The lease of a lock, and what all locks of its manager and strategy share.
 * @param {unknown} lock
 */
function leaseOfLock(lock) {
  return leaseOf(instance(lock)) ?? refuse('lock', 'a lock of acquire, tryAcquire, withLock or elect')
}

/**
 * What a user passes, without a Proxy around it.
 * @param {unknown} value
 */
function instance(value) {
  return typeof value === 'object' && value !== null ? targetOf(value) : {}
}

/**
 * @param {string} name
 * @param {string} expected
 * @returns {never}
 */
function refuse(name, expected) {
  throw invalid(
    TypeError,
    `${name} must be ${expected}, of the same copy of fencelock as fencelock/testing: load both after resetting modules`,
  )
}

module.exports = { leaseOfLock, managerOf }
