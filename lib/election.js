'use strict'

/** Leading: a routine that runs while its lock is held, and again each time the lock is won back. */

const { abortReason, whenAborted } = require('./abort.js')
const { LockError, LockLostError } = require('./errors.js')
const { warnOfCampaign } = require('./warnings.js')

/** The runtime's own functions, even if tests replace the global ones later. */
const { clearTimeout, setTimeout } = globalThis

/** @import * as Public from '../index.js' */

/**
 * What a candidate needs of its manager.
 * @template {Public.Lock} L
 * @typedef {object} Candidate
 * @property {AbortSignal | undefined} signal ends the campaign, and the leadership
 * @property {AbortSignal} closing of the manager
 * @property {() => Promise<L>} campaign waits until it has the lock; rejects when a signal aborts
 * @property {(lock: L) => Promise<unknown>} lead runs the routine
 * @property {(lock: L, reason: unknown) => void} stepDown aborts the signal of a lock that is held
 * @property {(lock: L) => boolean} wasHandedOver whether the routine gave the lock away, which is no loss
 */

/** Pauses after errors, in milliseconds. */
const FIRST_PAUSE = 200
const LONGEST_PAUSE = 10_000
/** After a loss: whatever caused it may need a moment, and the others had no chance to lead yet. */
const PAUSE_AFTER_LOSS = 500

/** How deep the causes of an error are searched. */
const MAX_CAUSES = 8

/**
 * Campaigns and leads until the routine returns or throws, the signal aborts, or the manager is closed.
 * @template {Public.Lock} L
 * @param {Candidate<L>} candidate
 */
async function elect(candidate) {
  const wasClosed = candidate.closing.aborted
  for (;;) {
    const lock = await campaign(candidate, wasClosed)
    if (lock === undefined) return
    const isLost = await lead(candidate, lock)
    if (!isLost || isOver(candidate)) return
    await pause(PAUSE_AFTER_LOSS, candidate)
    if (isOver(candidate)) return
  }
}

/** @param {Pick<Candidate<Public.Lock>, 'signal' | 'closing'>} candidate */
function isOver({ signal, closing }) {
  return closing.aborted || signal?.aborted === true
}

/**
 * Returns the lock when it is won; `undefined` if the election is over before.
 * @template {Public.Lock} L
 * @param {Candidate<L>} candidate
 * @param {boolean} wasClosed
 */
async function campaign(candidate, wasClosed) {
  const { signal, closing } = candidate
  if (signal?.aborted && !wasClosed) return undefined
  /** @type {unknown} */
  let warned
  for (let longest = FIRST_PAUSE; ; longest = Math.min(2 * longest, LONGEST_PAUSE)) {
    try {
      return await candidate.campaign()
    } catch (error) {
      if (signal?.aborted || (closing.aborted && !wasClosed)) return undefined
      if (!isPassing(error)) throw error
      if (warned !== error.code) warnOfCampaign(error.message)
      warned = error.code
    }
    await pause(longest, candidate)
    if (isOver(candidate)) return undefined
  }
}

/**
 * Leads until the routine settles. Returns whether the lock was lost before.
 * @template {Public.Lock} L
 * @param {Candidate<L>} candidate
 * @param {L} lock
 */
async function lead({ signal, closing, lead: run, stepDown, wasHandedOver }, lock) {
  /** @type {unknown} */
  let stopped
  const stop = () => {
    stopped = abortReason(/** @type {AbortSignal} */ (signal))
    stepDown(lock, stopped)
  }
  const unsubscribe = signal && whenAborted(signal, stop)
  if (signal?.aborted) stop()
  try {
    await run(lock)
    return !lock.held && !wasHandedOver(lock)
  } catch (error) {
    const isLost = !lock.held && !wasHandedOver(lock)
    /** @param {unknown} each */
    const isExpected = (each) =>
      (stopped !== undefined && each === stopped) ||
      (closing.aborted && each === abortReason(closing)) ||
      (isLost && isLossOf(lock, each))
    if (!comesFrom(error, isExpected)) throw error
    return isLost
  } finally {
    unsubscribe?.()
    // Never rejects: a lock that cannot be released now is released in the background, or expires.
    await lock[Symbol.asyncDispose]()
  }
}

/**
 * Whether another attempt may succeed.
 * @param {unknown} error
 * @returns {error is Public.LockError}
 */
function isPassing(error) {
  return error instanceof LockError && error.code !== 'UNSUPPORTED' && error.code !== 'CLOSED'
}

/**
 * @param {Public.Lock} lock
 * @param {unknown} error
 */
function isLossOf(lock, error) {
  return (
    error instanceof LockLostError && error.resource === lock.resource && error.strategy === lock.strategy
  )
}

/**
 * Whether an error, or one of its causes, is of this kind. Calls that take a signal reject with its reason,
 * or with an error that has it as its cause.
 * @param {unknown} error
 * @param {(error: unknown) => boolean} isKind
 */
function comesFrom(error, isKind) {
  let each = error
  for (let depth = 0; depth < MAX_CAUSES; depth++) {
    if (isKind(each)) return true
    if (typeof each !== 'object' || each === null) return false
    each = /** @type {{ cause?: unknown }} */ (each).cause
  }
  return false
}

/**
 * Between half of `longest` and all of it, so that candidates do not campaign in step; shorter if the
 * election ends.
 * @param {number} longest in milliseconds
 * @param {Pick<Candidate<Public.Lock>, 'signal' | 'closing'>} candidate
 * @returns {Promise<void>}
 */
function pause(longest, { signal, closing }) {
  return new Promise((resolve) => {
    const end = () => {
      clearTimeout(timer)
      for (const unsubscribe of subscriptions) unsubscribe()
      resolve()
    }
    const timer = setTimeout(end, longest * (0.5 + Math.random() / 2))
    const subscriptions = [signal, closing].flatMap((each) => (each ? [whenAborted(each, end)] : []))
  })
}

module.exports = { elect }
