'use strict'

/** The handles of leases. */

const { fromFailure, lost } = require('./errors.js')
const { Completed, Failed, expect, onEnd, submit } = require('./native/completions.js')

/** @import * as Public from '../index.js' */
/** @typedef {InstanceType<typeof import('./native/call-batch.js').ManagerCalls>} ManagerCalls */
/** @typedef {InstanceType<typeof import('./native/completions.js').Grant>} Grant */
/** @import { StrategyInfo } from './strategies.js' */

const inspectCustom = Symbol.for('nodejs.util.inspect.custom')

/**
 * The locks whose signal was read, by lease, until the lease ends or is released. Strong references: a
 * listener may be all that is left of a lock, and must still be called. A whole program may depend on it, one
 * that is the leader until its signal aborts and awaits nothing else.
 * @type {Map<number, Lock>}
 */
const watched = new Map()

onEnd((lease, message) => {
  const lock = watched.get(lease)
  if (lock === undefined) return
  unwatch(lease)
  abortSignal(lock, message)
})

/** @param {number} lease */
function unwatch(lease) {
  if (watched.delete(lease)) expect(-1)
}

/**
 * The registries with handles in use. A finalization registry that is itself collected does not report its
 * handles.
 * @type {Set<LockRegistry>}
 */
const inUse = new Set()

/**
 * What the locks of one strategy share, and need after their manager was dropped: the calls of the manager,
 * and the registries that notice handles that are dropped without a release.
 */
class LockRegistry {
  #handles = 0
  // One for each kind, so that all it holds for a handle is a number, which costs no object.
  /** @type {FinalizationRegistry<number>} */
  #expiring = new FinalizationRegistry((lease) => this.#dropped(lease, false))
  /** @type {FinalizationRegistry<number>} */
  #renewed = new FinalizationRegistry((lease) => this.#dropped(lease, true))

  /**
   * @param {ManagerCalls} calls
   * @param {StrategyInfo} strategy
   */
  constructor(calls, strategy) {
    this.calls = calls
    this.strategy = strategy
  }

  /**
   * Notices from now on that the handle is dropped. While a lease is renewed, the addon asks the event loop
   * for signs of life.
   * @param {Lock} lock
   * @param {number} lease
   * @param {boolean} renewed
   */
  add(lock, lease, renewed) {
    this.#of(renewed).register(lock, lease, lock)
    if (renewed) expect(1)
    if (this.#handles++ === 0) inUse.add(this)
  }

  /**
   * @param {Lock} lock
   * @param {boolean} renewed
   */
  remove(lock, renewed) {
    if (this.#of(renewed).unregister(lock)) this.#removed(renewed)
  }

  /** @param {boolean} renewed */
  #of(renewed) {
    return renewed ? this.#renewed : this.#expiring
  }

  /** @param {boolean} renewed */
  #removed(renewed) {
    if (renewed) expect(-1)
    if (--this.#handles === 0) inUse.delete(this)
  }

  /**
   * @param {number} lease
   * @param {boolean} renewed
   */
  #dropped(lease, renewed) {
    this.#removed(renewed)
    const resource = this.calls.direct.forget(lease)
    if (resource !== null) warnOfDropped(resource)
  }
}

/** @param {string} resource */
function warnOfDropped(resource) {
  process.emitWarning(
    `a lock on ${JSON.stringify(resource)} was garbage-collected without release(); its lease will expire`,
    {
      type: 'FencelockWarning',
      code: 'FENCELOCK_LOCK_DROPPED',
      detail: 'Keep the lock until its work is done, then release it.',
    },
  )
}

/**
 * @param {number} number
 * @param {number} digits
 */
function hex(number, digits) {
  return number.toString(16).padStart(digits, '0')
}

// Access to private members for this module and the manager. Static methods would be visible to users.
/** @type {(lock: Lock, message: string, cause?: string) => void} */
let abortSignal
/** @type {(lock: Lock) => boolean} */
let wasReleased
/** @type {(lock: Lock) => boolean} */
let releaseNow

/**
 * Memory layout: a process may hold 100,000 locks, and each is to cost less than 600 bytes. So a lock is one
 * flat object of numbers. What all locks of a strategy have in common is in its registry, and objects that
 * few callers ask for (the array of resources, the owner's text, the signal) are made on first use.
 * @implements {Public.Lock}
 */
class Lock {
  #registry
  #names
  #lease
  #renewed
  #token
  #required
  #received
  #ownerHigh
  #ownerMiddle
  #ownerLow
  /** @type {AbortController | undefined} */
  #controller
  /** @type {Promise<boolean> | undefined} */
  #release

  static {
    abortSignal = (lock, message, cause) => lock.#abort(message, cause)
    wasReleased = (lock) => lock.#release !== undefined
    releaseNow = (lock) => lock.#releaseSync()
  }

  /**
   * @param {LockRegistry} registry
   * @param {string | readonly string[]} names a resource, or a frozen array of them
   * @param {Grant} grant
   * @param {number} required acknowledgements
   * @param {boolean} renewed
   */
  constructor(registry, names, grant, required, renewed) {
    this.#registry = registry
    this.#names = names
    this.#lease = grant.lease
    this.#renewed = renewed
    this.#token = grant.token
    this.#required = required
    this.#received = grant.received
    this.#ownerHigh = grant.ownerHigh
    this.#ownerMiddle = grant.ownerMiddle
    this.#ownerLow = grant.ownerLow
    registry.add(this, grant.lease, renewed)
  }

  get resource() {
    return typeof this.#names === 'string' ? this.#names : /** @type {string} */ (this.#names[0])
  }

  get resources() {
    if (typeof this.#names === 'string') this.#names = Object.freeze([this.#names])
    return this.#names
  }

  get strategy() {
    return this.#registry.strategy.name
  }

  get owner() {
    return hex(this.#ownerHigh, 12) + hex(this.#ownerMiddle, 12) + hex(this.#ownerLow, 8)
  }

  get token() {
    return BigInt(this.#token)
  }

  get acks() {
    return this.#received < 0 ? null : { required: this.#required, received: this.#received }
  }

  get held() {
    return this.remainingMs > 0
  }

  get remainingMs() {
    return this.#release === undefined ? this.#registry.calls.direct.remainingMs(this.#lease) : 0
  }

  get signal() {
    return (this.#controller ?? this.#watch()).signal
  }

  #watch() {
    const controller = new AbortController()
    this.#controller = controller
    // After a release the lease has no end to report, whenever the signal is first read.
    if (this.#release !== undefined) return controller
    watched.set(this.#lease, this)
    expect(1)
    const watching = this.#registry.calls.direct.watch(this.#lease)
    if (watching === true) return controller
    unwatch(this.#lease)
    if (watching === false) {
      this.#abort('the lease has ended, or is about to; stop working on what it protects, or fence it')
    } else {
      // The lease is active, but its end would not be reported.
      const { message, cause } = watching
      this.#abort(`the end of the lease cannot be reported: ${message}; stop working, and release it`, cause)
    }
    return controller
  }

  /**
   * @param {string} message
   * @param {string} [cause]
   */
  #abort(message, cause) {
    this.#controller?.abort(
      lost(this.strategy, this.resource, message, cause === undefined ? undefined : new Error(cause)),
    )
  }

  /** @param {number} [ttlMs] */
  async extend(ttlMs) {
    const ttl = require('./options/index.js').extendTtl(ttlMs)
    if (this.#release !== undefined) {
      throw lost(this.strategy, this.resource, 'it was released, so it cannot be extended; acquire it again')
    }
    const { calls, strategy } = this.#registry
    const outcome = await submit((slot) => calls.direct.extend(slot, strategy.number, this.#lease, ttl))
    if (outcome instanceof Failed) throw fromFailure(outcome.failure, this.strategy, this.resource)
  }

  release() {
    if (this.#release === undefined) {
      this.#release = this.#end()
      // A caller that awaits it gets the error. Otherwise it must not crash the process: cleanup continues.
      this.#release.catch(() => {})
    }
    return this.#release
  }

  async #end() {
    this.#unregister()
    const { calls, strategy } = this.#registry
    const outcome = await submit((slot) => calls.release(slot, strategy, this.#lease))
    if (outcome instanceof Failed) throw fromFailure(outcome.failure, this.strategy, this.resource)
    return outcome instanceof Completed && outcome.value === 1
  }

  /** No end of the lease, and no dropped handle, is reported from now on. */
  #unregister() {
    this.#registry.remove(this, this.#renewed)
    unwatch(this.#lease)
  }

  #releaseSync() {
    if (this.#release !== undefined) return false
    this.#unregister()
    const released = this.#registry.calls.direct.releaseSync(this.#lease)
    this.#release = Promise.resolve(released === true)
    if (typeof released === 'boolean') return released
    throw fromFailure(released, this.strategy, this.resource)
  }

  async [Symbol.asyncDispose]() {
    try {
      await this.release()
    } catch {
      // Disposal must not mask what the block threw, and cleanup continues in the background.
    }
  }

  toJSON() {
    return {
      resource: this.resource,
      resources: this.resources,
      strategy: this.strategy,
      owner: this.owner,
      token: String(this.#token),
      acks: this.acks,
      held: this.held,
      remainingMs: this.remainingMs,
    }
  }

  /**
   * @param {number} _depth
   * @param {import('node:util').InspectOptions} options
   * @param {typeof import('node:util').inspect} inspect
   */
  [inspectCustom](_depth, options, inspect) {
    return `${this.constructor.name} ${inspect({ ...this.toJSON(), token: this.token }, options)}`
  }
}

/**
 * A lock that can also be released on the calling thread.
 * @implements {Public.LocalLock}
 */
class LocalLock extends Lock {
  releaseSync() {
    return releaseNow(this)
  }

  [Symbol.dispose]() {
    try {
      this.releaseSync()
    } catch {
      // As with asynchronous disposal; the lease expires.
    }
  }
}

module.exports = { LocalLock, Lock, LockRegistry, wasReleased }
