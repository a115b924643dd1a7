'use strict'

/** Lists locks: pages of the addon, one after the other, as an iterable of what they contain. */

const { MessageChannel } = require('node:worker_threads')

const { fromFailure } = require('./errors.js')
const { LockInfo } = require('./lock/lock-info.js')
const { Completed, Failed, begin, submit } = require('./native/completions.js')
const binding = require('./native/load.js')

/** @import * as Native from '../binding.js' */
/** @import * as Public from '../index.js' */
/** @import { Outcome } from './native/completions.js' */
/** @import { StrategyInfo } from './strategies.js' */

/**
 * The locks of resources that begin with `prefix`. The addon keeps nothing open for it, so it may be left at
 * any time.
 * @param {Native.NativeManager} native
 * @param {{ strategy: StrategyInfo, prefix: string, signal: AbortSignal | undefined }} options
 * @returns {AsyncGenerator<Public.LockInfo, void, undefined>}
 */
async function* list(native, { strategy, prefix, signal }) {
  const listing = native.list(strategy.number, prefix)
  if (!(listing instanceof binding.NativeListing)) throw fromFailure(listing, strategy.name)
  try {
    for (;;) {
      if (performance.now() - lastTurn > LONGEST_TURN_MS) await nextTurn()
      const outcome = await page(signal, (slot) => native.nextPage(slot, strategy.number, listing))
      if (outcome instanceof Failed) throw fromFailure(outcome.failure, strategy.name)
      const found = outcome instanceof Completed ? outcome.detail : undefined
      if (found === undefined) return
      const { locks } = /** @type {Native.Page} */ (/** @type {unknown} */ (found))
      for (const lock of locks) {
        throwIfAborted(signal)
        yield LockInfo.of(strategy.name, lock)
      }
    }
  } finally {
    listing.end()
  }
}

/** For how long pages may follow each other, of all listings together, before others have their turn. */
const LONGEST_TURN_MS = 5

let lastTurn = 0

/** @type {Promise<void> | undefined} */
let turning

/**
 * Lets the event loop do what else there is: Node calls a threadsafe function up to 1,000 times in a row
 * while there is something to call it for, and a page may be there as soon as it is asked for. By a message,
 * because a test may have replaced all timers.
 */
function nextTurn() {
  turning ??= new Promise((resolve) => {
    const { port1, port2 } = new MessageChannel()
    // `once` of Bun 1.2 needs queues that a test may have replaced, too.
    port1.addEventListener('message', () => {
      port1.close()
      lastTurn = performance.now()
      turning = undefined
      resolve()
    })
    port1.start()
    port2.postMessage(undefined)
  })
  return turning
}

/**
 * The outcome of a call; rejects with the signal's reason as soon as that aborts.
 * @param {AbortSignal | undefined} signal
 * @param {(slot: number) => void} start
 * @returns {Promise<Outcome>}
 */
function page(signal, start) {
  if (signal === undefined) return submit(start)
  throwIfAborted(signal)
  return require('./abort.js').abortable(signal, {
    start: (/** @type {(outcome: Outcome | Promise<never>) => void} */ settle) => {
      begin(start, settle)
    },
    // It is short, and only reads.
    cancel() {},
    discard() {},
  })
}

/** @param {AbortSignal | undefined} signal */
function throwIfAborted(signal) {
  if (signal?.aborted) throw require('./abort.js').abortReason(signal)
}

module.exports = { list }
