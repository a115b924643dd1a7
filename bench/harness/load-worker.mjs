/**
 * Puts load on one subject: pairs of acquire and release, a number of them at once, for some seconds.
 *
 * Hand-written because benchmark libraries time one function after the other, and a lock's throughput is
 * about many calls in flight, of subjects that take turns.
 */

import { openSubject } from '../subjects/index.mjs'
import { quantile } from './stats.mjs'

/** @typedef {import('../subjects/index.mjs').Subject} Subject */
/** @typedef {import('../subjects/index.mjs').Place} Place */

/**
 * @typedef {object} Load
 * @property {number} atOnce workers, each with a resource of its own, each starting again as soon as it is
 *   done
 * @property {number} seconds
 * @property {boolean} [sync] on the calling thread, if the subject has both kinds of calls
 */

/**
 * @typedef {object} Sample
 * @property {number} perSecond pairs
 * @property {number} p50 of a pair, in milliseconds
 * @property {number} p99
 * @property {number} pairs
 * @property {number} refused pairs that failed; the other numbers exclude them
 * @property {string} [error] the first failure
 */

/** How many resources a synchronous loop goes through. */
const SYNC_RESOURCES = 64

/** @type {Subject} */
let subject

/**
 * @param {string} id
 * @param {Place} place
 */
export async function open(id, place) {
  subject = await openSubject(id, place)
}

/** @param {Load} work @returns {Promise<Sample>} */
export async function load(work) {
  return (await putLoad(subject, work)).sample()
}

/** @param {Subject} subject @param {Load} load @returns {Promise<Tally>} */
export async function putLoad({ pair, pairSync }, { atOnce, seconds, sync = false }) {
  const tally = new Tally(seconds)
  if (pairSync && (sync || !pair)) {
    runSync(pairSync, tally)
  } else if (pair && !sync) {
    await Promise.all(Array.from({ length: atOnce }, (_, worker) => runWorker(pair, worker, tally)))
  } else {
    throw new Error('has no synchronous calls')
  }
  tally.seconds = (performance.now() - tally.begin) / 1000
  return tally
}

/**
 * @param {NonNullable<Subject['pair']>} pair
 * @param {number} worker
 * @param {Tally} tally
 */
async function runWorker(pair, worker, tally) {
  const resource = `bench-${worker}`
  for (let begin = performance.now(); begin < tally.end; begin = performance.now()) {
    try {
      await pair(resource, worker)
      tally.durations.push(performance.now() - begin)
    } catch (error) {
      tally.refuse(error)
      // What failed may need the event loop to recover.
      await new Promise((resolve) => setTimeout(resolve, 1))
    }
  }
}

/**
 * @param {NonNullable<Subject['pairSync']>} pairSync
 * @param {Tally} tally
 */
function runSync(pairSync, tally) {
  const resources = Array.from({ length: SYNC_RESOURCES }, (_, index) => `bench-${index}`)
  let next = 0
  for (let begin = performance.now(); begin < tally.end; begin = performance.now()) {
    try {
      pairSync(resources[next++ % SYNC_RESOURCES] ?? '')
      tally.durations.push(performance.now() - begin)
    } catch (error) {
      tally.refuse(error)
    }
  }
}

/** The results of one call. */
export class Tally {
  begin = performance.now()
  end
  /** Until the last pair was done, not until no new one began. */
  seconds = Number.NaN
  /** @type {number[]} */
  durations = []
  refused = 0
  /** @type {string | undefined} */
  error

  /** @param {number} seconds */
  constructor(seconds) {
    this.end = this.begin + seconds * 1000
  }

  /** @param {unknown} error */
  refuse(error) {
    this.refused++
    this.error ??= error instanceof Error ? error.message : String(error)
  }

  /** @returns {Sample} */
  sample() {
    const sorted = Float64Array.from(this.durations).toSorted()
    return {
      perSecond: sorted.length / this.seconds,
      p50: quantile(sorted, 0.5),
      p99: quantile(sorted, 0.99),
      pairs: sorted.length,
      refused: this.refused,
      ...(this.error !== undefined && { error: this.error }),
    }
  }
}

export async function close() {
  await subject.close()
}
