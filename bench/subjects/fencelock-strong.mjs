import { LockManager } from '../../index.js'
import { expect } from './common.mjs'
import { ACK_TIMEOUT_MS, REPLICAS, TTL_MS } from './conditions.mjs'

/** @typedef {import('./index.mjs').Place} Place */
/** @typedef {import('./index.mjs').Subject} Subject */

/**
 * @param {Place & { deployment?: 'cluster' | 'sentinel', acks?: number, traced?: number }} place by default
 *   the standalone primary, and all acknowledgements; `traced`: with OpenTelemetry, which samples this share
 *   of traces
 * @returns {Promise<Subject>}
 */
export async function open({ url, deployment, deployments, acks = REPLICAS, traced }) {
  if (traced !== undefined) (await import('./telemetry.mjs')).instrumentAll({ traced })
  const where = deployment && deployments ? deployments[deployment] : { url }
  const locks = new LockManager({
    redis: { ...where, replicas: REPLICAS },
    defaults: { ttlMs: TTL_MS, ackTimeoutMs: ACK_TIMEOUT_MS, acks },
  })
  await locks.connect()
  return {
    async pair(resource) {
      const lock = await locks.acquireStrong(resource)
      expect(lock.token > 0n && (lock.acks?.received ?? 0) >= acks, 'no token, or too few acknowledgements')
      expect(await lock.release(), 'not released')
    },
    async hold(resource) {
      const lock = await locks.acquireStrong(resource, { waitMs: Infinity })
      return () => lock.release()
    },
    close: () => locks.close(),
  }
}
