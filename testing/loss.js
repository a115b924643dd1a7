'use strict'

/** Leases that end before their time. */

const { fromFailure } = require('../lib/errors.js')
const { Completed, Failed, submit } = require('../lib/native/completions.js')
const { string } = require('../lib/options/validate.js')
const { leaseOfLock, managerOf } = require('./subjects.js')

/** @import * as Public from '../index.js' */
/** @import { Outcome } from '../lib/native/completions.js' */

/**
 * @param {Public.Lock} lock
 * @param {string} [reason]
 */
async function lose(lock, reason = 'a test took it away') {
  const { registry, lease } = leaseOfLock(lock)
  const { calls, strategy } = registry
  const why = string('reason', reason)
  const outcome = await submit((slot) => calls.direct.lose(slot, strategy.number, lease, why))
  return flag(outcome, strategy.name, lock.resource)
}

/**
 * @param {Public.LockManager} locks
 * @param {string} resource
 * @param {{ strategy?: Public.Strategy | undefined }} [options]
 */
async function expire(locks, resource, options) {
  const { calls, checks, strategy: fallback } = managerOf(locks)
  const name = checks.resourceName(resource)
  const strategy = checks.strategyOption(options, fallback)
  const outcome = await submit((slot) => calls.direct.expire(slot, strategy.number, name))
  return flag(outcome, strategy.name, name)
}

/**
 * @param {Outcome} outcome
 * @param {Public.Strategy} strategy
 * @param {string} resource
 */
function flag(outcome, strategy, resource) {
  if (outcome instanceof Failed) throw fromFailure(outcome.failure, strategy, resource)
  return outcome instanceof Completed && outcome.value === 1
}

module.exports = { expire, lose }
