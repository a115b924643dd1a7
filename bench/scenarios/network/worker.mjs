/**
 * All subjects in one process, as in an application: they share heap, compiled code and event loop, and work
 * one after the other.
 */
import { putLoad } from '../../harness/load-worker.mjs'
import { quantile } from '../../harness/stats.mjs'
import { openSubject } from '../../subjects/index.mjs'

/** @typedef {import('../../harness/load-worker.mjs').Load} Load */
/** @typedef {import('../../harness/load-worker.mjs').Sample} Sample */
/** @typedef {import('../../subjects/index.mjs').Place} Place */
/** @typedef {import('../../subjects/index.mjs').Subject} Subject */

/** By name of the place and id; `durations` of all pairs since they were taken. */
const subjects = /** @type {Map<string, { subject: Subject, durations: number[][] }>} */ (new Map())

/** @param {string} where @param {string} id */
function find(where, id) {
  const found = subjects.get(`${where} ${id}`)
  if (!found) throw new Error('is not open')
  return found
}

/** @param {string} where @param {string} id @param {Place} place */
export async function open(where, id, place) {
  subjects.set(`${where} ${id}`, { subject: await openSubject(id, place), durations: [] })
}

/**
 * What one leaves behind is not to be collected at the cost of the next. Only what is young: a full
 * collection clears the hidden classes that no living object has, and each turn would begin with compiling
 * again.
 */
export function collect() {
  globalThis.gc?.({ type: 'minor' })
}

/**
 * Also returns the processor time of the process for a pair, in microseconds.
 *
 * @param {string} where
 * @param {string} id
 * @param {Load} work
 * @returns {Promise<Sample & { processor: number }>}
 */
export async function load(where, id, work) {
  const { subject, durations } = find(where, id)
  const before = process.cpuUsage()
  const tally = await putLoad(subject, work)
  const { user, system } = process.cpuUsage(before)
  durations.push(tally.durations)
  const sample = tally.sample()
  return { ...sample, processor: (user + system) / sample.pairs }
}

/**
 * The p99 of all pairs since the last call: one round has too few.
 *
 * @param {string} where
 * @param {string} id
 */
export function takeTail(where, id) {
  const { durations } = find(where, id)
  const sorted = Float64Array.from(durations.splice(0).flat()).toSorted()
  return quantile(sorted, 0.99)
}

export async function close() {
  for (const { subject } of subjects.values()) await subject.close()
}
