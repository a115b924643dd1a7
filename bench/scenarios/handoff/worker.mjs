/**
 * Waiters for one lock, in a closed loop: each releases the lock in the event-loop turn after the grant, and
 * waits again.
 */
import { openSubject } from '../../subjects/index.mjs'

/** @typedef {import('../../subjects/index.mjs').Subject} Subject */
/** @typedef {import('../../subjects/index.mjs').Place} Place */

/**
 * @typedef {object} Held milliseconds since 1970, to the microsecond
 * @property {number} since when it was held
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

/**
 * @param {string} id
 * @param {Place} place
 */
export async function open(id, place) {
  subject = await openSubject(id, place)
}

/** @param {{ resource: string, waiters: number, seconds: number }} load @returns {Promise<Held[]>} */
export async function run({ resource, waiters, seconds }) {
  const end = now() + seconds * 1000
  /** @type {Held[]} */
  const held = []
  async function waitAndHold() {
    while (now() < end) {
      const release = await hold(resource)
      const since = now()
      await new Promise((resolve) => setImmediate(resolve))
      held.push({ since, until: now() })
      await release()
    }
  }
  await Promise.all(Array.from({ length: waiters }, waitAndHold))
  return held
}

/** How long one acquire takes without contention. @param {{ resource: string, seconds: number }} load */
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

export async function close() {
  await subject.close()
}
