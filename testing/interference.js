'use strict'

/**
 * Acquires that fail or take long. The methods of the manager's acquirer are replaced on that one object
 * while there is anything to interfere with, so that no acquire of any other manager does a step more.
 */

const { Acquirer } = require('../lib/acquire.js')
const { whenAborted } = require('../lib/abort.js')
const { fromFailure, held } = require('../lib/errors.js')
const { integer, integerOrInfinity, object, oneOf, wrongType } = require('../lib/options/validate.js')
const { managerOf } = require('./subjects.js')

/** The runtime's own functions, even if tests replace the global ones later. */
const { clearTimeout, setTimeout } = globalThis

/** @import * as Public from '../index.js' */
/** @import { FailOptions, FailureCode } from './index.js' */
/** @import { StrategyInfo } from '../lib/strategies.js' */

/** @typedef {string | readonly string[]} Names */
/**
 * @typedef {object} Failure of the next acquires of a resource
 * @property {string} resource
 * @property {FailureCode | Error} problem
 * @property {number} times it still happens
 */

/** What each code says. */
const MESSAGES = /** @satisfies {Record<Exclude<FailureCode, 'LOCK_HELD'>, string>} */ ({
  INSUFFICIENT_REPLICAS:
    'too few replicas acknowledged the grant, because a test wanted it; nothing was granted',
  OUTCOME_UNKNOWN: 'the connection broke after the request was sent, because a test wanted it',
  LOCK_LOST: 'the grant arrived too late, because a test wanted it, so it was released',
  BACKEND_UNAVAILABLE: 'the backend cannot be reached, because a test wanted it; nothing was granted',
  UNSUPPORTED: 'the backend lacks something, because a test wanted it; nothing was granted',
  CLOSED: 'the lock manager was closed, because a test wanted it',
})
const CODES = /** @type {readonly FailureCode[]} */ (['LOCK_HELD', ...Object.keys(MESSAGES)])
const LONGEST_DELAY = 2 ** 31 - 1

/** What is to happen to the acquires of one manager. */
class Interference {
  /** @type {Set<Failure>} */
  failures = new Set()
  /** @type {Set<{ ms: number }>} */
  delays = new Set()
  #locks
  #acquirer

  /**
   * @param {Public.LockManager} locks
   * @param {InstanceType<typeof Acquirer>} acquirer
   */
  constructor(locks, acquirer) {
    this.#locks = locks
    this.#acquirer = acquirer
  }

  /** Replaces the methods of the acquirer while there is anything to do. */
  update() {
    const own = /** @type {{ acquire?: unknown, attemptSync?: unknown }} */ (this.#acquirer)
    if (this.failures.size + this.delays.size === 0) {
      delete own.acquire
      delete own.attemptSync
    } else {
      own.acquire = this.#acquire
      own.attemptSync = this.#attemptSync
    }
  }

  /**
   * @param {StrategyInfo} strategy
   * @param {Names} resource
   * @param {Public.StrongOptions | undefined} options
   * @param {boolean} insist
   * @param {never} builtIn
   */
  #acquire = async (strategy, resource, options, insist, builtIn) => {
    const error = this.#failure(strategy, resource)
    let ms = 0
    for (const each of this.delays) ms += each.ms
    if (ms > 0) await pause(ms, [options?.signal, this.#locks.closing])
    if (error === undefined || options?.signal?.aborted) {
      return Acquirer.prototype.acquire.call(this.#acquirer, strategy, resource, options, insist, builtIn)
    }
    if (!insist && isHeld(error)) return null
    throw error
  }

  /**
   * @param {StrategyInfo} strategy
   * @param {Names} resource
   * @param {Public.TryOptions} [options]
   */
  #attemptSync = (strategy, resource, options) => {
    const error = this.#failure(strategy, resource)
    if (error === undefined) {
      return Acquirer.prototype.attemptSync.call(this.#acquirer, strategy, resource, options)
    }
    if (isHeld(error)) return null
    throw error
  }

  /**
   * The error of this acquire, if it is to fail. Counts it.
   * @param {StrategyInfo} strategy
   * @param {unknown} resource not checked yet
   */
  #failure(strategy, resource) {
    const names = /** @type {unknown[]} */ (Array.isArray(resource) ? resource : [resource])
    for (const failure of this.failures) {
      if (!names.includes(failure.resource)) continue
      if (--failure.times === 0) {
        this.failures.delete(failure)
        this.update()
      }
      return errorOf(failure, strategy, /** @type {string[]} */ (names))
    }
    return undefined
  }
}

/** @type {WeakMap<object, Interference>} */
const interferences = new WeakMap()

/** @param {Public.LockManager} locks */
function interferenceOf(locks) {
  const { acquirer } = managerOf(locks)
  let found = interferences.get(acquirer)
  if (found === undefined) {
    found = new Interference(locks, acquirer)
    interferences.set(acquirer, found)
  }
  return found
}

/**
 * @param {Public.LockManager} locks
 * @param {string} resource
 * @param {FailureCode | Error} problem
 * @param {FailOptions} [options]
 */
function fail(locks, resource, problem, options) {
  const { times = 1 } = object('options', options, ['times'])
  const interference = interferenceOf(locks)
  const failure = {
    resource: managerOf(locks).checks.resourceName(resource),
    problem: problemOf(problem),
    times: integerOrInfinity('times', times, 1),
  }
  return start(interference, interference.failures, failure)
}

/**
 * @param {Public.LockManager} locks
 * @param {number} ms
 */
function delay(locks, ms) {
  const interference = interferenceOf(locks)
  const entry = { ms: integer('ms', ms, { min: 1, max: LONGEST_DELAY }) }
  return start(interference, interference.delays, entry)
}

/**
 * @template T
 * @param {Interference} interference
 * @param {Set<T>} entries of it
 * @param {T} entry
 */
function start(interference, entries, entry) {
  entries.add(entry)
  interference.update()
  const stop = () => {
    entries.delete(entry)
    interference.update()
  }
  return { stop, [Symbol.dispose]: stop }
}

/** @param {unknown} problem */
function problemOf(problem) {
  if (typeof problem === 'string') return oneOf('problem', problem, CODES)
  // Errors of other realms, too, as those of a test environment.
  if (Object.prototype.toString.call(problem) === '[object Error]') return /** @type {Error} */ (problem)
  throw wrongType('problem', 'an error, or the code of one', problem)
}

/**
 * @param {Failure} failure
 * @param {StrategyInfo} strategy
 * @param {string[]} names
 */
function errorOf({ problem, resource }, { name }, names) {
  if (typeof problem !== 'string') return problem
  if (problem === 'LOCK_HELD') return held(name, resource, names, 0, undefined, false)
  return fromFailure({ code: problem, message: MESSAGES[problem] }, name, resource)
}

/** @param {Error} error */
function isHeld(error) {
  return Reflect.get(error, 'code') === 'LOCK_HELD'
}

/**
 * Until the time is over, or one of these signals aborts.
 * @param {number} ms
 * @param {(AbortSignal | undefined)[]} signals
 * @returns {Promise<void>}
 */
function pause(ms, signals) {
  return new Promise((resolve) => {
    /** @type {(() => void)[]} */
    const undo = []
    const end = () => {
      for (const each of undo) each()
      resolve()
    }
    const timer = setTimeout(end, ms)
    undo.push(() => clearTimeout(timer))
    for (const signal of signals) {
      if (signal?.aborted) return end()
      if (signal) undo.push(whenAborted(signal, end))
    }
  })
}

module.exports = { delay, fail }
