'use strict'

/** The manager: JavaScript idioms around the addon's calls. */

const { abortable } = require('./abort.js')
const binding = require('./native/load.js')
const { Calls } = require('./native/call-batch.js')
const { wrongType } = require('./options/validate.js')
const { fromFailure, held, lost } = require('./errors.js')
const { guarantee } = require('./native/describe.js')
const { Keeper, LocalLock, Lock } = require('./lock.js')
const {
  SCOPED,
  STRATEGIES,
  acquireOptions,
  managerOptions,
  resourceName,
  resources,
  strategyOption,
} = require('./options/index.js')
const { Grant, Kind, attach, submit } = require('./native/completions.js')

/** A synchronous grant. With a buffer of its own: old Bun gives addons a copy of a small array. */
const numbers = new Float64Array(new ArrayBuffer(6 * Float64Array.BYTES_PER_ELEMENT))

function first(names) {
  return typeof names === 'string' ? names : names[0]
}

/** What the addon takes for further resources of one lease. */
function others(names) {
  return typeof names === 'string' ? undefined : names.slice(1)
}

/** The error for a routine that was done when its lock was lost already. */
function lostWith(result, strategy, resource) {
  const error = lost(
    strategy,
    resource,
    'the lock was lost before the routine was done, so somebody else may have been at it at the same time; ' +
      'look at what the routine wrote, or fence it; what it returned is in `result`',
  )
  // Not shown with the error: it may be large, secret, or nothing that JSON can write.
  return Object.defineProperty(error, 'result', { value: result })
}

class LockManager {
  #settings
  #calls
  /** What locks need of their manager. */
  #keeper
  #closing

  constructor(options) {
    this.#settings = managerOptions(options)
    const native = binding.openManager(attach(), this.#settings.config)
    if (native.code !== undefined) throw fromFailure(native)
    this.#calls = new Calls(native)
    this.#keeper = new Keeper(this.#calls)
  }

  async connect() {
    if (this.#settings.config.redis) await this.#connect('strong')
    if (this.#settings.usesLocal) await this.#connect('local')
  }

  async #connect(strategy) {
    const outcome = await submit((slot) => this.#calls.direct.connect(slot, STRATEGIES[strategy]))
    if (outcome.kind === Kind.FAILED) throw fromFailure(outcome.detail, strategy)
  }

  acquireStrong(resource, options) {
    return this.#acquire('strong', resource, options, true)
  }

  tryAcquireStrong(resource, options) {
    return this.#acquire('strong', resource, options, false)
  }

  acquireLocal(resource, options) {
    return this.#acquire('local', resource, options, true)
  }

  tryAcquireLocal(resource, options) {
    return this.#acquire('local', resource, options, false)
  }

  acquire(resource, options) {
    return this.#acquire(this.#settings.strategy, resource, options, true)
  }

  tryAcquire(resource, options) {
    return this.#acquire(this.#settings.strategy, resource, options, false)
  }

  async withLock(resource, ...rest) {
    const [options, routine] = rest.length === 1 ? [undefined, rest[0]] : rest
    if (typeof routine !== 'function') throw wrongType('the routine of withLock', 'a function', routine)
    const { strategy } = this.#settings
    const lock = await this.#acquire(strategy, resource, options, true, SCOPED)
    let result
    try {
      result = await routine(lock)
    } catch (error) {
      // Never rejects, so that the routine's own error is what the caller gets.
      await lock[Symbol.asyncDispose]()
      throw error
    }
    // The routine may have given it back itself. An unreachable backend is no loss: the cleanup goes on by itself.
    const stood = lock.held || Lock.wasReleased(lock)
    const released = await lock.release().catch(() => true)
    if (stood && released) return result
    throw lostWith(result, strategy, lock.resource)
  }

  async #acquire(strategy, resource, options, insist, otherwise) {
    const names = resources(resource)
    const request = acquireOptions(strategy, options, this.#settings, otherwise)
    const { signal, acks, maxHoldMs } = request
    if (signal?.aborted) throw signal.reason
    const waitMs = insist ? request.waitMs : 0
    let slot
    const call = submit((given) => {
      slot = given
      this.#calls.acquire(slot, strategy, names, request, waitMs)
    })
    const outcome = await (signal
      ? abortable(
          call,
          signal,
          () => this.#calls.direct.cancel(slot),
          (late) => this.#discard(strategy, late),
        )
      : call)
    switch (outcome.kind) {
      case Kind.GRANTED:
        return this.#hold(strategy, names, outcome, acks, maxHoldMs > 0)
      case Kind.LATE:
        void this.#discard(strategy, outcome)
        throw lost(
          strategy,
          first(names),
          'the event loop was blocked for longer than the lease lasts, so the grant came too late and was given back; ' +
            'ask for a longer ttlMs, or find what blocks the event loop',
        )
      case Kind.BUSY:
        if (!insist) return null
        throw held(strategy, first(names), waitMs, outcome.value < 0 ? undefined : outcome.value)
      default:
        throw fromFailure(outcome.detail, strategy, first(names))
    }
  }

  #hold(strategy, names, grant, required, renewed) {
    const Handle = strategy === 'local' ? LocalLock : Lock
    return new Handle(this.#keeper, names, grant, required, renewed)
  }

  /** Gives back what was granted to a call that nobody waits for any more. */
  async #discard(strategy, outcome) {
    if (!(outcome instanceof Grant)) return
    // Nobody is there to be told of an error, and the cleanup goes on by itself.
    await submit((slot) => this.#calls.release(slot, strategy, outcome.lease)).catch(() => {})
  }

  tryAcquireLocalSync(resource, options) {
    const names = resources(resource)
    const { ttlMs, signal, minToken, maxHoldMs, maxStallMs } = acquireOptions(
      'local',
      options,
      this.#settings,
    )
    if (signal?.aborted) throw signal.reason
    const granted = this.#calls.direct.acquireSync(
      numbers,
      first(names),
      others(names),
      ttlMs,
      minToken,
      maxHoldMs,
      maxStallMs,
    )
    if (granted === false) return null
    if (granted !== true) throw fromFailure(granted, 'local', first(names))
    return this.#hold('local', names, new Grant(Kind.GRANTED, numbers, 0), 0, maxHoldMs > 0)
  }

  async inspect(resource, options) {
    const name = resourceName(resource)
    const strategy = strategyOption(options, this.#settings.strategy)
    const outcome = await submit((slot) => this.#calls.direct.inspect(slot, STRATEGIES[strategy], name))
    if (outcome.kind === Kind.FAILED) throw fromFailure(outcome.detail, strategy, name)
    if (outcome.kind === Kind.NOTHING) return null
    const { owner, token, remainingMs } = outcome.detail
    const info = {
      resource: name,
      strategy,
      owner,
      token: BigInt(token),
      remainingMs,
    }
    return Object.defineProperty(info, 'toJSON', { value: () => ({ ...info, token: String(token) }) })
  }

  async forceRelease(resource, options) {
    const name = resourceName(resource)
    const strategy = strategyOption(options, this.#settings.strategy)
    const outcome = await submit((slot) => this.#calls.direct.forceRelease(slot, STRATEGIES[strategy], name))
    if (outcome.kind === Kind.FAILED) throw fromFailure(outcome.detail, strategy, name)
    return outcome.value === 1
  }

  async describe(options) {
    const strategy = strategyOption(options, this.#settings.strategy)
    const acks = strategy === 'strong' ? this.#settings.defaults.acks : null
    const outcome = await submit((slot) => this.#calls.direct.describe(slot, STRATEGIES[strategy], acks ?? 0))
    if (outcome.kind === Kind.FAILED) throw fromFailure(outcome.detail, strategy)
    return guarantee(strategy, acks, outcome.detail)
  }

  stats() {
    return this.#calls.direct.stats()
  }

  close() {
    this.#closing ??= submit((slot) => this.#calls.direct.close(slot)).then(() => {})
    return this.#closing
  }

  [Symbol.asyncDispose]() {
    return this.close()
  }
}

module.exports = { LockManager }
