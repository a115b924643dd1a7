/**
 * Strong locks at the distances of networks: on loopback, and with round trips to the primary, and between it
 * and its replicas, of 0.2 to 1 ms. All subjects are in one process, which takes part in nothing else.
 */
import { startRemote } from '../../harness/remote.mjs'
import { order } from '../../harness/rounds.mjs'
import { median } from '../../harness/stats.mjs'
import { findSubject } from '../../subjects/index.mjs'
import { usage } from '../processor/usage.mjs'
import { measureAccuracy, startFar } from './distance.mjs'

/** @typedef {import('../../harness/context.mjs').Context} Context */
/** @typedef {import('../../harness/remote.mjs').Remote} Remote */
/** @typedef {import('./distance.mjs').Accuracy} Accuracy */
/** @typedef {import('./distance.mjs').Far} Far */

/**
 * What a pair takes of the process: microseconds of processor time, of all its threads and of JavaScript's,
 * and how often its threads have yielded the processor to wait.
 *
 * @typedef {{ processor: number, main: number, waits: number }} Cost
 */

/** @typedef {import('../../harness/load-worker.mjs').Sample & Cost} Turn */

/**
 * @typedef {object} Measured medians of the rounds
 * @property {string} id
 * @property {string} label
 * @property {string} how
 * @property {string} [unavailable] then there are no numbers
 * @property {number} perSecond pairs
 * @property {number} p50 milliseconds
 * @property {number} p99 of the pairs of all rounds
 * @property {number} refused pairs that failed, of all rounds
 * @property {string} [error] the first failure
 * @property {Record<'perSecond' | 'p50' | 'processor', number[]>} ratios ours by this one's in each round, of
 *   the one of ours that waits for as many replicas
 * @property {Turn[]} rounds
 */

/** @typedef {Measured & Cost} NetworkRow */

/**
 * @typedef {object} Distance
 * @property {Accuracy} accuracy
 * @property {NetworkRow[]} rows
 * @property {import('./delay-proxy.mjs').Late} [late] how late the proxy was meanwhile
 */

/**
 * @typedef {object} Network
 * @property {string} title
 * @property {boolean} realTime the proxy runs before everything else
 * @property {Distance[]} distances
 */

/** Round trips in milliseconds; 0: loopback, without a proxy. */
const ROUND_TRIPS = [0, 0.2, 0.5, 1]
/** By the name of the scenario. */
export const networks = [
  { id: 'network-1', title: 'one by one', atOnce: 1 },
  { id: 'network-8', title: '8 at once', atOnce: 8 },
  { id: 'network-64', title: '64 at once', atOnce: 64 },
]
/**
 * How many times the rounds, and the time of a round, of other scenarios. Short rounds, because subjects are
 * compared within a round, and what else the machine does changes; one by one more, because there the ratios
 * are close to their thresholds.
 */
const ALONE = { rounds: 4, seconds: 0.3 }
const MANY = { rounds: 2, seconds: 0.4 }
/** How much longer subjects work before anything counts: until they are compiled. */
const WARM_UP = 5

/** Each of ours, and those that wait for as many replicas. */
const groups = [
  ['fencelock-one-ack', 'ioredis-own-scripts', 'ioredis-one-ack', 'ioredis-one-ack-pipelined'],
  ['fencelock-no-acks', 'redlock', 'redis-semaphore', 'redlock-universal'],
]

const worker = import.meta.resolve('./worker.mjs')

/**
 * @param {{ title: string, atOnce: number }} load
 * @param {Context} context
 * @returns {Promise<Network>}
 */
export async function measureNetwork({ title, atOnce }, context) {
  // The proxy is written for Linux.
  if (process.platform !== 'linux') return { title, realTime: false, distances: [] }
  const far = await startFar(context.servers.program, context.folder)
  const client = new Client(context, atOnce, far)
  try {
    await client.open()
    const distances = []
    for (const roundTrip of ROUND_TRIPS) {
      const near = roundTrip === 0
      const delay = near ? 0 : await far.setRoundTrip(roundTrip)
      const measured = await measureAccuracy(near ? context.servers.port : far.port)
      const accuracy = { roundTrip, delay, ...measured }
      distances.push({ accuracy, ...(await client.measure(near ? 'near' : 'far')) })
    }
    return { title, realTime: far.realTime, distances }
  } finally {
    await client.end()
    await far.stop()
  }
}

/** @typedef {{ id: string, unavailable?: string, turns: Turn[], p99: number }} Entry */

/** One process with all subjects. */
class Client {
  #context
  #atOnce
  #far
  #remote
  /** @type {Map<string, string>} */
  #unavailable = new Map()

  /** @param {Context} context @param {number} atOnce @param {Far} far */
  constructor(context, atOnce, far) {
    this.#context = context
    this.#atOnce = atOnce
    this.#far = far
    this.#remote = startRemote(context.runtime, worker)
  }

  async open() {
    const { folder, servers, seconds } = this.#context
    for (const id of groups.flat()) {
      try {
        for (const [where, { url }] of Object.entries({ near: servers, far: this.#far })) {
          await this.#remote.call('open', where, id, { url, folder, atOnce: this.#atOnce })
        }
        await this.#remote.call('load', 'near', id, { atOnce: this.#atOnce, seconds: seconds * WARM_UP })
      } catch (error) {
        this.#unavailable.set(id, error instanceof Error ? error.message : String(error))
      }
    }
  }

  /** @param {'near' | 'far'} where @returns {Promise<Omit<Distance, 'accuracy'>>} */
  async measure(where) {
    const atOnce = this.#atOnce
    const times = atOnce === 1 ? ALONE : MANY
    const rounds = this.#context.rounds * times.rounds
    const load = { atOnce, seconds: this.#context.seconds * times.seconds }
    const entries = groups.flat().map((id) => this.#enter(id))
    for (let round = -1; round < rounds; round++) {
      // The first round warms up.
      if (round === 0) {
        await this.#far.late()
        for (const entry of entries) await this.#takeTail(entry, where)
      }
      for (const entry of order(entries, round + 1)) await this.#takeTurn(entry, where, load, round >= 0)
    }
    for (const entry of entries) await this.#takeTail(entry, where)
    const rows = groups.flatMap((group) => {
      const found = entries.filter(({ id }) => group.includes(id))
      return found.map((entry) => toRow(entry, found[0] ?? entry))
    })
    return { rows, ...(where === 'far' && { late: await this.#far.late() }) }
  }

  /** @param {string} id @returns {Entry} */
  #enter(id) {
    const unavailable = this.#unavailable.get(id)
    return { id, turns: [], p99: Number.NaN, ...(unavailable !== undefined && { unavailable }) }
  }

  /**
   * @param {Entry} entry
   * @param {'near' | 'far'} where
   * @param {import('../../harness/load-worker.mjs').Load} load
   * @param {boolean} counts
   */
  async #takeTurn(entry, where, load, counts) {
    if (entry.unavailable !== undefined) return
    try {
      await this.#remote.call('collect')
      const before = this.#used()
      const sample = await this.#remote.call('load', where, entry.id, load)
      const after = this.#used()
      const main = (after.main - before.main) / sample.pairs
      const waits = (after.waits - before.waits) / sample.pairs
      if (counts) entry.turns.push({ ...sample, main, waits })
    } catch (error) {
      entry.unavailable = error instanceof Error ? error.message : String(error)
    }
  }

  /** @param {Entry} entry @param {'near' | 'far'} where */
  async #takeTail(entry, where) {
    if (entry.unavailable === undefined) entry.p99 = await this.#remote.call('takeTail', where, entry.id)
  }

  /** What JavaScript's thread has used so far, and the waits of all threads. */
  #used() {
    const { pid } = this.#remote
    const threads = usage(pid)
    const waits = [...threads.values()].reduce((sum, thread) => sum + thread.waits, 0)
    return { main: threads.get(String(pid))?.micros ?? Number.NaN, waits }
  }

  async end() {
    await this.#remote.call('close').catch(() => {})
    await this.#remote.end()
  }
}

/** @param {Entry} entry @param {Entry} ours @returns {NetworkRow} */
function toRow({ id, turns, unavailable, p99 }, ours) {
  const { label, how } = findSubject(id)
  const of = (/** @type {'perSecond' | 'p50' | keyof Cost} */ key) => median(turns.map((turn) => turn[key]))
  const ratios = (/** @type {'perSecond' | 'p50' | 'processor'} */ key) =>
    turns.map((turn, round) => (ours.turns[round]?.[key] ?? Number.NaN) / turn[key])
  const error = turns.find((turn) => turn.error !== undefined)?.error
  return {
    id,
    label,
    how,
    ...(unavailable !== undefined && { unavailable }),
    perSecond: of('perSecond'),
    p50: of('p50'),
    p99,
    processor: of('processor'),
    main: of('main'),
    waits: of('waits'),
    refused: turns.reduce((sum, turn) => sum + turn.refused, 0),
    ...(error !== undefined && { error }),
    ratios: { perSecond: ratios('perSecond'), p50: ratios('p50'), processor: ratios('processor') },
    rounds: turns,
  }
}
