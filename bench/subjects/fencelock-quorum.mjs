import { LockManager } from '../../index.js'
import { expect } from './common.mjs'
import { TTL_MS } from './conditions.mjs'

/** @typedef {import('./index.mjs').Place} Place */
/** @typedef {import('./index.mjs').Subject} Subject */

/** @param {Place} place @returns {Promise<Subject>} */
export async function open({ nodes = [] }) {
  // The nodes were started a moment ago, and have forgotten nothing.
  const locks = new LockManager({ quorum: { nodes, restartDelayMs: 0 }, defaults: { ttlMs: TTL_MS } })
  await locks.connect()
  return {
    async pair(resource) {
      const lock = await locks.acquireQuorum(resource)
      expect(lock.token > 0n && Number(lock.acks?.received) * 2 > nodes.length, 'no token, or no majority')
      expect(await lock.release(), 'not released')
    },
    async hold(resource) {
      const lock = await locks.acquireQuorum(resource, { waitMs: Infinity })
      return () => lock.release()
    },
    close: () => locks.close(),
  }
}
