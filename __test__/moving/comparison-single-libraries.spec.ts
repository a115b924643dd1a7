/** What docs/reference/comparison.md and docs/moving state of single libraries, on a Redis server. */
import { LockManager } from 'fencelock'
import { beforeAll, describe, expect, it } from 'vitest'

import { closing, rejection, unique } from '../fixtures/locks'
import { startRedis, type RedisServer } from '../fixtures/servers/redis'
import { eventually, sleep } from '../fixtures/temp'
import { connect, load } from './support'

const { createLock, IoredisAdapter } = load('redlock-universal')
const { Semaphore } = load('redis-semaphore')

let server: RedisServer
let redis: any
beforeAll(async () => {
  server = await startRedis()
  redis = connect(server.url)
})

describe('redlock-universal', () => {
  it('says that nothing is locked when the server cannot be reached', async () => {
    const own = await startRedis()
    const client = connect(own.url, { retryStrategy: () => null })
    const lock = createLock({ adapter: new IoredisAdapter(client), key: 'x' })
    await lock.acquire()
    const locks = closing(new LockManager({ redis: { url: own.url, replicas: 0 } }))
    await locks.acquire('x')
    await own.stop()
    expect(await lock.isLocked('x')).toBe(false)
    expect(await rejection(locks.inspect('x'))).toMatchObject({ code: 'BACKEND_UNAVAILABLE' })
  })

  it('extends without a pause when the TTL is 1.25 s or less', async () => {
    const extensions = (ttl: number) =>
      createLock({ adapter: new IoredisAdapter(redis), key: unique(), ttl }).using(async () => {
        await server.resetStats()
        await sleep(300)
        return (await server.calls()).evalsha ?? 0
      })
    // This process may have stalled meanwhile.
    await eventually('it extends more than five times', async () => (await extensions(1250)) > 5)
    expect(await extensions(5000)).toBe(0)
  })
})

describe('semaphores', () => {
  it('redis-semaphore has them; each caller decides by its own lockTimeout who has expired', async () => {
    const name = unique()
    const permit = (limit: number, options: object) =>
      new Semaphore(redis, name, limit, { acquireTimeout: 50, refreshInterval: 0, ...options })
    const [a, b, c] = [permit(2, {}), permit(2, {}), permit(2, {})]
    expect([await a.tryAcquire(), await b.tryAcquire(), await c.tryAcquire()]).toEqual([true, true, false])
    await Promise.all([a.release(), b.release()])

    const holder = permit(1, { lockTimeout: 10_000 })
    await holder.acquire()
    await sleep(200)
    expect(await permit(1, { lockTimeout: 100 }).tryAcquire()).toBe(true)
    expect(holder.isAcquired).toBe(true)
    await holder.release()
  })
})
