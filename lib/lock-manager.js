'use strict'

/** The manager: JavaScript idioms around the addon's calls. */

const { Acquirer } = require('./acquire.js')
const { connecting, isTraced } = require('./channels/channels.js')
const { closing, fromFailure, lostDuring } = require('./errors.js')
const { runHolding } = require('./held-by-caller.js')
const { identify, throughProxies } = require('./identity.js')
const { addManager } = require('./live-managers.js')
const { LockInfo } = require('./lock/lock-info.js')
const { attend, stepDown, wasHandedOver, wasReleased, whyLost } = require('./lock/lock.js')
const { ManagerCalls } = require('./native/call-batch.js')
const { Completed, Failed, attach, submit } = require('./native/completions.js')
const binding = require('./native/load.js')
const { statsOf } = require('./stats.js')
const { STRATEGIES } = require('./strategies.js')
const { warnOfStillHeld } = require('./warnings.js')

/** @import * as Native from '../binding.js' */
/** @import * as Public from '../index.js' */
/** @import { Outcome } from './native/completions.js' */

/** @typedef {string | readonly string[]} Names a resource, or several */
/**
 * @template T
 * @typedef {(lock: Public.Lock) => T | PromiseLike<T>} Routine
 */

/**
 * The object that a completion carries.
 * @param {Outcome} outcome
 */
function detail(outcome) {
  return outcome instanceof Completed ? outcome.detail : undefined
}

/**
 * The options and the routine of a method that runs one.
 * @template Options, T
 * @param {string} method
 * @param {[Routine<T>] | [Options | undefined, Routine<T>]} rest
 */
function parameters(method, rest) {
  const [options, routine] = rest.length === 1 ? [undefined, rest[0]] : rest
  if (typeof routine === 'function') return { options, routine }
  const { wrongType } = require('./options/validate.js')
  const order = `; the order is ${method}(resource, options, fn)`
  throw wrongType(`the argument fn of ${method}`, 'a function', routine, order)
}

/**
 * What `fencelock/testing` needs of a manager.
 * @typedef {object} Internals
 * @property {InstanceType<typeof Acquirer>} acquirer
 * @property {InstanceType<typeof ManagerCalls>} calls
 * @property {typeof import('./options/index.js')} checks
 * @property {import('./strategies.js').StrategyInfo} strategy of calls that name none
 */

/**
 * Access to private members. A static method would be visible to users.
 * @type {(locks: object) => Internals | undefined}
 */
let internalsOf

/** @implements {Public.LockManager} */
class LockManager {
  /** Loaded with the first manager, because it is a large part of what this package is. */
  #checks = require('./options/index.js')
  #settings
  #calls
  #acquirer
  /** @type {Promise<void> | undefined} */
  #closed
  /** @type {AbortController | undefined} */
  #closer
  /**
   * The closer's. Kept itself: Bun 1.2 loses the reason of a signal to which only its controller refers.
   * @type {AbortSignal | undefined}
   */
  #closing

  static {
    internalsOf = (locks) =>
      #acquirer in locks
        ? {
            acquirer: locks.#acquirer,
            calls: locks.#calls,
            checks: locks.#checks,
            strategy: locks.#settings.strategy,
          }
        : undefined
  }

  /** @param {Public.ManagerOptions} [options] */
  constructor(options) {
    identify(this, 'a LockManager cannot be cloned')
    // The configuration has secrets, which the addon alone keeps.
    const { config, credentials: sources, ...settings } = this.#checks.managerSettings(options)
    this.#settings = settings
    const credentials = sources.map(({ name, ask, servers }) => {
      const source = new (require('./credentials.js').Credentials)(name, ask)
      for (const server of servers) server.credentials = source.number
      return source
    })
    const native = binding.openManager(attach(), config)
    if (!(native instanceof binding.NativeManager)) throw fromFailure(native)
    for (const source of credentials) source.connect(native)
    this.#calls = new ManagerCalls(native, credentials)
    addManager(this.#calls)
    this.#acquirer = new Acquirer(this.#calls, settings, this.#checks)
  }

  async connect() {
    for (const strategy of this.#settings.connected) {
      const connect = async () => {
        const outcome = await submit((slot) => this.#calls.direct.connect(slot, strategy.number))
        if (outcome instanceof Failed) throw fromFailure(outcome.failure, strategy.name)
      }
      if (isTraced(connecting)) {
        await require('./channels/leases.js').traceConnect(this.#calls, strategy, connect)
      } else await connect()
    }
  }

  /**
   * @param {Names} resource
   * @param {Public.StrongOptions} [options]
   */
  acquireStrong(resource, options) {
    return this.#acquirer.acquire(STRATEGIES.strong, resource, options, true)
  }

  /**
   * @param {Names} resource
   * @param {Public.TryOptions<Public.StrongOptions>} [options]
   */
  tryAcquireStrong(resource, options) {
    return this.#acquirer.acquire(STRATEGIES.strong, resource, options, false)
  }

  /**
   * @param {Names} resource
   * @param {Public.AcquireOptions} [options]
   */
  acquireQuorum(resource, options) {
    return this.#acquirer.acquire(STRATEGIES.quorum, resource, options, true)
  }

  /**
   * @param {Names} resource
   * @param {Public.TryOptions} [options]
   */
  tryAcquireQuorum(resource, options) {
    return this.#acquirer.acquire(STRATEGIES.quorum, resource, options, false)
  }

  /**
   * @param {Names} resource
   * @param {Public.AcquireOptions} [options]
   */
  acquireLocal(resource, options) {
    return this.#acquirer.acquire(STRATEGIES.local, resource, options, true)
  }

  /**
   * @param {Names} resource
   * @param {Public.TryOptions} [options]
   */
  tryAcquireLocal(resource, options) {
    return this.#acquirer.acquire(STRATEGIES.local, resource, options, false)
  }

  /**
   * @param {Names} resource
   * @param {Public.StrongOptions} [options]
   */
  acquire(resource, options) {
    return this.#acquirer.acquire(this.#settings.strategy, resource, options, true)
  }

  /**
   * @param {Names} resource
   * @param {Public.TryOptions<Public.StrongOptions>} [options]
   */
  tryAcquire(resource, options) {
    return this.#acquirer.acquire(this.#settings.strategy, resource, options, false)
  }

  /**
   * @param {string} ticket
   * @param {Public.AdoptOptions} [options]
   */
  adopt(ticket, options) {
    return this.#acquirer.adopt(ticket, options)
  }

  /**
   * @template T
   * @param {Names} resource
   * @param {[Routine<T>] | [Public.StrongOptions | undefined, Routine<T>]} rest
   */
  async withLock(resource, ...rest) {
    const { options, routine } = parameters('withLock', rest)
    const { strategy } = this.#settings
    const lock = await this.#acquirer.acquire(strategy, resource, options, true, this.#checks.SCOPED)
    attend(lock)
    let result
    try {
      result = await runHolding(this.#calls, lock, routine)
    } catch (error) {
      // Never rejects, so the caller gets the routine's own error.
      await lock[Symbol.asyncDispose]()
      throw error
    }
    // The routine may have ended it itself. An unreachable backend is not a loss: cleanup continues.
    const isLost = !lock.held && !wasReleased(lock) && !wasHandedOver(lock)
    const cause = isLost ? whyLost(lock) : undefined
    const released = await lock.release().catch(() => true)
    if (!isLost && (released || wasHandedOver(lock))) return result
    throw lostDuring(result, strategy.name, lock.resource, cause)
  }

  /**
   * @param {Names} resource
   * @param {[Routine<unknown>] | [Public.ElectOptions | undefined, Routine<unknown>]} rest
   */
  async elect(resource, ...rest) {
    const { options, routine } = parameters('elect', rest)
    const names = this.#checks.resourceNames(resource)
    const campaign = this.#checks.electionOptions(options)
    await require('./election.js').elect({
      signal: campaign.signal,
      closing: this.closing,
      campaign: () => this.#acquirer.acquire(this.#settings.strategy, names, campaign, true),
      lead: (lock) => {
        attend(lock)
        return runHolding(this.#calls, lock, routine)
      },
      stepDown,
      wasHandedOver,
    })
  }

  /**
   * @param {Names} resource
   * @param {Public.TryOptions} [options]
   */
  tryAcquireLocalSync(resource, options) {
    return this.#acquirer.attemptSync(STRATEGIES.local, resource, options)
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
    return LockInfo.of(strategy.name, /** @type {Native.Info} */ (found))
  }

  /** @param {Public.ListOptions} [options] */
  async *list(options) {
    const checked = this.#checks.listOptions(options, this.#settings.strategy)
    yield* require('./listing.js').list(this.#calls.direct, checked)
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
    return statsOf(this.#calls.direct.stats())
  }

  get closing() {
    if (this.#closing === undefined) {
      this.#closer = new AbortController()
      this.#closing = this.#closer.signal
      if (this.#closed !== undefined) this.#closer.abort(closing())
    }
    return this.#closing
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
      for (const source of this.#calls.credentials) source.close()
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

module.exports = { LockManager, internalsOf }
