/** A slot moves while its locks are held and waited for: key by key, and at once where that is possible. */
import { LockManager } from 'fencelock'
import { expect, test } from 'vitest'

import { closing, rejection, unique } from '../../fixtures/locks'
import {
  slotOf,
  startRedisCluster,
  type ClusterNode,
  type RedisCluster,
} from '../../fixtures/servers/cluster'
import { onProducts, type Product } from '../../fixtures/servers/products'
import { eventually } from '../../fixtures/temp'
import { fenceKey, lockKey, queueKey } from '../support'

const strategy = 'strong'

function managerOf(cluster: RedisCluster): LockManager {
  return closing(new LockManager({ redis: { cluster: cluster.urls, replicas: 0 } }))
}

/** Moves the slot of a resource to another node, at once if this product can; returns that node. */
async function moveSlotOf(cluster: RedisCluster, resource: string, product: Product): Promise<ClusterNode> {
  const slot = slotOf(lockKey(resource))
  const source = await cluster.ownerOf(slot)
  const target = (await cluster.primaries()).find((node) => node !== source)!
  if (product.name === 'Valkey') await cluster.moveSlotsAtomically([slot, slot], target)
  else await cluster.moveSlot(slot, target)
  return target
}

test('a lock is handed over where its slot is now', { timeout: 60_000 }, async () => {
  const rounds = 4
  await onProducts(async (product) => {
    const cluster = await startRedisCluster({ program: product.program, replicas: 0 })
    const [holder, other] = [managerOf(cluster), managerOf(cluster)]
    const took: number[] = []
    for (let round = 0; round < rounds; round++) {
      const resource = unique()
      const lock = await holder.acquireStrong(resource, { ttlMs: 60_000 })
      const waiting = other.acquireStrong(resource, { waitMs: 30_000, fair: round % 2 === 0 })
      const source = await cluster.ownerOf(lockKey(resource))
      await eventually('it waits', async () => (await source.cmd('EXISTS', queueKey(resource))) === 1)
      await moveSlotOf(cluster, resource, product)
      const began = performance.now()
      expect(await lock.release()).toBe(true)
      const next = await waiting
      took.push(performance.now() - began)
      expect(next.token).toBeGreaterThan(lock.token)
      expect(await next.release()).toBe(true)
    }
    // Without a wake-up a waiter attempts once a second. A busy machine may delay one.
    expect(took.toSorted((a, b) => a - b).at(-2)).toBeLessThan(400)
  })
})

test('a lock is read and released by force wherever its keys are', { timeout: 60_000 }, async () => {
  await onProducts(async ({ program }) => {
    const cluster = await startRedisCluster({ program, replicas: 0 })
    const locks = managerOf(cluster)
    const tag = unique()
    const slot = slotOf(lockKey(`{${tag}}`))
    const source = await cluster.ownerOf(slot)
    const target = (await cluster.primaries()).find((node) => node !== source)!
    const keysOf: Record<string, (resource: string) => string[]> = {
      neither: () => [],
      lock: (resource) => [lockKey(resource)],
      fence: (resource) => [fenceKey(resource)],
      both: (resource) => [lockKey(resource), fenceKey(resource)],
    }
    const names = Object.keys(keysOf).map((name) => `{${tag}}:${name}`)
    const held = await Promise.all(names.map((name) => locks.acquireStrong(name, { ttlMs: 60_000 })))
    const migration = await cluster.migrate(slot, target)
    await migration.begin()
    for (const [at, keys] of Object.values(keysOf).entries()) await migration.moveKeys(keys(names[at]!))
    for (const { resource, owner, token } of held) {
      expect(await locks.inspect(resource, { strategy })).toMatchObject({ owner, token })
    }
    expect(await locks.inspect(`{${tag}}:free`, { strategy })).toBeNull()
    for (const { resource } of held) {
      expect(await locks.forceRelease(resource, { strategy })).toBe(true)
      expect(await locks.inspect(resource, { strategy })).toBeNull()
      expect(await locks.forceRelease(resource, { strategy })).toBe(false)
    }
    await migration.finish()
    const next = await locks.acquireStrong(held[0]!.resource)
    expect(next.token).toBeGreaterThan(held[0]!.token)
  })
})

test('a lock is adopted on the side that has its keys', { timeout: 60_000 }, async () => {
  await onProducts(async ({ program }) => {
    const cluster = await startRedisCluster({ program, replicas: 0 })
    const locks = managerOf(cluster)
    const tag = unique()
    const slot = slotOf(lockKey(`{${tag}}`))
    const source = await cluster.ownerOf(slot)
    const target = (await cluster.primaries()).find((node) => node !== source)!
    const names = ['here', 'there', 'after'].map((name) => `{${tag}}:${name}`)
    const given = await Promise.all(names.map((name) => locks.acquireStrong(name, { ttlMs: 60_000 })))
    const [here, there, after] = await Promise.all(given.map((lock) => lock.handOver()))
    const migration = await cluster.migrate(slot, target)
    await migration.begin()
    await migration.moveKeys([lockKey(names[1]!), fenceKey(names[1]!)])
    const locked = [await locks.adopt(here!), await locks.adopt(there!)]
    expect(await rejection(locks.adopt(there!))).toMatchObject({ code: 'LOCK_LOST' })
    for (const name of [names[0]!, names[2]!]) await migration.moveKeys([lockKey(name), fenceKey(name)])
    await migration.finish()
    locked.push(await locks.adopt(after!))
    for (const [at, lock] of locked.entries()) {
      expect(lock.token).toBeGreaterThan(given[at]!.token)
      expect(await lock.release()).toBe(true)
    }
  })
})

test(
  'a lock is renewed at once where its slot is now, and a loss is told then',
  { timeout: 60_000 },
  async () => {
    await onProducts(async (product) => {
      const cluster = await startRedisCluster({ program: product.program, replicas: 0 })
      const locks = managerOf(cluster)
      const tag = unique()
      const [kept, lost] = await Promise.all(
        ['kept', 'lost'].map((name) =>
          locks.acquireStrong(`{${tag}}:${name}`, { ttlMs: 60_000, renew: true }),
        ),
      )
      const { signal } = lost!
      const target = await moveSlotOf(cluster, kept!.resource, product)
      await target.cmd('PEXPIRE', lockKey(kept!.resource), 30_000)
      await target.cmd('DEL', lockKey(lost!.resource))
      expect(signal.aborted).toBe(false)
      expect(await locks.inspect(kept!.resource, { strategy })).toMatchObject({ owner: kept!.owner })
      const left = async () => Number(await target.cmd('PTTL', lockKey(kept!.resource)))
      await eventually('it is renewed', async () => (await left()) > 40_000)
      await eventually('the loss is told', () => signal.aborted)
      expect(signal.reason).toMatchObject({ code: 'LOCK_LOST' })
      expect(kept!.held).toBe(true)
    })
  },
)
