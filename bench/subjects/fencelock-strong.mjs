import { LockManager } from '../../index.js'
import { expect } from './common.mjs'
import { ACK_TIMEOUT_MS, REPLICAS, TTL_MS } from './conditions.mjs'

/** @typedef {import('./index.mjs').Place} Place */
/** @typedef {import('./index.mjs').Subject} Subject */

/**
 * @param {Place & { deployment?: 'cluster' | 'sentinel' }} place by default the standalone primary
 * @returns {Promise<Subject>}
 */
export async function open({ url, deployment, deployments }) {
  const where = deployment && deployments ? deployments[deployment] : { url }
  const locks = new LockManager({
    redis: { ...where, replicas: REPLICAS },
    defaults: { ttlMs: TTL_MS, ackTimeoutMs: ACK_TIMEOUT_MS },
  })
  await locks.connect()
  return {
    async pair(resource) {
      const lock = await locks.acquireStrong(resource)
      expect(lock.token > 0n && lock.acks?.received === REPLICAS, 'no token, or too few acknowledgements')
      expect(await lock.release(), 'not released')
    },
    async hold(resource) {
      const lock = await locks.acquireStrong(resource, { waitMs: Infinity })
      return () => lock.release()
    },
    close: () => locks.close(),
  }
}
