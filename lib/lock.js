'use strict'

/** The handles of leases. */

const { fromFailure, lost } = require('./errors.js')
const { STRATEGIES, extendTtl } = require('./options/index.js')
const { Kind, expect, onEnd, submit } = require('./native/completions.js')

const inspectCustom = Symbol.for('nodejs.util.inspect.custom')

/**
 * The locks whose signal was read, by lease, until the lease ends or is released. Not weak: a listener may be all that
 * is left of a lock, and it is to be called. Even a whole program may be: one that is a leader until its
 * signal aborts, and awaits nothing else.
 */
const watched = new Map()

onEnd((lease, message) => {
  const lock = watched.get(lease)
  if (lock === undefined) return
  unwatch(lease)
  Lock.end(lock, message)
})

function unwatch(lease) {
  if (watched.delete(lease)) expect(-1)
}

/** The managers' parts that have handles out. A registry that is itself garbage tells nothing of its handles. */
const keepers = new Set()

/** What locks need of their manager, which may be dropped together with them: its addon's side, and their registry. */
class Keeper {
  #handles = 0
  #registry = new FinalizationRegistry((signed) => {
    const lease = Math.abs(signed)
    this.#less(signed < 0)
    const resource = this.calls.direct.forget(lease)
    if (resource !== null) warnOfDropped(resource)
  })

  /** @param {import('./native/call-batch').Calls} calls */
  constructor(calls) {
    this.calls = calls
  }

  /**
   * From now on the loss of this handle is noticed. While a lease is renewed, the addon asks the event loop for signs of
   * life.
   * @param {number} signed the lease, negative if it is renewed: a number costs the registry no object per lock
   */
  add(lock, signed) {
    this.#registry.register(lock, signed, lock)
    if (signed < 0) expect(1)
    if (this.#handles++ === 0) keepers.add(this)
  }

  remove(lock, signed) {
    if (this.#registry.unregister(lock)) this.#less(signed < 0)
  }

  #less(renewed) {
    if (renewed) expect(-1)
    if (--this.#handles === 0) keepers.delete(this)
  }
}

function warnOfDropped(resource) {
  process.emitWarning(
    `a lock on ${JSON.stringify(resource)} was garbage-collected without release(); its lease runs out by itself`,
    {
      type: 'FencelockWarning',
      code: 'FENCELOCK_LOCK_DROPPED',
      detail: 'Keep the lock until its work is done, then release it.',
    },
  )
}

function hex(number, digits) {
  return number.toString(16).padStart(digits, '0')
}

/** Flat, and with few fields: there may be many of them. */
class Lock {
  #keeper
  #names
  /** Negative while it is renewed. */
  #signed
  #token
  #required
  #received
  /** The owner's digits. */
  #high
  #middle
  #low
  #controller
  #release

  /**
   * @param {Keeper} keeper of its manager
   * @param names a resource, or a frozen array of them
   * @param {import('./native/completions').Grant} grant
   * @param {number} required acknowledgements
   * @param {boolean} renewed
   */
  constructor(keeper, names, grant, required, renewed) {
    this.#keeper = keeper
    this.#names = names
    this.#signed = renewed ? -grant.lease : grant.lease
    this.#token = grant.token
    this.#required = required
    this.#received = grant.received
    this.#high = grant.high
    this.#middle = grant.middle
    this.#low = grant.low
    keeper.add(this, this.#signed)
  }

  get #lease() {
    return Math.abs(this.#signed)
  }

  get resource() {
    return typeof this.#names === 'string' ? this.#names : this.#names[0]
  }

  get resources() {
    if (typeof this.#names === 'string') this.#names = Object.freeze([this.#names])
    return this.#names
  }

  get strategy() {
    return 'strong'
  }

  get owner() {
    // A text that few ask for, so that it is made when they do.
    return hex(this.#high, 12) + hex(this.#middle, 12) + hex(this.#low, 8)
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
    return this.#release === undefined ? this.#keeper.calls.direct.remainingMs(this.#lease) : 0
  }

  get signal() {
    if (this.#controller === undefined) this.#watch()
    return this.#controller.signal
  }

  #watch() {
    this.#controller = new AbortController()
    // The end of a lease that was given back is nobody's loss, whenever the signal is read.
    if (this.#release !== undefined) return
    watched.set(this.#lease, this)
    expect(1)
    const watching = this.#keeper.calls.direct.watch(this.#lease)
    if (watching === true) return
    unwatch(this.#lease)
    if (watching !== false) {
      // The lease stands, but nobody would tell of its end.
      const { message, cause } = watching
      Lock.end(this, `the end of the lease cannot be told: ${message}; stop working, and release it`, cause)
      return
    }
    Lock.end(this, 'the lease has ended, or is about to; stop working on what it protects, or fence it')
  }

  /** Aborts the signal of a lock whose lease ends. */
  static end(lock, message, cause) {
    lock.#controller.abort(
      lost(lock.strategy, lock.resource, message, cause === undefined ? undefined : new Error(cause)),
    )
  }

  async extend(ttlMs) {
    const ttl = extendTtl(ttlMs)
    if (this.#release !== undefined) {
      throw lost(this.strategy, this.resource, 'it was released, so it cannot be extended; acquire it anew')
    }
    const outcome = await submit((slot) => {
      this.#keeper.calls.direct.extend(slot, STRATEGIES[this.strategy], this.#lease, ttl)
    })
    if (outcome.kind === Kind.FAILED) throw fromFailure(outcome.detail, this.strategy, this.resource)
  }

  release() {
    if (this.#release === undefined) {
      this.#release = this.#end()
      // Whoever awaits it sees the error. Whoever does not needs no crash: the cleanup goes on by itself.
      this.#release.catch(() => {})
    }
    return this.#release
  }

  async #end() {
    this.#letGo()
    const outcome = await submit((slot) => {
      this.#keeper.calls.release(slot, this.strategy, this.#lease)
    })
    if (outcome.kind === Kind.FAILED) throw fromFailure(outcome.detail, this.strategy, this.resource)
    return outcome.value === 1
  }

  /** From now on nobody has to be told of anything. */
  #letGo() {
    this.#keeper.remove(this, this.#signed)
    unwatch(this.#lease)
  }

  /** @internal Whether a release was asked for. */
  static wasReleased(lock) {
    return lock.#release !== undefined
  }

  /** @internal The synchronous release, for local locks. */
  static releaseSync(lock) {
    if (lock.#release !== undefined) return false
    lock.#letGo()
    const released = lock.#keeper.calls.direct.releaseSync(lock.#lease)
    if (typeof released === 'boolean') {
      lock.#release = Promise.resolve(released)
      return released
    }
    lock.#release = Promise.resolve(false)
    throw fromFailure(released, lock.strategy, lock.resource)
  }

  async [Symbol.asyncDispose]() {
    try {
      await this.release()
    } catch {
      // A disposal must not mask what the block threw, and the cleanup goes on in the background.
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

  [inspectCustom](_depth, options, inspect) {
    return `${this.constructor.name} ${inspect({ ...this.toJSON(), token: this.token }, options)}`
  }
}

class LocalLock extends Lock {
  get strategy() {
    return 'local'
  }

  releaseSync() {
    return Lock.releaseSync(this)
  }

  [Symbol.dispose]() {
    try {
      this.releaseSync()
    } catch {
      // As with the asynchronous disposal; the lease runs out.
    }
  }
}

module.exports = { Keeper, LocalLock, Lock }
