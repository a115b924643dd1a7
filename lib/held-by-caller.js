'use strict'

/**
 * Which locks the routines of `withLock` hold that led to the current code, so that a wait for one of them
 * can be explained: it may be a wait for itself.
 */

const { warnOfSelfWait } = require('./warnings.js')

/** The runtime's own functions, even if tests replace the global ones later. */
const { clearTimeout, setTimeout } = globalThis

/** How long a wait may last before it is worth a warning, in milliseconds. */
const SUSPICIOUS_MS = 1_000

/** @import * as Public from '../index.js' */
/** @import { AsyncLocalStorage } from 'node:async_hooks' */
/** @import { StrategyInfo } from './strategies.js' */
/** @typedef {InstanceType<typeof import('./native/call-batch.js').ManagerCalls>} ManagerCalls */

/**
 * A running routine.
 * @typedef {object} Running
 * @property {ManagerCalls | undefined} calls of the lock's manager
 * @property {Public.Lock | undefined} lock both are undefined once the routine has settled: a socket or a
 *   timer that it opened may keep this for as long as the process lives
 * @property {Running | undefined} outer the routine around this one
 */

/**
 * Made by the first `withLock`.
 * @type {AsyncLocalStorage<Running> | undefined}
 */
let storage
let routines = 0

/**
 * The innermost routine from this one on that still runs. Those around it that have settled are skipped for
 * good, or a routine that starts its own successor would keep all its predecessors.
 * @param {Running | undefined} running
 */
function innermost(running) {
  let found = running
  while (found !== undefined && found.lock === undefined) found = found.outer
  return found
}

/**
 * Runs a routine; what it starts is known to hold the lock.
 * @template T
 * @param {ManagerCalls} calls
 * @param {Public.Lock} lock
 * @param {(lock: Public.Lock) => T | PromiseLike<T>} routine
 */
async function runHolding(calls, lock, routine) {
  storage ??= new (require('node:async_hooks').AsyncLocalStorage)()
  const outer = innermost(storage.getStore())
  if (outer !== undefined) outer.outer = innermost(outer.outer)
  /** @type {Running} */
  const running = { calls, lock, outer }
  routines++
  try {
    return await storage.run(running, routine, lock)
  } finally {
    running.calls = undefined
    running.lock = undefined
    // Before Node 24 an enabled storage slows down every promise of the process.
    if (--routines === 0) storage.disable()
  }
}

/**
 * Whether the caller runs in a routine that holds one of these resources.
 * @param {ManagerCalls} calls
 * @param {StrategyInfo} strategy
 * @param {string | readonly string[]} names
 */
function heldByCaller(calls, strategy, names) {
  if (routines === 0) return undefined
  /** @param {string} name */
  const isWanted = (name) => (typeof names === 'string' ? name === names : names.includes(name))
  for (let running = storage?.getStore(); running !== undefined; running = running.outer) {
    const { lock } = running
    if (running.calls !== calls || lock?.strategy !== strategy.name || !lock.held) continue
    const found = lock.resources.find(isWanted)
    if (found !== undefined) return found
  }
  return undefined
}

/**
 * Warns when a call has waited for a while for what its caller holds.
 * @param {Promise<unknown>} call
 * @param {ManagerCalls} calls
 * @param {StrategyInfo} strategy
 * @param {string | readonly string[]} names
 */
function noticeSelfWait(call, calls, strategy, names) {
  if (routines === 0 || heldByCaller(calls, strategy, names) === undefined) return
  const timer = setTimeout(() => {
    // In the context of the call. The lock may have been released meanwhile.
    const resource = heldByCaller(calls, strategy, names)
    if (resource !== undefined) warnOfSelfWait(strategy.name, resource)
  }, SUSPICIOUS_MS)
  timer.unref?.()
  const settled = () => clearTimeout(timer)
  call.then(settled, settled)
}

module.exports = { heldByCaller, noticeSelfWait, runHolding }
