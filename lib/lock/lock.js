'use strict'

/** The handles of leases. */

const { extending, isTraced, releasing } = require('../channels/channels.js')
const { Ending } = require('../ending.js')
const { LockLostError, fromFailure, lost } = require('../errors.js')
const { identify, throughProxies } = require('../identity.js')
const { LockRegistry, droppedEnded } = require('./lock-registry.js')
const { ownerText } = require('./owner.js')
const { Completed, Failed, onEnd, submit } = require('../native/completions.js')

/** @import * as Public from '../../index.js' */
/** @typedef {InstanceType<typeof LockRegistry>} Registry */
/** @typedef {InstanceType<typeof import('../native/completions.js').Grant>} Grant */

/** Why a lease ended of which nothing more is known. */
const ENDED = 'the lease has ended; stop working on what it protects, or fence it'

const inspectCustom = Symbol.for('nodejs.util.inspect.custom')

/**
 * The locks whose end is reported, by lease, until the lease ends or is released: those whose signal was
 * read, and those of `withLock`. Strong references: a listener, or a routine that nothing else refers to, may
 * be all that is left of a lock. A whole program may depend on it, one that is the leader until its signal
 * aborts and awaits nothing else.
 * @type {Map<number, Lock>}
 */
const watched = new Map()

/** @type {Set<number>} those of them that keep the process alive */
const attended = new Set()

/**
 * The tickets of locks that were handed over, or are being handed over.
 * @type {WeakMap<Lock, Promise<string>>}
 */
const tickets = new WeakMap()

/**
 * The locks of `withLock`.
 * @type {WeakSet<Lock>}
 */
const scoped = new WeakSet()

onEnd((lease, message) => {
  const lock = watched.get(lease)
  if (lock === undefined) droppedEnded(lease)
  else endOf(lock, message)
})

// Access to private members for this module and the manager. Static methods would be visible to users.
/** @type {(lock: Lock, message: string) => void} */
let endOf
/** @type {(lock: Lock) => void} */
let attend
/** @type {(lock: Lock) => boolean} */
let wasReleased
/** @param {Lock} lock */
const wasHandedOver = (lock) => tickets.has(lock)
/** @type {(lock: Lock) => InstanceType<typeof LockLostError>} */
let whyLost
/** @type {(lock: Lock, reason: unknown) => void} */
let stepDown
/** @type {(lock: Lock) => boolean} */
let releaseNow
/** @type {(lock: object) => { registry: Registry, lease: number } | undefined} */
let leaseOf

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
  #token
  #required
  #received
  #ownerHigh
  #ownerMiddle
  #ownerLow
  /** @type {InstanceType<typeof Ending> | undefined} */
  #ending
  /** @type {Promise<boolean> | undefined} */
  #release

  static {
    endOf = (lock, message) => lock.#ended(message)
    attend = (lock) => lock.#attend()
    whyLost = (lock) => lock.#whyLost()
    wasReleased = (lock) => lock.#release !== undefined
    stepDown = (lock, reason) => (lock.#ending ?? lock.#watch()).abort(reason)
    releaseNow = (lock) => lock.#releaseSync()
    leaseOf = (lock) => (#lease in lock ? { registry: lock.#registry, lease: lock.#lease } : undefined)
  }

  /**
   * @param {Registry} registry
   * @param {string | readonly string[]} names a resource, or a frozen array of them
   * @param {Grant} grant
   * @param {number} required acknowledgements
   */
  constructor(registry, names, grant, required) {
    identify(this, 'a lock cannot be cloned: use lock.toJSON()')
    this.#registry = registry
    this.#names = names
    this.#lease = grant.lease
    this.#token = grant.token
    this.#required = required
    this.#received = grant.received
    this.#ownerHigh = grant.ownerHigh
    this.#ownerMiddle = grant.ownerMiddle
    this.#ownerLow = grant.ownerLow
    registry.add(this, grant.lease)
  }

  get resource() {
    return typeof this.#names === 'string' ? this.#names : /** @type {string} */ (this.#names[0])
  }

  get resources() {
    return this.#allNames()
  }

  #allNames() {
    if (typeof this.#names === 'string') this.#names = Object.freeze([this.#names])
    return this.#names
  }

  get strategy() {
    return this.#registry.strategy.name
  }

  get owner() {
    return ownerText(this.#ownerHigh, this.#ownerMiddle, this.#ownerLow)
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
    return (this.#ending ?? this.#watch()).signal
  }

  #watch() {
    const ending = new Ending(this)
    this.#ending = ending
    // After a release the lease has no end to report, whenever the signal is first read.
    if (this.#release !== undefined || watched.has(this.#lease)) return ending
    watched.set(this.#lease, this)
    const { direct } = this.#registry.calls
    const watching = direct.watch(this.#lease)
    if (watching === true) return ending
    watched.delete(this.#lease)
    if (watching === false) {
      // What is being handed over is not lost. If it is lost all the same, #handOver aborts.
      if (!tickets.has(this)) this.#abort(direct.leaseEnd(this.#lease) ?? ENDED)
    } else {
      // The lease is active, but its end would not be reported.
      const { message, cause } = watching
      this.#abort(`the end of the lease cannot be reported: ${message}; stop working, and release it`, cause)
    }
    return ending
  }

  /** The lock of a routine: until its lease ends, it is kept, and keeps the process alive. */
  #attend() {
    scoped.add(this)
    if (this.#registry.calls.attend(this.#lease) !== true) return
    attended.add(this.#lease)
    watched.set(this.#lease, this)
  }

  #unwatch() {
    if (watched.delete(this.#lease) && attended.delete(this.#lease)) this.#registry.calls.leave()
  }

  /** @param {string} message */
  #ended(message) {
    this.#unwatch()
    this.#abort(message)
  }

  /** The error that says why the lease has ended; of a signal that aborted, its reason. */
  #whyLost() {
    /** @type {unknown} */
    const reason = this.#ending?.signal.reason
    if (reason instanceof LockLostError) return reason
    const message = this.#registry.calls.direct.leaseEnd(this.#lease) ?? ENDED
    return lost(this.strategy, this.resource, message)
  }

  /**
   * @param {string} message
   * @param {string} [cause]
   */
  #abort(message, cause) {
    this.#ending?.abort(
      lost(this.strategy, this.resource, message, cause === undefined ? undefined : new Error(cause)),
    )
  }

  /** @param {number} [ttlMs] */
  async extend(ttlMs) {
    const ttl = require('../options/index.js').extendTtl(ttlMs)
    const { calls, strategy } = this.#registry
    const extend = () => this.#extend(ttl)
    if (isTraced(extending)) {
      await require('../channels/leases.js').traceExtend(calls, strategy, this.#facts(), ttl, extend)
    } else await extend()
  }

  /** @param {number | undefined} ttl */
  async #extend(ttl) {
    if (this.#release !== undefined) throw this.#over('cannot be extended; acquire it again')
    const { calls, strategy } = this.#registry
    const outcome = await submit((slot) => calls.direct.extend(slot, strategy.number, this.#lease, ttl))
    if (outcome instanceof Failed) throw fromFailure(outcome.failure, this.strategy, this.resource)
    // Its end may have been announced before. After a release no end is reported, so the lock would be kept,
    // and the process alive, for ever.
    if (this.#release === undefined && scoped.has(this) && !attended.has(this.#lease)) this.#attend()
  }

  /** What is published of it. Not by its public getters, which see through proxies. */
  #facts() {
    const owner = ownerText(this.#ownerHigh, this.#ownerMiddle, this.#ownerLow)
    return { lease: this.#lease, resources: this.#allNames(), owner, token: BigInt(this.#token) }
  }

  /**
   * The error for what is done to a lock that its holder has ended.
   * @param {string} why
   */
  #over(why) {
    const ended = tickets.has(this) ? 'handed over' : 'released'
    return lost(this.strategy, this.resource, `it was ${ended}, so it ${why}`)
  }

  handOver() {
    const known = tickets.get(this)
    if (known !== undefined) return known
    if (this.#release !== undefined) return Promise.reject(this.#over('cannot be handed over'))
    const ticket = this.#traced(() => this.#handOver())
    tickets.set(this, ticket)
    return ticket
  }

  async #handOver() {
    const { calls, strategy, prefix } = this.#registry
    const outcome = await submit((slot) => calls.direct.handOver(slot, strategy.number, this.#lease))
    if (outcome instanceof Completed) {
      this.#unregister()
      this.#release ??= Promise.resolve(false)
      const offer = { strategy, names: this.#names, owner: this.owner, ttlMs: outcome.value }
      return require('./hand-over.js').writeTicket(offer, prefix)
    }
    tickets.delete(this)
    // A signal that was first read meanwhile waits for this.
    if (this.#release === undefined && !this.held) this.#abort(calls.direct.leaseEnd(this.#lease) ?? ENDED)
    const { failure } = /** @type {InstanceType<typeof Failed>} */ (outcome)
    throw fromFailure(failure, this.strategy, this.resource)
  }

  /** @returns {Promise<boolean>} */
  release() {
    if (this.#release === undefined) {
      // What is being handed over is released only if that fails.
      this.#release = tickets.get(this)?.then(
        () => false,
        () => this.#traced(() => this.#end()),
      )
      this.#release ??= isTraced(releasing) ? this.#traced(() => this.#end()) : this.#end()
      // A caller that awaits it gets the error. Otherwise it must not crash the process: cleanup continues.
      this.#release.catch(() => {})
    }
    return this.#release
  }

  /**
   * @template {boolean | string} T
   * @param {() => Promise<T>} call that ends the lease
   * @returns {Promise<T>}
   */
  #traced(call) {
    if (!isTraced(releasing)) return call()
    const { calls, strategy } = this.#registry
    return require('../channels/leases.js').traceRelease(calls, strategy, this.#facts(), call)
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
    this.#registry.remove(this)
    this.#unwatch()
  }

  #releaseSync() {
    if (this.#release !== undefined) return false
    if (!isTraced(releasing)) return this.#endSync()
    const { calls, strategy } = this.#registry
    return require('../channels/leases.js').traceReleaseSync(calls, strategy, this.#facts(), () =>
      this.#endSync(),
    )
  }

  #endSync() {
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

throughProxies(Lock)
throughProxies(LocalLock)

module.exports = {
  LocalLock,
  Lock,
  LockRegistry,
  attend,
  leaseOf,
  stepDown,
  wasHandedOver,
  wasReleased,
  whyLost,
}
