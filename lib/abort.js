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
 * @returns {() => void} unsubscribes; never throws
 */
function whenAborted(signal, onAbort) {
  const entry = waiting.get(signal) ?? listen(signal, onAbort)
  const { calls, listener } = entry
  calls.add(onAbort)
  return () => {
    calls.delete(onAbort)
    if (calls.size > 0 || waiting.get(signal) !== entry) return
    waiting.delete(signal)
    try {
      signal.removeEventListener('abort', listener)
    } catch {
      // A signal of the caller's own making. The listener that stays has nothing to call.
    }
  }
}

/**
 * @param {AbortSignal} signal
 * @param {() => void} first a signal of the caller's own making may call its listener at once
 */
function listen(signal, first) {
  const calls = new Set([first])
  const listener = () => {
    waiting.delete(signal)
    for (const call of calls) call()
  }
  const entry = { calls, listener }
  // Only what really listens is kept: this may throw, when little stack is left or if the signal is a fake.
  signal.addEventListener('abort', listener, { once: true })
  waiting.set(signal, entry)
  return entry
}

/**
 * What an aborted call rejects with: the signal's reason, or what the platform uses if the signal is of a
 * kind that has none.
 * @param {AbortSignal} signal
 * @returns {unknown}
 */
function abortReason(signal) {
  const reason = /** @type {unknown} */ (signal.reason)
  return reason === undefined ? new DOMException('This operation was aborted', 'AbortError') : reason
}

/**
 * Starts a call that the signal can cancel: it settles with its outcome, or rejects with the signal's reason
 * as soon as that aborts. Nothing is started before the signal is listened to.
 * @template T
 * @param {AbortSignal} signal
 * @param {object} call
 * @param {(settle: (outcome: T | Promise<never>) => void) => void} call.start
 * @param {() => void} call.cancel is called when the signal aborts; must not throw
 * @param {(late: T | Promise<never>) => void} call.discard gets the outcome after that; must not throw
 * @returns {Promise<T>}
 */
function abortable(signal, { start, cancel, discard }) {
  return new Promise((resolve, reject) => {
    let isStarted = false
    let isAborted = false
    const unsubscribe = whenAborted(signal, () => {
      isAborted = true
      reject(abortReason(signal))
      if (isStarted) cancel()
    })
    if (isAborted) return
    isStarted = true
    try {
      start((outcome) => {
        unsubscribe()
        if (isAborted) discard(outcome)
        else resolve(outcome)
      })
    } catch (error) {
      unsubscribe()
      throw error
    }
  })
}

module.exports = { abortReason, abortable, whenAborted }
