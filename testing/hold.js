'use strict'

/** Another owner. */

const { Acquirer } = require('../lib/acquire.js')
const { whenAborted } = require('../lib/abort.js')
const { object } = require('../lib/options/validate.js')
const { managerOf } = require('./subjects.js')

/** @import * as Public from '../index.js' */
/** @import { HoldOptions } from './index.js' */

/**
 * @param {Public.LockManager} locks
 * @param {string | readonly string[]} resource
 * @param {HoldOptions} [options]
 */
async function hold(locks, resource, options) {
  const { acquirer, checks, strategy: fallback } = managerOf(locks)
  const { ttlMs, ...rest } = object('options', options, ['strategy', 'ttlMs'])
  const strategy = checks.strategyOption(rest, fallback)
  const how = /** @type {Public.AcquireOptions} */ (
    ttlMs === undefined ? { renew: true } : { ttlMs, renew: false }
  )
  // Whatever `fail` and `delay` do to the manager's own acquires.
  const acquire = Acquirer.prototype.acquire.bind(acquirer)
  const lock = /** @type {Public.Lock} */ (await acquire(strategy, resource, { ...how, waitMs: 0 }, true))
  // The manager does not wait for it when it closes, as it would not for another process. This also keeps the
  // handle: a test may drop it.
  whenAborted(locks.closing, () => void lock.release().catch(() => {}))
  return lock
}

module.exports = { hold }
