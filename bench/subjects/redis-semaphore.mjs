import { expect, load } from './common.mjs'
import { TTL_MS } from './conditions.mjs'

/** @typedef {import('./index.mjs').Place} Place */
/** @typedef {import('./index.mjs').Subject} Subject */

/** @param {Place} place @returns {Promise<Subject>} */
export async function open({ url, atOnce }) {
  const { Redis } = await load('ioredis')
  const { Mutex } = await load('redis-semaphore')
  const redis = new Redis(url, { enableAutoPipelining: atOnce > 1 })
  // One attempt and no renewal, like all subjects.
  const options = { lockTimeout: TTL_MS, acquireAttemptsLimit: 1, refreshInterval: 0 }
  return {
    async pair(resource) {
      const mutex = new Mutex(redis, resource, options)
      expect(await mutex.tryAcquire(), 'not granted')
      await mutex.release()
      expect(!mutex.isAcquired, 'not released')
    },
    async hold(resource) {
      // With its own pauses: 10 ms.
      const mutex = new Mutex(redis, resource, {
        lockTimeout: TTL_MS,
        acquireTimeout: 60_000,
        refreshInterval: 0,
      })
      await mutex.acquire()
      return () => mutex.release()
    },
    close: () => redis.disconnect(),
  }
}
