/** Strong locks on servers that lack commands, are replicas, restart, are down, or never reply. */
import { LockManager } from 'fencelock'
import { describe, expect, it } from 'vitest'

import { closing, rejection, unique } from '../../fixtures/locks'
import { startProxy } from '../../fixtures/servers/proxy'
import { startPrimary, startRedis } from '../../fixtures/servers/redis'
import { eventually } from '../../fixtures/temp'
import { connected, fenceKey, lockKey } from '../support'

describe('with a server that refuses', () => {
  it('reports that WAIT is missing before it writes anything', async () => {
    const server = await startRedis({ config: ['rename-command WAIT ""'] })
    const locks = closing(new LockManager({ redis: { url: server.url, replicas: 1 } }))
    const resource = unique()
    const error = await rejection(locks.acquireStrong(resource, { ttlMs: 60_000 }))
    expect(error).toMatchObject({ code: 'UNSUPPORTED', message: expect.stringContaining('WAIT') })
    expect(await server.cmd('EXISTS', lockKey(resource), fenceKey(resource))).toBe(0)
    expect((await locks.acquireStrong(resource, { acks: 0 })).held).toBe(true)
  })

  it('reports that scripts are missing', async () => {
    const server = await startRedis({ config: ['rename-command EVALSHA ""'] })
    const locks = closing(new LockManager({ redis: { url: server.url, replicas: 0 } }))
    expect(await rejection(locks.acquireStrong(unique()))).toMatchObject({
      code: 'UNSUPPORTED',
      message: expect.stringContaining('EVALSHA'),
    })
    expect(await server.cmd('DBSIZE')).toBe(0)
  })

  it('reports that the server is a replica, and writes nothing', async () => {
    const redis = await startPrimary({ replicas: 1 })
    const locks = closing(new LockManager({ redis: { url: redis.replicas[0]!.url, replicas: 1 } }))
    const resource = unique()
    const error = await rejection(locks.acquireStrong(resource))
    expect(error).toMatchObject({ code: 'BACKEND_UNAVAILABLE' })
    expect(error.message).toMatch(/replica/i)
    expect(await redis.primary.cmd('EXISTS', lockKey(resource))).toBe(0)
  })

  it('recovers without help when the server was restarted', async () => {
    const server = await startRedis()
    const locks = closing(new LockManager({ redis: { url: server.url, replicas: 0 } }))
    const first = await locks.acquireStrong(unique(), { ttlMs: 60_000 })
    await server.restart()
    const next = await eventually('a lock after the restart', () =>
      locks.acquireStrong(first.resource).catch(() => null),
    )
    expect(next.token).toBeGreaterThan(first.token)
    expect(await first.release()).toBe(false)
    expect(await locks.inspect(first.resource)).toMatchObject({ owner: next.owner })
  })

  it('reports a lack of replicas that the server itself detected', async () => {
    const server = await startRedis({ config: ['min-replicas-to-write 1'] })
    const locks = closing(new LockManager({ redis: { url: server.url, replicas: 1 } }))
    expect(await rejection(locks.acquireStrong(unique()))).toMatchObject({
      code: 'INSUFFICIENT_REPLICAS',
      rolledBack: true,
    })
  })

  it('fails within the time limit each time when no server is listening, and recovers', async () => {
    const server = await startRedis()
    const locks = await connected({ url: server.url, replicas: 0, connectTimeoutMs: 1_000 })
    await server.kill()
    for (let round = 0; round < 5; round++) {
      const began = performance.now()
      expect(await rejection(locks.acquireStrong(unique()))).toMatchObject({
        code: expect.stringMatching(/BACKEND_UNAVAILABLE|OUTCOME_UNKNOWN/),
      })
      expect(performance.now() - began).toBeLessThan(6_000)
    }
    await server.start()
    await eventually('it is back', () => locks.acquireStrong(unique()).catch(() => null))
  })

  it('fails within the time limit when the server accepts but never replies', async () => {
    const server = await startRedis()
    const proxy = await startProxy(server.port)
    proxy.swallow()
    const locks = closing(new LockManager({ redis: { url: proxy.url, replicas: 0, connectTimeoutMs: 400 } }))
    const began = performance.now()
    expect(await rejection(locks.acquireStrong(unique()))).toMatchObject({ code: 'BACKEND_UNAVAILABLE' })
    expect(performance.now() - began).toBeLessThan(4_000)
  })
})
