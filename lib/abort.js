'use strict'

/**
 * Many calls may wait on one AbortSignal, for example one that lives as long as the process. Each signal gets a single
 * listener for all of them, so that no runtime warns of a leak, and none while nobody waits.
 */

/** The functions to call when a signal aborts. */
const waiting = new WeakMap()

/** Calls `onAbort` when the signal aborts; at most once. Answers a function that calls it off. */
function whenAborted(signal, onAbort) {
  let entry = waiting.get(signal)
  if (entry === undefined) {
    const calls = new Set()
    const listener = () => {
      waiting.delete(signal)
      for (const call of calls) call()
    }
    entry = { calls, listener }
    waiting.set(signal, entry)
    signal.addEventListener('abort', listener, { once: true })
  }
  const { calls, listener } = entry
  calls.add(onAbort)
  return () => {
    calls.delete(onAbort)
    if (calls.size > 0 || waiting.get(signal) !== entry) return
    waiting.delete(signal)
    signal.removeEventListener('abort', listener)
  }
}

/**
 * Settles like `promise`, or rejects with the signal's reason as soon as it aborts; then `cancel` is called, `discard` gets
 * what comes too late, and nobody is told of its errors.
 */
function abortable(promise, signal, cancel, discard) {
  return new Promise((resolve, reject) => {
    const callOff = whenAborted(signal, () => {
      reject(signal.reason)
      cancel()
      promise.then(discard).catch(() => {})
    })
    promise.finally(callOff).then(resolve, reject)
  })
}

module.exports = { abortable }
