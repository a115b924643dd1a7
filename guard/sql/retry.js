'use strict'

/** Retries of transactions that conflicted with another one. */

const { monotonic, pause } = require('../core/clock.js')

/** Of the transactions that contend for a row, each round lets one through. The pauses spread the rest. */
const MAX_RETRIES = 30
const MAX_PAUSE_MS = 100

/**
 * Repeats `work` while it fails with a transient error, with growing random pauses.
 * @template T
 * @param {() => T | Promise<T>} work
 * @param {(error: unknown) => boolean} isTransient
 * @param {number} [patienceMs] no retry starts later than that
 */
async function retry(work, isTransient, patienceMs = Infinity) {
  const limit = monotonic() + patienceMs
  for (let retries = 0; ; retries++) {
    try {
      return await work()
    } catch (error) {
      if (retries === MAX_RETRIES || monotonic() > limit || !isTransient(error)) throw error
    }
    await pause(Math.random() * Math.min(2 ** retries, MAX_PAUSE_MS))
  }
}

module.exports = { retry }
