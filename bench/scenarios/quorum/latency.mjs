/**
 * How long an acquire takes on nodes at a distance, without contention, compared with a round trip.
 */
import { order } from '../../harness/rounds.mjs'
import { median, summary } from '../../harness/stats.mjs'

/** @typedef {import('../../harness/remote.mjs').Remote} Remote */
/** @typedef {import('../../harness/nodes.mjs').Nodes} Nodes */

/**
 * @typedef {object} Latency in milliseconds: medians of those of each round
 * @property {'all' | 'hung'} id
 * @property {string} title
 * @property {number} roundTrip p50 of a PING of all nodes, until a majority has answered
 * @property {number} roundTripP99 which shows how exact the proxies are
 * @property {number} p50 of an acquire
 * @property {number} p99
 * @property {number} ratio how many round trips the p50 of an acquire takes, the median of the rounds
 */

const titles = { all: 'all nodes answer', hung: 'one node hangs' }

/** The turns of one case. */
export class Turns {
  /** @type {{ roundTrip: number, roundTripP99: number, p50: number, p99: number }[]} */
  #rounds = []
  #id
  #ping
  #locks

  /**
   * @param {Latency['id']} id
   * @param {Remote} ping
   * @param {Remote} locks
   */
  constructor(id, ping, locks) {
    this.#id = id
    this.#ping = ping
    this.#locks = locks
  }

  /**
   * @param {number} round
   * @param {number} seconds
   * @returns {Promise<number>} the round trip
   */
  async run(round, seconds) {
    /** @type {Map<Remote, ReturnType<typeof summary>>} */
    const found = new Map()
    for (const remote of order([this.#ping, this.#locks], round)) {
      found.set(remote, summary(await remote.call('alone', { resource: 'alone', seconds })))
    }
    const [ping, lock] = [found.get(this.#ping), found.get(this.#locks)]
    if (!ping || !lock) throw new Error('unreachable')
    this.#rounds.push({ roundTrip: ping.p50, roundTripP99: ping.p99, p50: lock.p50, p99: lock.p99 })
    return ping.p50
  }

  /** @returns {Latency} */
  result() {
    const of = (/** @type {'roundTrip' | 'roundTripP99' | 'p50' | 'p99'} */ key) =>
      median(this.#rounds.map((each) => each[key]))
    return {
      id: this.#id,
      title: titles[this.#id],
      roundTrip: of('roundTrip'),
      roundTripP99: of('roundTripP99'),
      p50: of('p50'),
      p99: of('p99'),
      ratio: median(this.#rounds.map(({ p50, roundTrip }) => p50 / roundTrip)),
    }
  }
}
