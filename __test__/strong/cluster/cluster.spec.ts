/** Strong locks on a Redis Cluster: every call in every shard, how it is reached, and what is refused. */
import { LockManager, type RedisOptions } from 'fencelock'
import { describe, expect, test } from 'vitest'

import { keysWithoutTtl } from '../../fixtures/history/keys'
import { closing, rejection, unique } from '../../fixtures/locks'
import { slotOf, startRedisCluster, type RedisCluster } from '../../fixtures/servers/cluster'
import { onProducts } from '../../fixtures/servers/products'
import { eventually } from '../../fixtures/temp'
import { lockKey, patient } from '../support'

/** A new resource in each shard. */
async function resourcesOf(cluster: RedisCluster): Promise<string[]> {
  const found = new Map<string, string>()
  const count = (await cluster.primaries()).length
  while (found.size < count) {
    const resource = unique()
    found.set((await cluster.ownerOf(lockKey(resource))).id, resource)
  }
  return [...found.values()]
}

function managerOf(redis: RedisOptions | string): LockManager {
  return closing(new LockManager({ redis, defaults: patient }))
}

/** All operations on one resource. */
async function useAll(locks: LockManager, resource: string): Promise<void> {
  const given = await locks.acquireStrong(resource, { ttlMs: 10_000 })
  const ticket = await given.handOver()
  const lock = await locks.adopt(ticket)
  expect(lock.token).toBeGreaterThan(given.token)
  expect(await rejection(locks.adopt(ticket))).toMatchObject({ code: 'LOCK_LOST' })
  expect(await locks.tryAcquireStrong(resource)).toBeNull()
  await lock.extend(30_000)
  expect(lock.remainingMs).toBeGreaterThan(15_000)
  expect(await locks.inspect(resource, { strategy: 'strong' })).toMatchObject({
    owner: lock.owner,
    token: lock.token,
  })
  const waiting = locks.acquireStrong(resource, { waitMs: 20_000 })
  await eventually('it waits', () => locks.stats().waiting === 1)
  expect(await lock.release()).toBe(true)
  const next = await waiting
  expect(next.token).toBeGreaterThan(lock.token)
  expect(await locks.forceRelease(resource, { strategy: 'strong' })).toBe(true)
  expect(await next.release()).toBe(false)
  expect(await locks.withLock(resource, ({ strategy }) => strategy)).toBe('strong')
  expect(await locks.inspect(resource, { strategy: 'strong' })).toBeNull()
}

test('every call works in every shard', { timeout: 60_000 }, async () => {
  await onProducts(async ({ program }) => {
    const cluster = await startRedisCluster({ program })
    const locks = managerOf({ cluster: cluster.urls[0]!, replicas: 1 })
    const resources = await resourcesOf(cluster)
    expect(resources).toHaveLength(3)
    for (const resource of resources) await useAll(locks, resource)
    expect(await locks.describe({ strategy: 'strong' })).toMatchObject({
      acks: 1,
      replicas: { declared: 1, connected: 1 },
    })
    const acknowledged = await locks.acquireStrong(resources[0]!)
    expect(acknowledged.acks).toEqual({ required: 1, received: 1 })
    expect(await acknowledged.release()).toBe(true)
    expect(await keysWithoutTtl(await cluster.primaries())).toEqual([])
  })
})

describe('without replicas', () => {
  test('what is refused says why, and what to do', { timeout: 60_000 }, async () => {
    await onProducts(async ({ program }) => {
      const cluster = await startRedisCluster({ program, replicas: 0 })
      const [one, two] = await resourcesOf(cluster)
      const locks = managerOf({ cluster: cluster.urls, replicas: 0 })
      const apart = await rejection(locks.acquireStrong([one!, two!]))
      expect(apart).toMatchObject({ code: 'UNSUPPORTED' })
      for (const name of [one!, two!]) expect(apart.message).toContain(String(slotOf(lockKey(name))))
      expect(apart.message).toContain('{')
      const together = await locks.acquireStrong([`{${one}}:a`, `{${one}}:b`])
      expect(await together.release()).toBe(true)

      const single = managerOf({ url: cluster.nodes[0]!.url, replicas: 0 })
      const refused = await rejection(single.acquireStrong(one!))
      expect(refused).toMatchObject({ code: 'UNSUPPORTED' })
      expect(refused.message).toContain('redis: { cluster }')
    })
  })

  test('a URL with nodes and password', { timeout: 60_000 }, async () => {
    await onProducts(async ({ program }) => {
      const cluster = await startRedisCluster({ program, replicas: 0, password: 'secret' })
      const places = cluster.nodes.map(({ host, port }) => `${host}:${port}`).join()
      const locks = managerOf({ url: `redis+cluster://:secret@${places}`, replicas: 0 })
      for (const resource of await resourcesOf(cluster)) {
        expect(await (await locks.acquireStrong(resource)).release()).toBe(true)
      }
      const stranger = managerOf({ url: `redis+cluster://:wrong@${places}`, replicas: 0 })
      const refused = await rejection(stranger.acquireStrong(unique()))
      expect(refused.message).toMatch(/password|WRONGPASS/i)
      expect(refused.message).not.toContain('wrong@')
    })
  })
})
