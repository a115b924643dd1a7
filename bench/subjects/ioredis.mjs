/**
 * A lock written by hand with ioredis: SET NX PX, WAIT and compare-and-delete.
 *
 * `tuned` uses its options for speed: commands of one tick are sent together, and releases have a connection
 * of their own, where they never queue behind a WAIT.
 */
import { connectMany, load, pick, RELEASE_SCRIPT, setAndWait } from './common.mjs'
import { TTL_MS } from './conditions.mjs'

/** @typedef {import('./index.mjs').Place} Place */
/** @typedef {import('./index.mjs').Subject} Subject */

/** @param {Place & { tuned?: boolean }} options @returns {Promise<Subject>} */
export async function open({ url, atOnce, tuned = false }) {
  const { Redis } = await load('ioredis')
  const connect = () =>
    new Redis(url, {
      enableAutoPipelining: tuned && atOnce > 1,
      // Sent by its hash, after the first time.
      scripts: { compareAndDelete: { lua: RELEASE_SCRIPT, numberOfKeys: 1 } },
    })
  const connections = connectMany(atOnce, connect)
  const releases = tuned && atOnce > 1 ? [connect()] : connections
  return {
    pair: (resource, worker) =>
      setAndWait(pick(connections, worker), pick(releases, worker), resource, 'PX', TTL_MS, 'NX'),
    close() {
      for (const redis of new Set([...connections, ...releases])) redis.disconnect()
    },
  }
}
