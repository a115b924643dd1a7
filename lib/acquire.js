'use strict'

/** Acquires: calls of the addon that become handles, or errors and no grant. */

const { acquiring, isTraced, waiting } = require('./channels/channels.js')
const { listen } = require('./channels/observed.js')
const { fromFailure, held, lost } = require('./errors.js')
const { heldByCaller, noticeSelfWait } = require('./held-by-caller.js')
const { LocalLock, Lock, LockRegistry } = require('./lock/lock.js')
const { Failed, Grant, Kind, begin, submit } = require('./native/completions.js')
const wire = require('./native/wire.js')

/** @import * as Public from '../index.js' */
/** @import { Outcome } from './native/completions.js' */
/** @import { AcquireRequest } from './options/acquire.js' */
/** @import { StrategyInfo } from './strategies.js' */

/** @typedef {string | readonly string[]} Names a resource, or several */
/** @typedef {typeof import('./options/index.js')} Checks */
/**
 * The handle of a strategy's locks.
 * @template {StrategyInfo} S
 * @typedef {InstanceType<S extends { sync: true } ? typeof LocalLock : typeof Lock>} HandleOf
 */

/** A synchronous grant. With a buffer of its own: old Bun gives addons a copy of a small array. */
const numbers = new Float64Array(new ArrayBuffer(wire.grant.stride * Float64Array.BYTES_PER_ELEMENT))

/** @param {Names} names */
function first(names) {
  return typeof names === 'string' ? names : /** @type {string} */ (names[0])
}

/** The acquires of one manager. */
class Acquirer {
  /** @type {Map<StrategyInfo, InstanceType<typeof LockRegistry>>} */
  #registries = new Map()
  #calls
  #settings
  #checks

  /**
   * @param {InstanceType<typeof import('./native/call-batch.js').ManagerCalls>} calls
   * @param {Omit<import('./options/index.js').ManagerSettings, 'config' | 'credentials'>} settings
   * @param {Checks} checks
   */
  constructor(calls, settings, checks) {
    this.#calls = calls
    this.#settings = settings
    this.#checks = checks
    listen()
  }

  /**
   * @template {StrategyInfo} S
   * @template {boolean} Insist
   * @param {S} strategy
   * @param {Names} resource
   * @param {Public.StrongOptions | Public.TryOptions<Public.StrongOptions> | undefined} options
   * @param {Insist} insist whether to wait, and to reject when another owner holds the lock
   * @param {typeof import('./options/index.js').SCOPED} [builtIn] defaults other than those of acquires
   */
  async acquire(strategy, resource, options, insist, builtIn) {
    const names = this.#checks.resourceNames(resource)
    const how = insist ? builtIn : this.#checks.ATTEMPT
    const request = this.#checks.acquireRequest(strategy, options, this.#settings, how)
    if (isTraced(acquiring) || (request.waitMs > 0 && isTraced(waiting))) {
      const { Acquire, traceAcquire } = require('./channels/acquires.js')
      const traced = await traceAcquire(
        new Acquire(this.#calls, strategy, names, request, false),
        (onWait) => this.#start(strategy, names, request, onWait),
        (outcome) => this.#settle(strategy, names, request, insist, outcome),
      )
      return traced
    }
    return this.#settle(strategy, names, request, insist, await this.#start(strategy, names, request))
  }

  /**
   * @param {StrategyInfo} strategy
   * @param {Names} names
   * @param {AcquireRequest} request
   * @param {() => void} [onWait] is called when it begins to wait
   */
  #start(strategy, names, request, onWait) {
    const { signal, waitMs } = request
    const start = (/** @type {number} */ slot) => this.#calls.acquire(slot, strategy, names, request, waitMs)
    const call = this.#submit(strategy, signal, start, onWait)
    if (waitMs > 0) noticeSelfWait(call, this.#calls, strategy, names)
    return call
  }

  /**
   * What the caller gets.
   * @template {StrategyInfo} S
   * @template {boolean} Insist
   * @param {S} strategy
   * @param {Names} names
   * @param {AcquireRequest} request
   * @param {Insist} insist
   * @param {Outcome} outcome
   */
  #settle(strategy, names, request, insist, outcome) {
    if (outcome instanceof Grant) return this.#granted(strategy, names, outcome, request)
    if (outcome instanceof Failed) throw fromFailure(outcome.failure, strategy.name, first(names))
    if (!insist) return /** @type {Insist extends true ? never : null} */ (null)
    const all = typeof names === 'string' ? [names] : names
    const remainingMs = outcome.value < 0 ? undefined : outcome.value
    const own = heldByCaller(this.#calls, strategy, names)
    const heldName = own ?? all[outcome.second] ?? first(names)
    throw held(strategy.name, heldName, all, request.waitMs, remainingMs, own !== undefined)
  }

  /**
   * Takes over the lease that a ticket names.
   * @param {string} ticket
   * @param {Public.AdoptOptions | undefined} options
   */
  async adopt(ticket, options) {
    const offer = require('./lock/hand-over.js').readTicket(ticket, this.#settings.prefix)
    const { strategy, names, owner, ttlMs } = offer
    const request = this.#checks.adoptRequest(strategy, options, this.#settings, ttlMs)
    const start = (/** @type {number} */ slot) => this.#calls.adopt(slot, strategy, names, request, owner)
    const adopt = () => this.#submit(strategy, request.signal, start)
    if (!isTraced(acquiring)) return this.#adopted(strategy, names, request, await adopt())
    const { Acquire, traceAcquire } = require('./channels/acquires.js')
    const lock = await traceAcquire(
      new Acquire(this.#calls, strategy, names, request, true),
      adopt,
      (outcome) => this.#adopted(strategy, names, request, outcome),
    )
    return lock
  }

  /**
   * @param {StrategyInfo} strategy
   * @param {Names} names
   * @param {AcquireRequest} request
   * @param {Outcome} outcome
   */
  #adopted(strategy, names, request, outcome) {
    if (outcome instanceof Grant) return this.#granted(strategy, names, outcome, request)
    const { failure } = /** @type {InstanceType<typeof Failed>} */ (outcome)
    throw fromFailure(failure, strategy.name, first(names))
  }

  /**
   * Makes the call of an acquire. A failure to do so leaves nothing behind, and neither does an abort.
   * @param {StrategyInfo} strategy
   * @param {AbortSignal | undefined} signal
   * @param {(slot: number) => void} start
   * @param {() => void} [onWait] is called when it begins to wait
   */
  #submit(strategy, signal, start, onWait) {
    if (signal === undefined) return submit(start, onWait)
    if (signal.aborted) throw require('./abort.js').abortReason(signal)
    let slot = 0
    const startIn = (/** @type {number} */ given) => {
      slot = given
      start(slot)
    }
    return require('./abort.js').abortable(signal, {
      start: (/** @type {(outcome: Outcome | Promise<never>) => void} */ settle) => {
        begin(startIn, settle, onWait)
      },
      cancel: () => this.#calls.direct.cancel(slot),
      discard: (late) => this.#discard(strategy, late),
    })
  }

  /**
   * The handle of a grant that arrived in time.
   * @template {StrategyInfo} S
   * @param {S} strategy
   * @param {Names} names
   * @param {InstanceType<typeof Grant>} grant
   * @param {AcquireRequest} request
   */
  #granted(strategy, names, grant, request) {
    if (!grant.isLate) return this.#handle(strategy, names, grant, request)
    this.#discard(strategy, grant)
    throw lost(
      strategy.name,
      first(names),
      'the lease had ended when its grant arrived here, most likely because the event loop was blocked for ' +
        'longer than the lease lasts, so it was released; use a longer ttlMs, or find what blocks the event loop',
    )
  }

  /**
   * The handle of a grant, or an error and no grant.
   * @template {StrategyInfo} S
   * @param {S} strategy
   * @param {Names} names
   * @param {InstanceType<typeof Grant>} grant
   * @param {AcquireRequest} request
   */
  #handle(strategy, names, grant, { required, renew, minHoldMs }) {
    try {
      const Handle = strategy.sync ? LocalLock : Lock
      const handle = new Handle(this.#registry(strategy), names, grant, required)
      if (renew !== false || minHoldMs > 0) this.#calls.hold(grant.lease)
      return /** @type {HandleOf<S>} */ (handle)
    } catch (error) {
      this.#discard(strategy, grant)
      throw error
    }
  }

  /** @param {StrategyInfo} strategy */
  #registry(strategy) {
    let registry = this.#registries.get(strategy)
    if (registry === undefined) {
      registry = new LockRegistry(this.#calls, strategy, this.#settings.prefix)
      this.#registries.set(strategy, registry)
    }
    return registry
  }

  /**
   * Releases what was granted to a call that is no longer awaited. Never throws.
   * @param {StrategyInfo} strategy
   * @param {Outcome | Promise<never>} outcome
   */
  #discard(strategy, outcome) {
    // There is no caller to report an error to, and cleanup continues. If even the call cannot be made, the
    // lease expires.
    try {
      if (outcome instanceof Grant) {
        begin(
          (slot) => this.#calls.release(slot, strategy, outcome.lease),
          () => {},
        )
      } else if (outcome instanceof Promise) outcome.catch(() => {})
    } catch {}
  }

  /**
   * One attempt on the calling thread.
   * @template {StrategyInfo} S
   * @param {S} strategy
   * @param {Names} resource
   * @param {Public.TryOptions} [options]
   */
  attemptSync(strategy, resource, options) {
    const names = this.#checks.resourceNames(resource)
    const request = this.#checks.acquireRequest(strategy, options, this.#settings, this.#checks.ATTEMPT)
    if (!isTraced(acquiring)) return this.#attempt(strategy, names, request)
    const { Acquire, traceAttempt } = require('./channels/acquires.js')
    return traceAttempt(new Acquire(this.#calls, strategy, names, request, false), () =>
      this.#attempt(strategy, names, request),
    )
  }

  /**
   * @template {StrategyInfo} S
   * @param {S} strategy
   * @param {Names} names
   * @param {AcquireRequest} request
   */
  #attempt(strategy, names, request) {
    const { signal } = request
    if (signal?.aborted) throw require('./abort.js').abortReason(signal)
    const granted = this.#calls.acquireSync(strategy, names, request, numbers)
    if (granted === false) return null
    if (granted !== true) throw fromFailure(granted, strategy.name, first(names))
    return this.#handle(strategy, names, new Grant(Kind.granted, numbers, 0), request)
  }
}

module.exports = { Acquirer }
