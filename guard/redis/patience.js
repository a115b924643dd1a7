'use strict'

/** How long a guard waits for a client, which may wait for its server for ever. */

const { whenAborted } = require('../../lib/abort.js')
const { limitTime } = require('../core/time-limit.js')

/** @import { ConnectionWatch } from './connection-watch.js' */

/** There is no answer, and the call does not wait for one any more. */
class NoAnswer extends Error {
  /**
   * @param {string} message
   * @param {AbortSignal} [aborted] the signal that ended the wait
   */
  constructor(message, aborted) {
    super(message, aborted && { cause: aborted.reason })
    this.isAborted = aborted !== undefined
  }
}

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
    /** What ends the subscriptions. @type {(() => void)[]} */
    const ends = []
    const end = () => {
      isOver = true
      for (const each of ends) each()
    }
    /**
     * @param {string} why
     * @param {AbortSignal} [aborted]
     */
    const giveUp = (why, aborted) => {
      end()
      reject(new NoAnswer(why, aborted))
    }
    if (signal !== undefined) {
      ends.push(whenAborted(signal, () => giveUp('its signal aborted', signal)))
    }
    if (dropping !== undefined) ends.push(dropping.onBreak(() => giveUp('the connection was closed')))
    if (timeoutMs !== Infinity) {
      ends.push(limitTime(timeoutMs, () => giveUp(`none within ${timeoutMs} ms`)))
    }
    exchange(() => isOver)
      .then(resolve, reject)
      .finally(end)
  })
}

module.exports = { NoAnswer, patiently }
