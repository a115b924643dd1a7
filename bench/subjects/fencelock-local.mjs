import { join } from 'node:path'

import { LockManager } from '../../index.js'
import { expect } from './common.mjs'
import { TTL_MS } from './conditions.mjs'

/** @typedef {import('./index.mjs').Place} Place */
/** @typedef {import('./index.mjs').Subject} Subject */

/** @param {Place & { inMemory?: boolean }} place @returns {Promise<Subject>} */
export async function open({ folder, inMemory = false }) {
  const local = inMemory ? ':memory:' : join(folder, 'locks.sqlite')
  const locks = new LockManager({ local, defaults: { ttlMs: TTL_MS } })
  await locks.connect()
  return {
    async pair(resource) {
      const lock = await locks.acquireLocal(resource)
      expect(lock.token > 0n, 'no token')
      expect(await lock.release(), 'not released')
    },
    pairSync(resource) {
      const lock = locks.tryAcquireLocalSync(resource)
      expect(lock && lock.token > 0n, 'not granted')
      expect(lock.releaseSync(), 'not released')
    },
    async hold(resource) {
      const lock = await locks.acquireLocal(resource, { waitMs: Infinity })
      return () => lock.release()
    },
    close: () => locks.close(),
  }
}
