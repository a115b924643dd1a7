/**
 * What one writes with ioredis: SET NX PX and WAIT sent together, compare-and-delete to release and to roll back.
 *
 * `tuned` is the most that its options give: commands of one tick go out together, and releases have a connection of
 * their own, where they never queue behind a WAIT.
 */
import { randomUUID } from 'node:crypto'

import { expect, load, pick, RELEASE_SCRIPT, WAIT_CONNECTIONS } from './common.mjs'
import { ACK_TIMEOUT_MS, REPLICAS, TTL_MS } from './conditions.mjs'

/** @typedef {import('./index.mjs').Place} Place */
/** @typedef {import('./index.mjs').Subject} Subject */

/** @param {Place & { tuned?: boolean }} options @returns {Promise<Subject>} */
export async function open({ url, atOnce, tuned = false }) {
  const { Redis } = await load('ioredis')
  const connect = () =>
    new Redis(url, {
      enableAutoPipelining: tuned && atOnce > 1,
      // By its hash, after the first time.
      scripts: { compareAndDelete: { lua: RELEASE_SCRIPT, numberOfKeys: 1 } },
    })
  const connections = Array.from({ length: atOnce > 1 ? WAIT_CONNECTIONS : 1 }, connect)
  const releases = tuned && atOnce > 1 ? [connect()] : connections
  return {
    async pair(resource, worker) {
      const redis = pick(connections, worker)
      const owner = randomUUID()
      const [set, acks] = await Promise.all([
        redis.set(resource, owner, 'PX', TTL_MS, 'NX'),
        redis.wait(REPLICAS, ACK_TIMEOUT_MS),
      ])
      expect(set === 'OK', 'not granted')
      const released = await pick(releases, worker).compareAndDelete(resource, owner)
      expect(acks >= REPLICAS, 'too few acknowledgements, rolled back')
      expect(released === 1, 'not released')
    },
    close() {
      for (const redis of new Set([...connections, ...releases])) redis.disconnect()
    },
  }
}
