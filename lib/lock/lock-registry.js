'use strict'

/** What the locks of one strategy share, and what becomes of a lease whose handle was dropped. */

const { warnOfDropped, warnOfKept } = require('../warnings.js')

/** @import { Lock } from '../../index.js' */
/** @typedef {InstanceType<typeof import('../native/call-batch.js').ManagerCalls>} ManagerCalls */
/** @import { StrategyInfo } from '../strategies.js' */

/**
 * The registries with leases in use. A finalization registry that is itself collected does not report its
 * handles, and a manager that is collected ends its leases. This set is collected with this copy of the
 * library.
 * @type {Set<LockRegistry>}
 */
const inUse = new Set()

/**
 * The registries of renewed leases whose handles were dropped, by lease, until it ends.
 * @type {Map<number, LockRegistry>}
 */
const dropped = new Map()

/**
 * The end of a lease was reported that has no handle any more.
 * @param {number} lease
 */
function droppedEnded(lease) {
  const registry = dropped.get(lease)
  if (registry === undefined) return
  dropped.delete(lease)
  registry.forget(lease)
}

/**
 * What the locks of one strategy share, and need after their manager was dropped: the calls of the manager,
 * and the registries that notice handles that are dropped without a release.
 */
class LockRegistry {
  #leases = 0
  // All it holds for a handle is a number, which costs no object.
  /** @type {FinalizationRegistry<number>} */
  #finalization = new FinalizationRegistry((lease) => this.#dropped(lease))

  /**
   * @param {ManagerCalls} calls
   * @param {StrategyInfo} strategy
   * @param {string} prefix of the manager
   */
  constructor(calls, strategy, prefix) {
    this.calls = calls
    this.strategy = strategy
    this.prefix = prefix
  }

  /**
   * Notices from now on that the handle is dropped.
   * @param {Lock} lock
   * @param {number} lease
   */
  add(lock, lease) {
    this.#finalization.register(lock, lease, lock)
    if (this.#leases++ === 0) inUse.add(this)
  }

  /** @param {Lock} lock */
  remove(lock) {
    if (this.#finalization.unregister(lock)) this.#removed()
  }

  /**
   * A lease without a handle has ended, or expires.
   * @param {number} lease
   */
  forget(lease) {
    this.#removed()
    return this.calls.direct.forget(lease)
  }

  #removed() {
    if (--this.#leases === 0) inUse.delete(this)
  }

  /** @param {number} lease */
  #dropped(lease) {
    const kept = this.calls.direct.keepDropped(lease)
    if (kept !== null) {
      // Until the lease ends, this keeps its manager.
      dropped.set(lease, this)
      warnOfKept(kept)
      return
    }
    const resource = this.forget(lease)
    if (resource !== null) warnOfDropped(resource)
  }
}

module.exports = { LockRegistry, droppedEnded }
