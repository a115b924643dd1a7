/**
 * What a held lock costs in memory, after a full garbage collection: the JavaScript heap in use, and what the
 * process has allocated with malloc, which the addon and SQLite use. The growth of the resident memory is
 * reported, too; it includes what the engine's heap and malloc retain for later, most of it from the calls
 * that took the locks.
 *
 * The names of the resources are included; the array that holds the locks is not.
 */
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'

import { LockManager } from '../../../index.js'
import { REPLICAS } from '../../subjects/conditions.mjs'

/**
 * @typedef {object} MemoryPoint
 * @property {number} held
 * @property {number} heapBytes of the JavaScript heap in use, per lock
 * @property {number | null} nativeBytes from malloc, per lock; null where it cannot be determined
 * @property {number} residentBytes by which the resident memory grew, per lock
 * @property {number} acquireMs how long it took to get here from the point before, per lock
 */

/** How many at once: enough to be quick, few enough that the calls themselves leave no mark. */
const AT_ONCE = 250
/** The first locks create caches, pools and compiled code, which exist once. */
const WARM_UP = 5_000
/** Longer than the whole measure. */
const TTL_MS = 600_000

/**
 * @param {'strong' | 'local'} strategy
 * @param {{ url: string, folder: string, malloc: string | null }} place `malloc` is malloc.c, compiled
 * @param {number[]} counts ascending
 * @returns {Promise<MemoryPoint[]>}
 */
export async function hold(strategy, { url, folder, malloc }, counts) {
  /** @type {(() => number) | null} */
  const allocated = malloc && createRequire(import.meta.url)(malloc)
  const locks = new LockManager({
    strategy,
    redis: { url, replicas: REPLICAS },
    local: join(folder, 'locks.sqlite'),
    defaults: { ttlMs: TTL_MS },
  })
  /** @type {import('../../../index.js').Lock[]} */
  const held = Array.from({ length: Math.max(WARM_UP, ...counts) })
  const fill = async (/** @type {number} */ from, /** @type {number} */ to) => {
    for (let at = from; at < to; at += AT_ONCE) {
      const length = Math.min(AT_ONCE, to - at)
      const batch = Array.from({ length }, (_, index) => locks.acquire(`held-${at + index}`))
      for (const [index, lock] of (await Promise.all(batch)).entries()) held[at + index] = lock
    }
  }

  await fill(0, WARM_UP)
  for (let at = 0; at < WARM_UP; at += AT_ONCE) {
    await Promise.all(held.slice(at, at + AT_ONCE).map((lock) => lock.release()))
  }
  held.fill(/** @type {any} */ (undefined))

  const before = await usage(allocated)
  const points = []
  let filled = 0
  for (const count of counts) {
    const begin = performance.now()
    await fill(filled, count)
    const acquireMs = (performance.now() - begin) / (count - filled)
    filled = count
    const now = await usage(allocated)
    points.push({
      held: count,
      heapBytes: (now.heap - before.heap) / count,
      nativeBytes: allocated && (now.native - before.native) / count,
      residentBytes: (now.resident - before.resident) / count,
      acquireMs,
    })
    if (locks.stats().held !== count) throw new Error(`${locks.stats().held} held instead of ${count}`)
  }
  await locks.close({ drainMs: 0 })
  return points
}

/** In bytes, after a full garbage collection. @param {(() => number) | null} allocated */
async function usage(allocated) {
  for (let round = 0; round < 3; round++) {
    collect()
    // Garbage is finalised and freed by the event loop and by threads.
    await sleep(50)
  }
  const { rss, heapUsed } = process.memoryUsage()
  return { heap: heapUsed, native: allocated?.() ?? 0, resident: rss }
}

function collect() {
  const { Bun } = /** @type {{ Bun?: { gc: (sync: boolean) => void } }} */ (globalThis)
  if (Bun) Bun.gc(true)
  else globalThis.gc?.()
}
