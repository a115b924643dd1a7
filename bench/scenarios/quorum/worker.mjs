/**
 * One client of a quorum: acquires alone, or together with others that want the same lock.
 */
import { openSubject } from '../../subjects/index.mjs'

/** @typedef {import('../../subjects/index.mjs').Subject} Subject */
/** @typedef {import('../../subjects/index.mjs').Place} Place */

/**
 * @typedef {object} Raced milliseconds since 1970, to the microsecond
 * @property {number} begun when it began to acquire
 * @property {number} since when it had the lock
 * @property {number} until when its release began
 */

/** @type {Subject} */
let subject

/** @param {string} resource */
function hold(resource) {
  if (!subject.hold) throw new Error('cannot wait')
  return subject.hold(resource)
}

// Bun's `hrtime` counts from the start of its process.
const now = () => performance.timeOrigin + performance.now()
const nothing = new Int32Array(new SharedArrayBuffer(4))

/**
 * @param {string} id
 * @param {Place} place
 */
export async function open(id, place) {
  subject = await openSubject(id, place)
}

/**
 * How long each of some acquires takes, one after the other.
 *
 * @param {{ resource: string, seconds: number }} load
 */
export async function alone({ resource, seconds }) {
  /** @type {number[]} */
  const durations = []
  for (const end = now() + seconds * 1000; now() < end;) {
    const begin = now()
    const release = await hold(resource)
    durations.push(now() - begin)
    await release()
  }
  return durations
}

/**
 * Acquires at a moment that others have, too, and holds it for a while.
 *
 * @param {{ resource: string, at: number, holdMs: number }} race
 * @returns {Promise<Raced>}
 */
export async function race({ resource, at, holdMs }) {
  // A timer would be late by up to a millisecond.
  Atomics.wait(nothing, 0, 0, Math.max(0, at - now()))
  const begun = now()
  const release = await hold(resource)
  const since = now()
  await new Promise((resolve) => setTimeout(resolve, holdMs))
  const until = now()
  await release()
  return { begun, since, until }
}

export async function close() {
  await subject.close()
}
