/**
 * Acquires with `acks: 1` and, when `stalls` is set, batches with `acks: 2` that a stopped replica stalls.
 */
import { LockManager } from '../../../index.js'
import { median, summary } from '../../harness/stats.mjs'
import { ACK_TIMEOUT_MS, REPLICAS, TTL_MS } from '../../subjects/conditions.mjs'

/**
 * @typedef {object} StallSample
 * @property {number} p50 of acquires with `acks: 1`, in milliseconds
 * @property {number} p99
 * @property {number} max
 * @property {number} acquires
 * @property {number} batches that stalled
 * @property {number} batchMs the median time that such a batch took
 */

const WORKERS = 8
const batch = Array.from({ length: 64 }, (_, index) => `stalled-${index}`)

/** @type {LockManager} */
let locks

const acquireBoth = (/** @type {string} */ resource) => locks.acquireStrong(resource, { acks: 2 })

/** @param {string} url */
export async function open(url) {
  locks = new LockManager({
    redis: { url, replicas: REPLICAS },
    defaults: { ttlMs: TTL_MS, ackTimeoutMs: ACK_TIMEOUT_MS },
  })
  await locks.connect()
}

/** @param {{ seconds: number, stalls: boolean }} options @returns {Promise<StallSample>} */
export async function run({ seconds, stalls }) {
  const end = performance.now() + seconds * 1000
  /** @type {number[]} */
  const durations = []
  /** @type {number[]} */
  const batches = []

  /** @param {number} worker */
  async function acquireOne(worker) {
    while (performance.now() < end) {
      const begin = performance.now()
      const lock = await locks.acquireStrong(`healthy-${worker}`, { acks: 1 })
      durations.push(performance.now() - begin)
      if (!(await lock.release())) throw new Error('not released')
    }
  }

  async function stall() {
    while (performance.now() < end) {
      const begin = performance.now()
      const outcomes = await Promise.allSettled(batch.map(acquireBoth))
      batches.push(performance.now() - begin)
      const wrong = outcomes.find(
        (outcome) => outcome.status === 'fulfilled' || outcome.reason.code !== 'INSUFFICIENT_REPLICAS',
      )
      if (wrong) throw new Error(`a batch did not stall: ${JSON.stringify(wrong)}`)
    }
  }

  const workers = Array.from({ length: WORKERS }, (_, worker) => acquireOne(worker))
  await Promise.all([...workers, ...(stalls ? [stall()] : [])])
  return {
    ...summary(durations),
    acquires: durations.length,
    batches: batches.length,
    batchMs: median(batches),
  }
}

export async function close() {
  await locks.close({ drainMs: 0 })
}
