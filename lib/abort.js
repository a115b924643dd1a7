'use strict'

/**
 * Many calls may wait on one AbortSignal, for example one that lives as long as the process. All calls that
 * wait on a signal share one listener, so that no runtime warns of a leak; it is removed with the last of
 * them.
 */

/**
 * The functions to call when a signal aborts.
 * @type {WeakMap<AbortSignal, { calls: Set<() => void>, listener: () => void }>}
 */
const waiting = new WeakMap()

/**
 * Calls `onAbort` when the signal aborts; at most once.
 * @param {AbortSignal} signal
 * @param {() => void} onAbort
 * @returns {() => void} unsubscribes
 */
function whenAborted(signal, onAbort) {
  const entry = waiting.get(signal) ?? listen(signal)
  const { calls, listener } = entry
  calls.add(onAbort)
  return () => {
    calls.delete(onAbort)
    if (calls.size > 0 || waiting.get(signal) !== entry) return
    waiting.delete(signal)
    signal.removeEventListener('abort', listener)
  }
}

/** @param {AbortSignal} signal */
function listen(signal) {
  /** @type {Set<() => void>} */
  const calls = new Set()
  const listener = () => {
    waiting.delete(signal)
    for (const call of calls) call()
  }
  const entry = { calls, listener }
  waiting.set(signal, entry)
  signal.addEventListener('abort', listener, { once: true })
  return entry
}

/**
 * Settles like `promise`, or rejects with the signal's reason as soon as it aborts. Then `cancel` is called,
 * and `discard` gets the late result; its errors are ignored.
 * @template T
 * @param {Promise<T>} promise
 * @param {AbortSignal} signal
 * @param {() => void} cancel
 * @param {(late: T) => unknown} discard
 * @returns {Promise<T>}
 */
function abortable(promise, signal, cancel, discard) {
  return new Promise((resolve, reject) => {
    const unsubscribe = whenAborted(signal, () => {
      reject(signal.reason)
      cancel()
      promise.then(discard).catch(() => {})
    })
    promise.finally(unsubscribe).then(resolve, reject)
  })
}

module.exports = { abortable }
