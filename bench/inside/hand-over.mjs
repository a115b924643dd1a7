/**
 * Some of those who wait for one lock, in a closed loop: whoever gets it gives it back in the next turn of its event loop,
 * and waits again.
 */
import { findSubject } from '../subjects/index.mjs'

/** @typedef {import('../subjects/index.mjs').Subject} Subject */
/** @typedef {import('../subjects/index.mjs').Place} Place */

/**
 * @typedef {object} Held milliseconds since 1970, to the microsecond
 * @property {number} since when it was ours
 * @property {number} until when we began to give it back
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
  const { module, options } = findSubject(id)
  const { open: openSubject } = await import(`../subjects/${module}`)
  subject = await openSubject({ ...place, ...options })
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

/** How long one acquire takes while nobody else is there. @param {{ resource: string, seconds: number }} load */
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
