/**
 * The floor of what JavaScript can do with our protocol: ioredis sends the scripts of fencelock itself, and
 * WAIT together with the one that acquires. It has none of the rest: no deadlines, renewals, or proofs.
 */
import { randomUUID } from 'node:crypto'

import { connectMany, expect, load, pick } from './common.mjs'
import { ACK_TIMEOUT_MS } from './conditions.mjs'
import { observeScripts } from './own-scripts.mjs'

/** @typedef {import('./index.mjs').Place} Place */
/** @typedef {import('./index.mjs').Subject} Subject */

/** @param {Place} place @returns {Promise<Subject>} */
export async function open({ url, atOnce }) {
  const { acquire, release } = await observeScripts(url)
  const { Redis } = await load('ioredis')
  const connections = connectMany(atOnce, () => new Redis(url))
  return {
    async pair(resource, worker) {
      const redis = pick(connections, worker)
      const owner = randomUUID()
      // One write, as a pipeline makes it, at less processor time.
      redis.stream.cork()
      const replies = [redis.evalsha(...acquire(resource, owner)), redis.wait(1, ACK_TIMEOUT_MS)]
      redis.stream.uncork()
      const [granted, acks] = await Promise.all(replies)
      expect(granted[0] > 0, 'not granted')
      const released = await redis.evalsha(...release(resource, owner))
      expect(acks >= 1, 'too few acknowledgements, rolled back')
      expect(released[0] === 1, 'not released')
    },
    close() {
      for (const redis of connections) redis.disconnect()
    },
  }
}
