/**
 * A lock written by hand with node-redis: SET NX PX, WAIT and compare-and-delete. The client itself sends the
 * commands of one tick together.
 *
 * `tuned`: releases have a connection of their own, where they never queue behind a WAIT.
 */
import { connectMany, load, pick, RELEASE_SCRIPT, setAndWait } from './common.mjs'
import { TTL_MS } from './conditions.mjs'

/** @typedef {import('./index.mjs').Place} Place */
/** @typedef {import('./index.mjs').Subject} Subject */

/** @param {Place & { tuned?: boolean }} options @returns {Promise<Subject>} */
export async function open({ url, atOnce, tuned = false }) {
  const { createClient, defineScript } = await load('redis')
  // Sent by its hash, after the first time.
  const compareAndDelete = defineScript({
    SCRIPT: RELEASE_SCRIPT,
    NUMBER_OF_KEYS: 1,
    /** @param {any} parser @param {string} key @param {string} owner */
    parseCommand(parser, key, owner) {
      parser.pushKey(key)
      parser.push(owner)
    },
    transformReply: (/** @type {number} */ reply) => reply,
  })
  const connect = () => createClient({ url, scripts: { compareAndDelete } }).connect()
  const connections = await Promise.all(connectMany(atOnce, connect))
  const releases = tuned && atOnce > 1 ? [await connect()] : connections
  const options = { condition: 'NX', expiration: { type: 'PX', value: TTL_MS } }
  return {
    pair: (resource, worker) =>
      setAndWait(pick(connections, worker), pick(releases, worker), resource, options),
    close() {
      for (const redis of new Set([...connections, ...releases])) redis.destroy()
    },
  }
}
