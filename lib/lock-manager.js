'use strict'

/** The manager: JavaScript idioms around the addon's calls. */

const { closing, fromFailure, held, lost, lostDuring } = require('./errors.js')
const { heldByCaller, noticeSelfWait, runHolding } = require('./held-by-caller.js')
const { identify, throughProxies } = require('./identity.js')
const { LockInfo } = require('./lock-info.js')
const { LocalLock, Lock, LockRegistry, attend, wasReleased, whyLost } = require('./lock.js')
const { ManagerCalls } = require('./native/call-batch.js')
const { Completed, Failed, Grant, Kind, attach, begin, submit } = require('./native/completions.js')
const binding = require('./native/load.js')
const wire = require('./native/wire.js')
const { STRATEGIES } = require('./strategies.js')
const { warnOfStillHeld } = require('./warnings.js')

/** @import * as Native from '../binding.js' */
/** @import * as Public from '../index.js' */
/** @import { Outcome } from './native/completions.js' */
/** @import { AcquireRequest } from './options/acquire.js' */
/** @import { StrategyInfo } from './strategies.js' */

/** @typedef {string | readonly string[]} Names a resource, or several */
/**
 * The handle of a strategy's locks.
 * @template {StrategyInfo} S
 * @typedef {InstanceType<S extends { sync: true } ? typeof LocalLock : typeof Lock>} HandleOf
 */
/**
 * @template T
 * @typedef {(lock: Public.Lock) => T | PromiseLike<T>} Routine
 */

/** A synchronous grant. With a buffer of its own: old Bun gives addons a copy of a small array. */
const numbers = new Float64Array(new ArrayBuffer(wire.grant.stride * Float64Array.BYTES_PER_ELEMENT))

/** @param {Names} names */
function first(names) {
  return typeof names === 'string' ? names : /** @type {string} */ (names[0])
}

/**
 * The object that a completion carries.
 * @param {Outcome} outcome
 */
function detail(outcome) {
  return outcome instanceof Completed ? outcome.detail : undefined
}

/** @implements {Public.LockManager} */
class LockManager {
  /** Loaded with the first manager, because it is a large part of what this package is. */
  #checks = require('./options/index.js')
  #settings
  #calls
  /** @type {Map<StrategyInfo, InstanceType<typeof LockRegistry>>} */
  #registries = new Map()
  /** @type {Promise<void> | undefined} */
  #closed
  /** @type {AbortController | undefined} */
  #closer

  /** @param {Public.ManagerOptions} [options] */
  constructor(options) {
    identify(this, 'a LockManager cannot be cloned')
    // The configuration has secrets, which the addon alone keeps.
    const { config, credentials: ask, ...settings } = this.#checks.managerSettings(options)
    this.#settings = settings
    const credentials = ask && new (require('./credentials.js').Credentials)(ask)
    if (config.redis !== undefined && credentials !== undefined) config.redis.credentials = credentials.number
    const native = binding.openManager(attach(), config)
    if (!(native instanceof binding.NativeManager)) throw fromFailure(native)
    credentials?.connect(native)
    this.#calls = new ManagerCalls(native, credentials)
  }

  async connect() {
    for (const { name, number } of this.#settings.connected) {
      const outcome = await submit((slot) => this.#calls.direct.connect(slot, number))
      if (outcome instanceof Failed) throw fromFailure(outcome.failure, name)
    }
  }

  /**
   * @param {Names} resource
   * @param {Public.StrongOptions} [options]
   */
  acquireStrong(resource, options) {
    return this.#acquire(STRATEGIES.strong, resource, options, true)
  }

  /**
   * @param {Names} resource
   * @param {Public.TryOptions<Public.StrongOptions>} [options]
   */
  tryAcquireStrong(resource, options) {
    return this.#acquire(STRATEGIES.strong, resource, options, false)
  }

  /**
   * @param {Names} resource
   * @param {Public.AcquireOptions} [options]
   */
  acquireQuorum(resource, options) {
    return this.#acquire(STRATEGIES.quorum, resource, options, true)
  }

  /**
   * @param {Names} resource
   * @param {Public.TryOptions} [options]
   */
  tryAcquireQuorum(resource, options) {
    return this.#acquire(STRATEGIES.quorum, resource, options, false)
  }

  /**
   * @param {Names} resource
   * @param {Public.AcquireOptions} [options]
   */
  acquireLocal(resource, options) {
    return this.#acquire(STRATEGIES.local, resource, options, true)
  }

  /**
   * @param {Names} resource
   * @param {Public.TryOptions} [options]
   */
  tryAcquireLocal(resource, options) {
    return this.#acquire(STRATEGIES.local, resource, options, false)
  }

  /**
   * @param {Names} resource
   * @param {Public.StrongOptions} [options]
   */
  acquire(resource, options) {
    return this.#acquire(this.#settings.strategy, resource, options, true)
  }

  /**
   * @param {Names} resource
   * @param {Public.TryOptions<Public.StrongOptions>} [options]
   */
  tryAcquire(resource, options) {
    return this.#acquire(this.#settings.strategy, resource, options, false)
  }

  /**
   * @template T
   * @param {Names} resource
   * @param {[Routine<T>] | [Public.StrongOptions | undefined, Routine<T>]} rest
   */
  async withLock(resource, ...rest) {
    const [options, routine] = rest.length === 1 ? [undefined, rest[0]] : rest
    if (typeof routine !== 'function') {
      const { wrongType } = require('./options/validate.js')
      throw wrongType('the routine of withLock', 'a function', routine)
    }
    const { strategy } = this.#settings
    const lock = await this.#acquire(strategy, resource, options, true, this.#checks.SCOPED)
    attend(lock)
    let result
    try {
      result = await runHolding(this.#calls, lock, routine)
    } catch (error) {
      // Never rejects, so the caller gets the routine's own error.
      await lock[Symbol.asyncDispose]()
      throw error
    }
    // The routine may have released it itself. An unreachable backend is not a loss: cleanup continues.
    const cause = lock.held || wasReleased(lock) ? undefined : whyLost(lock)
    const released = await lock.release().catch(() => true)
    if (cause === undefined && released) return result
    throw lostDuring(result, strategy.name, lock.resource, cause)
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
  async #acquire(strategy, resource, options, insist, builtIn) {
    const names = this.#checks.resourceNames(resource)
    const how = insist ? builtIn : this.#checks.ATTEMPT
    const request = this.#checks.acquireRequest(strategy, options, this.#settings, how)
    const { signal, required, renew, waitMs } = request
    if (signal?.aborted) throw require('./abort.js').abortReason(signal)
    const call = this.#submit(strategy, names, request)
    if (waitMs > 0) noticeSelfWait(call, this.#calls, strategy, names)
    const outcome = await call
    if (outcome instanceof Grant) {
      if (!outcome.isLate) return this.#handle(strategy, names, outcome, required, renew !== false)
      this.#discard(strategy, outcome)
      throw lost(
        strategy.name,
        first(names),
        'the event loop was blocked for longer than the lease lasts, so the grant arrived too late and was ' +
          'released; use a longer ttlMs, or find what blocks the event loop',
      )
    }
    if (outcome instanceof Failed) throw fromFailure(outcome.failure, strategy.name, first(names))
    if (!insist) return /** @type {Insist extends true ? never : null} */ (null)
    const all = typeof names === 'string' ? [names] : names
    const remainingMs = outcome.value < 0 ? undefined : outcome.value
    const own = heldByCaller(this.#calls, strategy, names)
    const heldName = own ?? all[outcome.second] ?? first(names)
    throw held(strategy.name, heldName, all, waitMs, remainingMs, own !== undefined)
  }

  /**
   * Makes the call of an acquire. A failure to do so leaves nothing behind, and neither does an abort.
   * @param {StrategyInfo} strategy
   * @param {Names} names
   * @param {AcquireRequest} request
   */
  #submit(strategy, names, request) {
    const { signal, waitMs } = request
    if (signal === undefined) {
      return submit((slot) => this.#calls.acquire(slot, strategy, names, request, waitMs))
    }
    let slot = 0
    return require('./abort.js').abortable(signal, {
      start: (/** @type {(outcome: Outcome | Promise<never>) => void} */ settle) => {
        begin((given) => {
          slot = given
          this.#calls.acquire(slot, strategy, names, request, waitMs)
        }, settle)
      },
      cancel: () => this.#calls.direct.cancel(slot),
      discard: (late) => this.#discard(strategy, late),
    })
  }

  /**
   * The handle of a grant, or an error and no grant.
   * @template {StrategyInfo} S
   * @param {S} strategy
   * @param {Names} names
   * @param {InstanceType<typeof Grant>} grant
   * @param {number} required
   * @param {boolean} renewed
   */
  #handle(strategy, names, grant, required, renewed) {
    try {
      const Handle = strategy.sync ? LocalLock : Lock
      const handle = new Handle(this.#registry(strategy), names, grant, required)
      if (renewed) this.#calls.hold(grant.lease)
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
      registry = new LockRegistry(this.#calls, strategy)
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
   * @param {Names} resource
   * @param {Public.TryOptions} [options]
   */
  tryAcquireLocalSync(resource, options) {
    const strategy = STRATEGIES.local
    const names = this.#checks.resourceNames(resource)
    const request = this.#checks.acquireRequest(strategy, options, this.#settings, this.#checks.ATTEMPT)
    const { signal, renew } = request
    if (signal?.aborted) throw require('./abort.js').abortReason(signal)
    const granted = this.#calls.acquireSync(strategy, names, request, numbers)
    if (granted === false) return null
    if (granted !== true) throw fromFailure(granted, strategy.name, first(names))
    return this.#handle(strategy, names, new Grant(Kind.granted, numbers, 0), 0, renew !== false)
  }

  /**
   * @param {string} resource
   * @param {{ strategy?: Public.Strategy | undefined }} [options]
   * @returns {Promise<Public.LockInfo | null>}
   */
  async inspect(resource, options) {
    const name = this.#checks.resourceName(resource)
    const strategy = this.#checks.strategyOption(options, this.#settings.strategy)
    const outcome = await submit((slot) => this.#calls.direct.inspect(slot, strategy.number, name))
    if (outcome instanceof Failed) throw fromFailure(outcome.failure, strategy.name, name)
    const found = detail(outcome)
    if (found === undefined) return null
    const { owner, token, remainingMs } = /** @type {Native.Info} */ (found)
    return new LockInfo({ resource: name, strategy: strategy.name, owner, remainingMs }, BigInt(token))
  }

  /**
   * @param {string} resource
   * @param {{ strategy?: Public.Strategy | undefined }} [options]
   */
  async forceRelease(resource, options) {
    const name = this.#checks.resourceName(resource)
    const strategy = this.#checks.strategyOption(options, this.#settings.strategy)
    const outcome = await submit((slot) => this.#calls.direct.forceRelease(slot, strategy.number, name))
    if (outcome instanceof Failed) throw fromFailure(outcome.failure, strategy.name, name)
    return outcome instanceof Completed && outcome.value === 1
  }

  /** @param {{ strategy?: Public.Strategy | undefined }} [options] */
  async describe(options) {
    const strategy = this.#checks.strategyOption(options, this.#settings.strategy)
    const { acks: required, fsync, ttlMs } = this.#settings.defaults
    const acks = strategy.acknowledged ? required : null
    const outcome = await submit((slot) =>
      this.#calls.direct.describe(slot, strategy.number, required, fsync, ttlMs),
    )
    if (outcome instanceof Failed) throw fromFailure(outcome.failure, strategy.name)
    const guarantee = /** @type {Native.Guarantee} */ (detail(outcome))
    return { strategy: strategy.name, acks, ...guarantee }
  }

  stats() {
    return this.#calls.direct.stats()
  }

  get closing() {
    if (this.#closer === undefined) {
      this.#closer = new AbortController()
      if (this.#closed !== undefined) this.#closer.abort(closing())
    }
    return this.#closer.signal
  }

  /** @param {Public.CloseOptions} [options] */
  close(options) {
    let drainMs
    try {
      drainMs = this.#checks.drainTime(options)
    } catch (error) {
      return Promise.reject(error)
    }
    if (this.#closed === undefined) {
      this.#calls.credentials?.close()
      this.#closed = submit((slot) => this.#calls.direct.close(slot, drainMs)).then((outcome) =>
        warnOfStillHeld(/** @type {Native.StillHeld | undefined} */ (detail(outcome))),
      )
      this.#closer?.abort(closing())
    } else {
      this.#calls.direct.shortenDrain(drainMs)
    }
    return this.#closed
  }

  [Symbol.asyncDispose]() {
    return this.close()
  }
}

throughProxies(LockManager)

module.exports = { LockManager }
