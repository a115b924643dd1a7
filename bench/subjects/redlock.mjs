import { expect, load } from './common.mjs'
import { TTL_MS } from './conditions.mjs'

/** @typedef {import('./index.mjs').Place} Place */
/** @typedef {import('./index.mjs').Subject} Subject */

/** @param {Place} place on the nodes, if there are any @returns {Promise<Subject>} */
export async function open({ url, nodes = [url], atOnce }) {
  const { Redis } = await load('ioredis')
  const { default: Redlock } = await load('redlock')
  // It uses one connection to each.
  const clients = nodes.map((node) => new Redis(node, { enableAutoPipelining: atOnce > 1 }))
  const redlock = new Redlock(clients, { retryCount: 0 })
  // For as long as it takes, with its own pauses: 200 ms, more or less.
  const patient = new Redlock(clients, { retryCount: -1 })
  return {
    async pair(resource) {
      // Both reject when they fail.
      const lock = await redlock.acquire([resource], TTL_MS)
      expect(lock.value && lock.expiration > Date.now(), 'not granted')
      await lock.release()
    },
    async hold(resource) {
      const lock = await patient.acquire([resource], TTL_MS)
      return () => lock.release()
    },
    close: () => {
      for (const client of clients) client.disconnect()
    },
  }
}
