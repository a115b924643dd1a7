/**
 * Local locks in a file that remembers many resources.
 */
import { join } from 'node:path'

import { LockManager } from '../../../index.js'
import { median } from '../../harness/stats.mjs'

/**
 * @typedef {object} TablePoint
 * @property {number} resources in the table
 * @property {number} asyncPerSecond pairs, 64 at once, each of a random resource
 * @property {number} syncPerSecond pairs, one by one on the calling thread, likewise
 */

const WORKERS = 64
/** Resources that one lease covers while the table is filled: one transaction for all of them. */
const PER_LEASE = 1_000
const FILLERS = 4
const FILL_LIMIT_MS = 40_000

/**
 * @param {string} folder
 * @param {number[]} sizes ascending
 * @param {{ rounds: number, seconds: number }} options
 * @returns {Promise<TablePoint[]>}
 */
export async function measure(folder, sizes, options) {
  const locks = new LockManager({ local: join(folder, 'locks.sqlite') })
  await locks.connect()
  const points = []
  const limit = performance.now() + FILL_LIMIT_MS
  for (const size of sizes) {
    const resources = await fill(locks, size, limit)
    points.push({
      resources,
      asyncPerSecond: await repeat(options, (end) => runAsync(locks, resources, end)),
      syncPerSecond: await repeat(options, (end) => runSync(locks, resources, end)),
    })
  }
  await locks.close({ drainMs: 0 })
  return points
}

/**
 * @param {LockManager} locks
 * @param {number} size
 * @param {number} limit when to stop
 * @returns {Promise<number>} how many resources there are now: on a slow disk fewer than asked for
 */
async function fill(locks, size, limit) {
  let filled = 0
  const worker = async () => {
    while (filled < size && performance.now() < limit) {
      const length = Math.min(PER_LEASE, size - filled)
      const from = filled
      filled += length
      const lease = await locks.acquireLocal(Array.from({ length }, (_, index) => name(from + index)))
      await lease.release()
    }
  }
  await Promise.all(Array.from({ length: FILLERS }, worker))
  return filled
}

/** In the order in which they are made, because a b-tree grows fastest at its end. @param {number} index */
function name(index) {
  return `resource-${String(index).padStart(7, '0')}`
}

/**
 * @param {{ rounds: number, seconds: number }} options
 * @param {(end: number) => number | Promise<number>} run returns the number of pairs done
 * @returns {Promise<number>} pairs per second, the median of the rounds
 */
async function repeat({ rounds, seconds }, run) {
  const rates = []
  for (let round = -1; round < rounds; round++) {
    const begin = performance.now()
    const pairs = await run(begin + seconds * 1000)
    if (round >= 0) rates.push((pairs * 1000) / (performance.now() - begin))
  }
  return median(rates)
}

/**
 * @param {LockManager} locks
 * @param {number} count
 * @param {number} end
 */
async function runAsync(locks, count, end) {
  let pairs = 0
  // A part of the resources for each, so that no worker finds one held.
  const workers = Math.min(WORKERS, count)
  const share = Math.floor(count / workers)
  const work = async (/** @type {number} */ worker) => {
    for (; performance.now() < end; pairs++) {
      const lock = await locks.acquireLocal(name(worker * share + below(share)))
      if (!(await lock.release())) throw new Error('not released')
    }
  }
  await Promise.all(Array.from({ length: workers }, (_, worker) => work(worker)))
  return pairs
}

/**
 * @param {LockManager} locks
 * @param {number} count
 * @param {number} end
 */
function runSync(locks, count, end) {
  let pairs = 0
  for (; performance.now() < end; pairs++) {
    const lock = locks.tryAcquireLocalSync(name(below(count)))
    if (!lock?.releaseSync()) throw new Error('not granted, or not released')
  }
  return pairs
}

/** A random index. @param {number} count */
function below(count) {
  return Math.floor(Math.random() * count)
}
