/**
 * A number of pairs a second, and how late timers fire meanwhile.
 */
import { monitorEventLoopDelay } from 'node:perf_hooks'

import { openSubject } from '../../subjects/index.mjs'

/** @typedef {import('../../subjects/index.mjs').Subject} Subject */

/**
 * @typedef {object} DelaySample
 * @property {number} p99 of the delay, in milliseconds
 * @property {number} perSecond pairs done
 */

/** A resource is used again a second later, when its last lease is long released. */
const RESOURCES = 5_000

/** @type {Subject} */
let subject

/**
 * @param {string} id
 * @param {import('../../subjects/index.mjs').Place} place
 */
export async function open(id, place) {
  subject = await openSubject(id, place)
}

/**
 * @param {{ perSecond: number, seconds: number }} options 0 per second: the same timers, and no locks
 * @returns {Promise<DelaySample>}
 */
export async function run({ perSecond, seconds }) {
  const { pair } = subject
  if (!pair) throw new Error('has no asynchronous calls')
  const delay = monitorEventLoopDelay({ resolution: 1 })
  /** @type {Set<Promise<void>>} */
  const flying = new Set()
  let begun = 0
  let done = 0
  /** @type {Error | undefined} */
  let failure
  const begin = performance.now()

  const one = async (/** @type {number} */ number) => {
    try {
      await pair(`bench-${number % RESOURCES}`, number)
      done++
    } catch (error) {
      failure ??= error instanceof Error ? error : new Error(String(error))
    }
  }
  const start = (/** @type {number} */ number) => {
    const running = one(number).finally(() => flying.delete(running))
    flying.add(running)
  }

  delay.enable()
  await new Promise((resolve) => {
    // As requests arrive at a service: a few in each millisecond.
    const timer = setInterval(() => {
      const seen = performance.now() - begin
      for (; begun < (seen / 1000) * perSecond && flying.size < RESOURCES; begun++) start(begun)
      if (seen < seconds * 1000) return
      clearInterval(timer)
      resolve(undefined)
    }, 1)
  })
  delay.disable()
  const p99 = delay.percentile(99) / 1e6
  await Promise.all(flying)
  if (failure) throw failure
  return { p99, perSecond: done / seconds }
}
