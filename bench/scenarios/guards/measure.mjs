/**
 * What a guard costs, compared with the caller's own unguarded write.
 */

import { inFolder } from '../../harness/context.mjs'
import { startRemote } from '../../harness/remote.mjs'
import { order } from '../../harness/rounds.mjs'
import { median } from '../../harness/stats.mjs'
import { guarded } from '../../subjects/guarded.mjs'
import { startDatabases } from './databases.mjs'

/** @typedef {import('../../harness/context.mjs').Context} Context */
/** @typedef {import('./worker.mjs').GuardSample} GuardSample */

/**
 * @typedef {object} GuardCost medians of the rounds
 * @property {string} id
 * @property {string} store
 * @property {string} write what is done without the guard
 * @property {string} [unavailable] why it did not take part; then there are no numbers
 * @property {number} own p50 of a write in milliseconds, as `guarded`
 * @property {number} guarded
 * @property {number} ratio the guarded write's time divided by the own one's, in each round
 * @property {number | null} byHandRatio divided by that of the own one with a hand-written check of the
 *   token, likewise
 * @property {{ own: number, guarded: number } | null} trips to the server; null where there is none
 * @property {GuardSample[]} rounds
 */

const worker = import.meta.resolve('./worker.mjs')

/** @param {Context} context @returns {Promise<GuardCost[]>} */
export async function measureGuards(context) {
  const { runtime, rounds, seconds, servers } = context
  const databases = await startDatabases()
  const { postgres, mariadb } = databases
  const entries = guarded.map(({ id, store, own }, index) => ({
    id,
    store,
    write: own,
    place: { postgres, mariadb, redis: servers.port, folder: inFolder(context, String(index)).folder },
    remote: startRemote(runtime, worker),
    unavailable:
      store in databases && databases[/** @type {'postgres'} */ (store)] === null
        ? `${store} is not installed`
        : undefined,
    /** @type {GuardCost['trips']} */
    trips: null,
    /** @type {GuardSample[]} */
    samples: [],
  }))
  try {
    for (const entry of entries) {
      entry.unavailable ??= await entry.remote.call('findLack', entry.id, entry.place)
      if (entry.unavailable !== undefined) continue
      entry.trips = await entry.remote.call('countTrips', entry.id, entry.place)
      await entry.remote.call('open', entry.id, entry.place)
      await entry.remote.call('measure', seconds)
    }
    const here = entries.filter(({ unavailable }) => unavailable === undefined)
    for (let round = 0; round < rounds; round++) {
      for (const { remote, samples } of order(here, round))
        samples.push(await remote.call('measure', seconds))
    }
    await Promise.all(here.map(({ remote }) => remote.call('close')))
  } finally {
    await Promise.all(entries.map(({ remote }) => remote.end()))
    await databases.stop()
  }
  return entries.map(toCost)
}

/**
 * @param {Omit<GuardCost, 'rounds' | 'own' | 'guarded' | 'ratio' | 'byHandRatio'> & { samples: GuardSample[]
 *   }} entry
 */
function toCost({ id, store, write, unavailable, trips, samples }) {
  return {
    id,
    store,
    write,
    ...(unavailable !== undefined && { unavailable }),
    own: median(samples.map(({ own }) => own)),
    guarded: median(samples.map((sample) => sample.guarded)),
    ratio: median(samples.map((sample) => sample.guarded / sample.own)),
    byHandRatio: samples[0]?.byHand
      ? median(samples.map((sample) => sample.guarded / (sample.byHand ?? Number.NaN)))
      : null,
    trips,
    rounds: samples,
  }
}
