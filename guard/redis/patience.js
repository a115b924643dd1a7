'use strict'

/** How long a guard waits for a client, which may wait for its server for ever. */

const { whenAborted } = require('../../lib/abort.js')
const { elapsed, monotonic } = require('../core/clock.js')

/** @import { ConnectionWatch } from './connection-watch.js' */

/** Timers may fire a little early, and the clock of `monotonic` ticks every 10 ms on some systems. */
const EARLY_MS = 50

/** There is no answer, and the call does not wait for one any more. */
class NoAnswer extends Error {}

/**
 * @typedef {object} Patience
 * @property {number} timeoutMs `Infinity` for no limit
 * @property {AbortSignal | undefined} signal
 */

/**
 * Runs an exchange with a server. Rejects with a {@link NoAnswer} when the time is over, when the signal
 * aborts, or, for a client that drops what it has sent then, when the connection breaks.
 * @template T
 * @param {(isOver: () => boolean) => Promise<T>} exchange must not send anything more once it is over
 * @param {Patience} patience
 * @param {InstanceType<typeof ConnectionWatch> | undefined} dropping the watch of such a client
 * @returns {Promise<T>}
 */
function patiently(exchange, { timeoutMs, signal }, dropping) {
  return new Promise((resolve, reject) => {
    let isOver = false
    /** @type {NodeJS.Timeout | undefined} */
    let timer
    /** What ends the subscriptions. @type {(() => void)[]} */
    const ends = []
    const end = () => {
      isOver = true
      clearTimeout(timer)
      for (const each of ends) each()
    }
    /**
     * @param {string} why
     * @param {unknown} [cause]
     */
    const giveUp = (why, cause) => {
      end()
      reject(new NoAnswer(why, { cause }))
    }
    const onTimeout = () => isOver || giveUp(`none within ${timeoutMs} ms`)
    if (signal !== undefined) {
      ends.push(whenAborted(signal, () => giveUp('its signal aborted', signal.reason)))
    }
    if (dropping !== undefined) ends.push(dropping.onBreak(() => giveUp('the connection was closed')))
    if (timeoutMs !== Infinity) {
      const limit = monotonic() + timeoutMs
      timer = setTimeout(() => {
        const left = limit - monotonic()
        // The timer of a test that turns its clock forward.
        if (left > EARLY_MS) void elapsed(left).then(onTimeout)
        else onTimeout()
      }, timeoutMs)
    }
    exchange(() => isOver)
      .then(resolve, reject)
      .finally(end)
  })
}

module.exports = { NoAnswer, patiently }
