import { expect, load } from './common.mjs'
import { TTL_MS } from './conditions.mjs'

/** @typedef {import('./index.mjs').Place} Place */
/** @typedef {import('./index.mjs').Subject} Subject */

/** @param {Place} place @returns {Promise<Subject>} */
export async function open({ url, atOnce }) {
  const { Redis } = await load('ioredis')
  const { createLock, IoredisAdapter } = await load('redlock-universal')
  const redis = new Redis(url, { enableAutoPipelining: atOnce > 1 })
  const adapter = new IoredisAdapter(redis)
  return {
    async pair(resource) {
      // Its fastest mode; one attempt.
      const lock = createLock({ adapter, key: resource, ttl: TTL_MS, retryAttempts: 0, performance: 'lean' })
      const handle = await lock.acquire()
      expect(handle.value, 'not granted')
      expect(await lock.release(handle), 'not released')
    },
    async hold(resource) {
      // With its own pauses: 100 ms.
      const lock = createLock({
        adapter,
        key: resource,
        ttl: TTL_MS,
        retryAttempts: 10_000,
        performance: 'lean',
      })
      const handle = await lock.acquire()
      return () => lock.release(handle)
    },
    close: () => redis.disconnect(),
  }
}
