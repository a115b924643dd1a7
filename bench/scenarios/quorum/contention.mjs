/**
 * Several clients want one lock at the same moment. How long does it take until one of them has it, and how
 * long from each release to the next grant?
 */
import { setTimeout as sleep } from 'node:timers/promises'

import { summary } from '../../harness/stats.mjs'

/** @typedef {import('../../harness/remote.mjs').Remote} Remote */
/** @typedef {import('./worker.mjs').Raced} Raced */

/**
 * @typedef {object} Contention in milliseconds, of all rounds together
 * @property {number} clients in processes of their own
 * @property {number} races
 * @property {Spread} first from the moment at which the first one began to the first lease
 * @property {Spread} handoff from the beginning of a release to the grant of the next
 */

/** @typedef {{ p50: number, p99: number, max: number }} Spread */

/** The clients get a moment to be told when to begin. */
const LEAD_MS = 15
/** Meanwhile the lost attempts of a race are released. */
const PAUSE_MS = 15

let races = 0

/** The races among the first so many clients. */
export class Races {
  /** @type {number[]} */
  #first = []
  /** @type {number[]} */
  #handoffs = []
  #remotes

  /** @param {Remote[]} remotes */
  constructor(remotes) {
    this.#remotes = remotes
  }

  /**
   * @param {number} count
   * @param {number} holdMs long enough for the others to wait
   */
  async run(count, holdMs) {
    for (let round = 0; round < count; round++) {
      const resource = `race-${races++}`
      const at = performance.timeOrigin + performance.now() + LEAD_MS
      /** @type {Raced[]} */
      const raced = await Promise.all(
        this.#remotes.map((remote) => remote.call('race', { resource, at, holdMs })),
      )
      this.#take(raced.toSorted((a, b) => a.since - b.since))
      await sleep(PAUSE_MS)
    }
  }

  /** @param {Raced[]} raced in the order in which they held it */
  #take(raced) {
    const [first] = raced
    if (!first) return
    this.#first.push(first.since - Math.min(...raced.map(({ begun }) => begun)))
    for (const [at, { since }] of raced.entries()) {
      const before = raced[at - 1]
      if (!before) continue
      // Without mutual exclusion all figures would be meaningless.
      if (since < before.until) throw new Error('the lock was held twice at the same time')
      this.#handoffs.push(since - before.until)
    }
  }

  /** @returns {Contention} */
  result() {
    return {
      clients: this.#remotes.length,
      races: this.#first.length,
      first: summary(this.#first),
      handoff: summary(this.#handoffs),
    }
  }
}
