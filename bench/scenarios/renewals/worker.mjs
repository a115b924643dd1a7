/**
 * Holds locks that are renewed, and does nothing else.
 */
import { LockManager } from '../../../index.js'
import { REPLICAS } from '../../subjects/conditions.mjs'

/** @type {LockManager} */
let locks
/** @type {import('../../../index.js').Lock[]} */
let held = []

/** @param {string} url */
export async function open(url) {
  locks = new LockManager({ redis: { url, replicas: REPLICAS } })
  await locks.connect()
}

/**
 * Takes the locks spread over a third of the TTL, as a service would: each is renewed three times in a TTL.
 *
 * @param {{ count: number, ttlMs: number, seconds: number }} load
 */
export async function hold({ count, ttlMs, seconds }) {
  const manager = locks
  const portions = 50
  const portion = count / portions
  for (let begun = 0; begun < portions; begun++) {
    const names = Array.from({ length: portion }, (_, index) => `renewed-${begun * portion + index}`)
    const taken = names.map((name) =>
      manager.acquireStrong(name, { ttlMs, ackTimeoutMs: 1_000, renew: true }),
    )
    held = held.concat(await Promise.all(taken))
    await new Promise((resolve) => setTimeout(resolve, (seconds * 1000) / portions))
  }
}

/**
 * The processor time of this process, in percent of a core.
 *
 * @param {{ seconds: number }} options
 */
export async function idle({ seconds }) {
  const before = process.cpuUsage()
  const begin = performance.now()
  await new Promise((resolve) => setTimeout(resolve, seconds * 1000))
  const { user, system } = process.cpuUsage(before)
  return {
    percent: (user + system) / 10 / (performance.now() - begin),
    held: held.filter((lock) => lock.held).length,
    extended: locks.stats().extended,
  }
}

export async function close() {
  await locks.close({ drainMs: 0 })
}
