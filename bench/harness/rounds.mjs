/**
 * Rounds in which every subject has its turn, so that everything else the machine does affects all of them.
 */
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'

import { findSubject } from '../subjects/index.mjs'
import { startRemote } from './remote.mjs'
import { median } from './stats.mjs'

/** @typedef {import('./runtimes.mjs').Runtime} Runtime */
/** @typedef {import('./remote.mjs').Remote} Remote */
/** @typedef {import('./load-worker.mjs').Load} Load */
/** @typedef {import('./load-worker.mjs').Sample} Sample */
/** @typedef {import('../subjects/index.mjs').Place} Place */

/**
 * @typedef {object} Row what a subject reached
 * @property {string} id
 * @property {string} label
 * @property {string} how
 * @property {string} [unavailable] why it did not take part; then there are no numbers
 * @property {number} perSecond the median of the rounds, as all numbers here
 * @property {number} p50 milliseconds
 * @property {number} p99
 * @property {number} refused pairs that failed, of all rounds
 * @property {string} [error] the first failure
 * @property {number} ratio how many times this subject's throughput the first one reaches: the median of the
 *   ratios of each round, because the two of one round had the same conditions
 * @property {number} latencyRatio the first one's p50 by this one's, likewise
 * @property {Sample[]} rounds
 */

/** The worker that puts load on a subject. */
export const loadWorker = import.meta.resolve('./load-worker.mjs')

/** A subject with more refusals than this share of its pairs did not do the work. */
const REFUSED_LIMIT = 0.01

/**
 * @param {object} options
 * @param {Runtime} options.runtime
 * @param {string[]} options.ids the first one is compared with the others
 * @param {Load} options.load
 * @param {number} options.rounds after one to warm up
 * @param {string} options.url
 * @param {Place['deployments']} [options.deployments]
 * @param {Place['nodes']} [options.nodes]
 * @param {string} options.folder
 * @returns {Promise<Row[]>} in the order of `ids`
 */
export async function inTurns({ runtime, ids, load, rounds, folder, ...where }) {
  const entries = await Promise.all(
    ids.map((id, index) =>
      enter(runtime, id, { ...where, folder: join(folder, String(index)), atOnce: load.atOnce }),
    ),
  )
  try {
    for (let round = -1; round < rounds; round++) {
      for (const entry of order(entries, round + 1)) {
        await takeTurn(entry, load, round >= 0)
      }
    }
  } finally {
    await Promise.all(entries.map(leave))
  }
  const rows = entries.map(toRow)
  const [ours] = rows
  return rows.map((row) => (ours ? compare(ours, row) : row))
}

/**
 * Each round begins with another one, and every other round goes backwards, so that no subject always comes
 * first, or always after the same one.
 *
 * @template T
 * @param {T[]} entries
 * @param {number} round
 * @returns {T[]}
 */
export function order(entries, round) {
  const first = round % entries.length
  const turned = [...entries.slice(first), ...entries.slice(0, first)]
  return round % 2 === 0 ? turned : turned.toReversed()
}

/**
 * @typedef {object} Entry
 * @property {string} id
 * @property {Remote} remote
 * @property {string} [unavailable]
 * @property {Sample[]} samples
 */

/**
 * @param {Runtime} runtime
 * @param {string} id
 * @param {Place} place
 * @returns {Promise<Entry>}
 */
async function enter(runtime, id, place) {
  mkdirSync(place.folder, { recursive: true })
  const remote = startRemote(runtime, loadWorker)
  /** @type {Entry} */
  const entry = { id, remote, samples: [] }
  try {
    await remote.call('open', id, place)
  } catch (error) {
    entry.unavailable = firstLine(error)
  }
  return entry
}

/**
 * @param {Entry} entry
 * @param {Load} load
 * @param {boolean} counts
 */
async function takeTurn(entry, load, counts) {
  if (entry.unavailable !== undefined) return
  try {
    const sample = await entry.remote.call('load', load)
    if (counts) entry.samples.push(sample)
  } catch (error) {
    entry.unavailable = firstLine(error)
  }
}

/** @param {Entry} entry */
async function leave({ remote, unavailable }) {
  if (unavailable === undefined) await remote.call('close').catch(() => {})
  await remote.end()
}

/** @param {unknown} error */
function firstLine(error) {
  return String(error instanceof Error ? error.message : error).split('\n')[0] ?? ''
}

/** @param {Entry} entry @returns {Row} */
function toRow({ id, samples, unavailable }) {
  const { label, how } = findSubject(id)
  const of = (/** @type {'perSecond' | 'p50' | 'p99'} */ key) => median(samples.map((sample) => sample[key]))
  const refused = samples.reduce((sum, sample) => sum + sample.refused, 0)
  const pairs = samples.reduce((sum, sample) => sum + sample.pairs, 0)
  const error = samples.find((sample) => sample.error !== undefined)?.error
  const failed = refused > (refused + pairs) * REFUSED_LIMIT
  const why = unavailable ?? (failed ? `${refused} of ${refused + pairs} pairs failed: ${error}` : undefined)
  return {
    id,
    label,
    how,
    ...(why !== undefined && { unavailable: why }),
    perSecond: of('perSecond'),
    p50: of('p50'),
    p99: of('p99'),
    refused,
    ...(error !== undefined && { error }),
    ratio: Number.NaN,
    latencyRatio: Number.NaN,
    rounds: samples,
  }
}

/** @param {Row} ours @param {Row} row @returns {Row} */
function compare(ours, row) {
  if (ours.unavailable !== undefined || row.unavailable !== undefined) return row
  return { ...row, ratio: ratioOf(ours, row, 'perSecond'), latencyRatio: ratioOf(ours, row, 'p50') }
}

/**
 * How many times the value of one the value of the other is: the median of the ratios of each round.
 *
 * @param {Row} one
 * @param {Row} other
 * @param {'perSecond' | 'p50'} key
 */
export function ratioOf(one, other, key) {
  return median(one.rounds.map((sample, round) => sample[key] / (other.rounds[round]?.[key] ?? Number.NaN)))
}
