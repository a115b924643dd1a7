/**
 * What a guard costs: the caller's own write and the guarded one, one after the other by the same client.
 */
import { summary } from '../../harness/stats.mjs'
import { findGuarded } from '../../subjects/guarded.mjs'
import { startCounter } from './round-trips.mjs'

/** @typedef {import('../../subjects/guarded.mjs').GuardedPlace} GuardedPlace */
/** @typedef {import('../../subjects/guarded.mjs').Writes} Writes */

/**
 * @typedef {object} GuardSample p50 of a write in milliseconds
 * @property {number} own
 * @property {number | null} byHand
 * @property {number} guarded
 */

/** @type {Writes} */
let writes

/** A client that is a part of another runtime, or of a newer version of this one. */
const LACKING = new Set([
  'ERR_MODULE_NOT_FOUND',
  'ERR_UNKNOWN_BUILTIN_MODULE',
  'ERR_UNSUPPORTED_ESM_URL_SCHEME',
])

/**
 * @param {string} id
 * @param {GuardedPlace} place
 * @returns {Promise<string | undefined>} why this runtime lacks the client; anything else that fails is an
 *   error
 */
export async function findLack(id, place) {
  if (/^Bun\.|^bun:/.test(id) && !process.versions.bun) return 'is a part of Bun'
  try {
    const { close: stop } = await findGuarded(id).open(place)
    await stop()
    return undefined
  } catch (error) {
    const { code, message } = /** @type {NodeJS.ErrnoException} */ (error)
    if (!LACKING.has(code ?? '')) throw error
    return message.split('\n')[0]
  }
}

/** @param {string} id @param {GuardedPlace} place */
export async function open(id, place) {
  writes = await findGuarded(id).open(place)
}

/** @param {number} seconds @returns {Promise<GuardSample>} */
export async function measure(seconds) {
  const { own, byHand, guarded } = writes
  let kinds = [own, ...(byHand ? [byHand] : []), guarded].map((write) => ({
    write,
    /** @type {number[]} */
    durations: [],
  }))
  const end = performance.now() + seconds * 1000
  // Forwards and backwards, so that no write always comes after the same one.
  for (let begin = performance.now(); begin < end; kinds = kinds.toReversed()) {
    for (const { write, durations } of kinds) {
      begin = performance.now()
      await write()
      durations.push(performance.now() - begin)
    }
  }
  const p50 = (/** @type {Writes['own'] | undefined} */ kind) => {
    const found = kinds.find(({ write }) => write === kind)
    return found ? summary(found.durations).p50 : null
  }
  return { own: p50(own) ?? Number.NaN, byHand: p50(byHand), guarded: p50(guarded) ?? Number.NaN }
}

/**
 * How often each kind of write waits for the server of the store; of an HTTP service how often it waits for
 * its store.
 *
 * @param {string} id
 * @param {GuardedPlace} place
 * @returns {Promise<{ own: number, guarded: number } | null>} null where there is no server
 */
export async function countTrips(id, place) {
  const { store, open: openStore } = findGuarded(id)
  if (store === 'sqlite') return null
  const own = place[store]
  if (own === null) return null
  const counter = await startCounter(typeof own === 'number' ? own : own.port)
  const { port } = counter
  const counted = await openStore({
    ...place,
    [store]: typeof own === 'number' ? port : { ...own, port },
  })
  try {
    return { own: await counter.count(counted.own), guarded: await counter.count(counted.guarded) }
  } finally {
    await counted.close()
    counter.stop()
  }
}

export async function close() {
  await writes.close()
}
