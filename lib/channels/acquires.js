'use strict'

/** Acquires with subscribers. Loaded by the first of them. */

const { AsyncResource } = require('node:async_hooks')
const { performance } = require('node:perf_hooks')
const { acquiring, isTraced, waiting } = require('./channels.js')
const { noteFailure, outcomeOf } = require('./outcomes.js')
const { listen } = require('./observed.js')
const { trace, traceSync } = require('./trace.js')

/** The runtime's own, even if tests replace it later. */
const now = performance.now.bind(performance)

/** @import * as Public from '../../index.js' */
/** @import { AcquireRequest } from '../options/acquire.js' */
/** @import { StrategyInfo } from '../strategies.js' */

/** @typedef {string | readonly string[]} Names */
/** @typedef {InstanceType<typeof import('../native/call-batch.js').ManagerCalls>} ManagerCalls */
/** @typedef {Pick<AcquireRequest, 'ttlMs' | 'waitMs' | 'fair' | 'renew' | 'signal'>} Request */

/** @param {Names} names */
function listOf(names) {
  return typeof names === 'string' ? [names] : names
}

/** The wait of one call, and the asynchronous context of its caller. */
class Wait extends AsyncResource {
  /** @type {number | undefined} */
  #since
  #isOver = false
  #context

  /** @param {Public.WaitContext} context */
  constructor(context) {
    super('FENCELOCK_WAIT')
    this.#context = context
  }

  /** The call has begun to wait. It may have been aborted meanwhile. */
  begin() {
    if (this.#isOver || this.#since !== undefined) return
    this.#since = now()
    const context = this.#context
    this.runInAsyncScope(() => {
      waiting.start.runStores(context, () => waiting.end.publish(context))
    })
  }

  /**
   * The call has ended.
   * @param {string} outcome
   * @param {unknown} error
   * @returns for how many milliseconds it has waited
   */
  end(outcome, error) {
    this.#isOver = true
    if (this.#since === undefined) return 0
    const context = this.#context
    context.waitedMs = now() - this.#since
    noteFailure(context, outcome, error)
    if (context.error !== undefined) waiting.error.publish(context)
    waiting.asyncStart.publish(context)
    waiting.asyncEnd.publish(context)
    return context.waitedMs
  }

  /** For tools that look for what keeps a process alive. */
  hasRef() {
    return false
  }
}

/** What is known of one acquire. */
class Acquire {
  #calls
  #strategy
  #request
  /** @type {Wait | undefined} */
  #wait

  /**
   * @param {ManagerCalls} calls
   * @param {StrategyInfo} strategy
   * @param {Names} names
   * @param {Request} request
   * @param {boolean} adopted
   */
  constructor(calls, strategy, names, request, adopted) {
    this.#calls = calls
    this.#strategy = strategy
    this.#request = request
    const { address, port } = calls.server(strategy)
    /** @type {Public.AcquireContext} */
    this.context = {
      resources: listOf(names),
      strategy: strategy.name,
      ttlMs: request.ttlMs,
      waitMs: request.waitMs,
      fair: request.fair,
      adopted,
      outcome: undefined,
      owner: undefined,
      token: undefined,
      acks: undefined,
      waitedMs: undefined,
      serverAddress: address,
      serverPort: port,
      error: undefined,
    }
  }

  /** To be called when the call begins to wait; undefined if it does not wait. */
  get onWait() {
    const { waitMs, fair } = this.#request
    if (waitMs === 0) return undefined
    const { resources, strategy, serverAddress, serverPort } = this.context
    const wait = new Wait({
      resources,
      strategy,
      waitMs,
      fair,
      outcome: undefined,
      waitedMs: undefined,
      serverAddress,
      serverPort,
      error: undefined,
    })
    this.#wait = wait
    return () => wait.begin()
  }

  /** @param {Public.Lock | null} lock */
  done(lock) {
    const { context } = this
    context.outcome = lock === null ? 'busy' : 'granted'
    this.#ended(context.outcome, undefined)
    if (lock === null) return
    context.owner = lock.owner
    context.token = lock.token
    context.acks = lock.acks
  }

  /** @param {unknown} error */
  failed(error) {
    const outcome = this.#outcomeOf(error)
    this.#ended(outcome, error)
    return outcome
  }

  /** @param {unknown} error */
  #outcomeOf(error) {
    const { signal, waitMs } = this.#request
    if (signal?.aborted && error === require('../abort.js').abortReason(signal)) return 'aborted'
    const outcome = outcomeOf(error)
    if (outcome === 'busy' && waitMs > 0) return 'timeout'
    // What it was granted was over before its caller could have it.
    return outcome === 'lost' && !this.context.adopted ? 'late' : outcome
  }

  /**
   * @param {string} outcome
   * @param {unknown} error
   */
  #ended(outcome, error) {
    const { context } = this
    context.waitedMs = this.#wait?.end(outcome, error) ?? 0
    if (context.serverAddress !== undefined) return
    const { address, port } = this.#calls.server(this.#strategy)
    context.serverAddress = address
    context.serverPort = port
  }
}

/**
 * @template T
 * @template {Public.Lock | null} L
 * @param {Acquire} acquire
 * @param {(onWait: (() => void) | undefined) => Promise<T>} call may throw, too
 * @param {(outcome: T) => L} settle what the caller gets, or throws
 */
function traceAcquire(acquire, call, settle) {
  const { onWait } = acquire
  // Waits are reported from the next call on, which is this one.
  if (onWait !== undefined) listen()
  return trace(acquiring, contextOf(acquire), () => call(onWait), notesOf(acquire, settle))
}

/**
 * @template {Public.Lock | null} L
 * @param {Acquire} acquire
 * @param {() => L} call
 */
function traceAttempt(acquire, call) {
  return traceSync(
    acquiring,
    contextOf(acquire),
    call,
    notesOf(acquire, (lock) => lock),
  )
}

/** @param {Acquire} acquire */
function contextOf({ context }) {
  return /** @type {import('./trace.js').Context} */ (context)
}

/**
 * @template T
 * @template {Public.Lock | null} L
 * @param {Acquire} acquire
 * @param {(outcome: T) => L} settle
 */
function notesOf(acquire, settle) {
  return {
    /** @param {T} outcome */
    done(outcome) {
      const lock = settle(outcome)
      acquire.done(lock)
      return lock
    },
    /** @param {unknown} error */
    failed: (error) => acquire.failed(error),
  }
}

module.exports = { Acquire, isTraced, traceAcquire, traceAttempt }
