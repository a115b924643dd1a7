'use strict'

/** The manager: JavaScript idioms around the addon's calls. */

const { abortable } = require('./abort.js')
const binding = require('./binding.js')
const { wrongType } = require('./check.js')
const { fromFailure, held, lost } = require('./errors.js')
const { guarantee } = require('./guarantee.js')
const { Keeper, LocalLock, Lock } = require('./lock.js')
const {
  SCOPED,
  STRATEGIES,
  acquireOptions,
  managerOptions,
  resourceName,
  resources,
  strategyOption,
} = require('./options.js')
const { Kind, attach, submit } = require('./settle.js')

/** Lease and token of a synchronous grant. With a buffer of its own: old Bun gives addons a copy of a small array. */
const numbers = new Float64Array(new ArrayBuffer(2 * Float64Array.BYTES_PER_ELEMENT))

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
  #native
  /** What locks need of their manager. */
  #keeper
  #closing

  constructor(options) {
    this.#settings = managerOptions(options)
    const native = binding.openManager(attach(), this.#settings.config)
    if (native.code !== undefined) throw fromFailure(native)
    this.#native = native
    this.#keeper = new Keeper(native)
  }

  async connect() {
    if (this.#settings.config.redis) await this.#connect('strong')
    if (this.#settings.usesLocal) await this.#connect('local')
  }

  async #connect(strategy) {
    const outcome = await submit((slot) => this.#native.connect(slot, STRATEGIES[strategy]))
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
    const { ttlMs, signal, minToken, acks, ackTimeoutMs, fair, maxHoldMs, maxStallMs } = request
    if (signal?.aborted) throw signal.reason
    const waitMs = insist ? request.waitMs : 0
    let slot
    const call = submit((given) => {
      slot = given
      this.#native.acquire(
        slot,
        STRATEGIES[strategy],
        first(names),
        others(names),
        ttlMs,
        minToken,
        acks,
        ackTimeoutMs,
        waitMs,
        fair,
        maxHoldMs,
        maxStallMs,
      )
    })
    const outcome = await (signal
      ? abortable(
          call,
          signal,
          () => this.#native.cancel(slot),
          (late) => this.#discard(strategy, late),
        )
      : call)
    switch (outcome.kind) {
      case Kind.GRANTED: {
        const { a: lease, b: token, c: received, detail: owner } = outcome
        return this.#hold(strategy, names, {
          lease,
          token,
          owner,
          required: acks,
          received,
          renewed: maxHoldMs > 0,
        })
      }
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
        throw held(strategy, first(names), waitMs, outcome.a < 0 ? undefined : outcome.a)
      default:
        throw fromFailure(outcome.detail, strategy, first(names))
    }
  }

  #hold(strategy, names, grant) {
    const Handle = strategy === 'local' ? LocalLock : Lock
    return new Handle(this.#keeper, strategy, names, grant)
  }

  /** Gives back what was granted to a call that nobody waits for any more. */
  async #discard(strategy, { kind, a: lease }) {
    if (kind === Kind.GRANTED || kind === Kind.LATE)
      await submit((slot) => this.#native.release(slot, STRATEGIES[strategy], lease))
  }

  tryAcquireLocalSync(resource, options) {
    const names = resources(resource)
    const { ttlMs, signal, minToken, maxHoldMs, maxStallMs } = acquireOptions(
      'local',
      options,
      this.#settings,
    )
    if (signal?.aborted) throw signal.reason
    const owner = this.#native.acquireSync(
      numbers,
      first(names),
      others(names),
      ttlMs,
      minToken,
      maxHoldMs,
      maxStallMs,
    )
    if (owner === null) return null
    if (typeof owner !== 'string') throw fromFailure(owner, 'local', first(names))
    const [lease, token] = numbers
    const renewed = maxHoldMs > 0
    return this.#hold('local', names, { lease, token, owner, required: 0, received: -1, renewed })
  }

  async inspect(resource, options) {
    const name = resourceName(resource)
    const strategy = strategyOption(options, this.#settings.strategy)
    const outcome = await submit((slot) => this.#native.inspect(slot, STRATEGIES[strategy], name))
    if (outcome.kind === Kind.FAILED) throw fromFailure(outcome.detail, strategy, name)
    if (outcome.detail === undefined) return null
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
    const outcome = await submit((slot) => this.#native.forceRelease(slot, STRATEGIES[strategy], name))
    if (outcome.kind === Kind.FAILED) throw fromFailure(outcome.detail, strategy, name)
    return outcome.a === 1
  }

  async describe(options) {
    const strategy = strategyOption(options, this.#settings.strategy)
    const acks = strategy === 'strong' ? this.#settings.defaults.acks : null
    const outcome = await submit((slot) => this.#native.describe(slot, STRATEGIES[strategy], acks ?? 0))
    if (outcome.kind === Kind.FAILED) throw fromFailure(outcome.detail, strategy)
    return guarantee(strategy, acks, outcome.detail)
  }

  stats() {
    return this.#native.stats()
  }

  close() {
    this.#closing ??= submit((slot) => this.#native.close(slot)).then(() => {})
    return this.#closing
  }

  [Symbol.asyncDispose]() {
    return this.close()
  }
}

module.exports = { LockManager }
