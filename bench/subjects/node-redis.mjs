/**
 * What one writes with node-redis: SET NX PX and WAIT sent together, compare-and-delete to release and to roll back. It
 * sends the commands of one tick together by itself.
 *
 * `tuned`: releases have a connection of their own, where they never queue behind a WAIT.
 */
import { randomUUID } from 'node:crypto'

import { expect, load, pick, RELEASE_SCRIPT, WAIT_CONNECTIONS } from './common.mjs'
import { ACK_TIMEOUT_MS, REPLICAS, TTL_MS } from './conditions.mjs'

/** @typedef {import('./index.mjs').Place} Place */
/** @typedef {import('./index.mjs').Subject} Subject */

/** @param {Place & { tuned?: boolean }} options @returns {Promise<Subject>} */
export async function open({ url, atOnce, tuned = false }) {
  const { createClient, defineScript } = await load('redis')
  // By its hash, after the first time.
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
  const connections = await Promise.all(Array.from({ length: atOnce > 1 ? WAIT_CONNECTIONS : 1 }, connect))
  const releases = tuned && atOnce > 1 ? [await connect()] : connections
  const options = { condition: 'NX', expiration: { type: 'PX', value: TTL_MS } }
  return {
    async pair(resource, worker) {
      const redis = pick(connections, worker)
      const owner = randomUUID()
      const [set, acks] = await Promise.all([
        redis.set(resource, owner, options),
        redis.wait(REPLICAS, ACK_TIMEOUT_MS),
      ])
      expect(set === 'OK', 'not granted')
      const released = await pick(releases, worker).compareAndDelete(resource, owner)
      expect(acks >= REPLICAS, 'too few acknowledgements, rolled back')
      expect(released === 1, 'not released')
    },
    close() {
      for (const redis of new Set([...connections, ...releases])) redis.destroy()
    },
  }
}
