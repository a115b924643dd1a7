/** A Redis Cluster under load: shards fail over, slots move, and the history shows no broken guarantee. */
import { LockManager, type LockError } from 'fencelock'
import { expect, test } from 'vitest'

import { History } from '../../fixtures/history/history'
import { keysWithoutTtl } from '../../fixtures/history/keys'
import { closing, rejection } from '../../fixtures/locks'
import { slotOf, startRedisCluster, type RedisCluster } from '../../fixtures/servers/cluster'
import { onProducts, valkeyProgram } from '../../fixtures/servers/products'
import { eventually, sleep } from '../../fixtures/temp'
import { lockKey } from '../support'

function managerOf(cluster: RedisCluster, replicas: number): LockManager {
  return closing(new LockManager({ redis: { cluster: cluster.urls, replicas } }))
}

/** Acquires and releases locks of all shards, until the function that it returns is called. */
function load(locks: LockManager, history: History): () => Promise<void> {
  const over = new AbortController()
  const loops = Array.from({ length: 12 }, async (_, index) => {
    const resource = `load-${index}`
    while (!over.signal.aborted) {
      const lock = await history.acquire(resource, () => locks.tryAcquireStrong(resource, { ttlMs: 5000 }))
      if (lock) await lock.release(() => lock.value.release())
      else await sleep(5)
    }
  })
  return async () => {
    over.abort()
    await Promise.all(loops)
  }
}

test('a shard fails over', { timeout: 60_000 }, async () => {
  await onProducts(async ({ name, program }) => {
    const cluster = await startRedisCluster({ program })
    const locks = managerOf(cluster, 1)
    const history = new History({ limitMs: 10_000 })
    const failed = await cluster.ownerOf(lockKey('held'))
    const held = await locks.acquireStrong('held', { ttlMs: 30_000, renew: true, ackTimeoutMs: 2000 })
    const stop = load(locks, history)
    await sleep(300)
    await failed.kill()
    await sleep(6000)
    await stop()
    expect(held.held).toBe(true)
    const looked = await eventually('it is looked up', () =>
      locks.inspect('held', { strategy: 'strong' }).then(
        (info) => ({ info }),
        () => undefined,
      ),
    )
    expect(looked.info?.token).toBe(held.token)
    const { violations, outcomes } = history.check()
    console.log(`${name}:`, JSON.stringify(outcomes))
    expect(violations).toEqual([])
    expect(await keysWithoutTtl(await cluster.primaries())).toEqual([])
  })
})

test('slots move key by key', { timeout: 60_000 }, async () => {
  await onProducts(async ({ program }) => {
    const cluster = await startRedisCluster({ program, replicas: 0 })
    const locks = managerOf(cluster, 0)
    const history = new History({ limitMs: 5000 })
    const slot = slotOf(lockKey('{moving}:held'))
    const source = await cluster.ownerOf(slot)
    const target = (await cluster.primaries()).find((node) => node !== source)!
    const stop = load(locks, history)
    const held = await locks.acquireStrong('{moving}:held', { ttlMs: 5000, renew: true })
    const freed = await locks.acquireStrong('{moving}:freed')
    const migration = await cluster.migrate(slot, target)
    await migration.begin()
    await migration.moveKeys(await migration.keys())
    const refused = await rejection<LockError>(locks.acquireStrong('{moving}:new'))
    expect(refused.code).toBe('BACKEND_UNAVAILABLE')
    expect(refused.message).toContain(`slot ${slot}`)
    expect(await freed.release()).toBe(true)
    const waiting = locks.acquireStrong('{moving}:waited', { waitMs: 20_000 })
    await sleep(5500)
    expect(held.held ? null : held.signal.reason, 'it is renewed meanwhile').toBeNull()
    await migration.finish()
    await (await waiting).release()
    await sleep(300)
    await stop()
    expect(await held.release()).toBe(true)
    expect(history.check().violations).toEqual([])
  })
})

test('a shard is handed over, and no call takes long', { timeout: 60_000 }, async () => {
  await onProducts(async ({ program }) => {
    const cluster = await startRedisCluster({ program, primaries: 2 })
    const locks = managerOf(cluster, 1)
    const history = new History({ limitMs: 5000 })
    const held = await locks.acquireStrong('held', { ttlMs: 6000, renew: true, ackTimeoutMs: 2000 })
    const [replica] = await cluster.replicasOf(await cluster.ownerOf(lockKey('held')))
    const stop = load(locks, history)
    await sleep(300)
    await cluster.failOver(replica!)
    await cluster.ready()
    await sleep(300)
    await stop()
    expect(await cluster.ownerOf(lockKey('held'))).toBe(replica)
    expect(await held.release()).toBe(true)
    const { violations, outcomes } = history.check()
    expect(violations).toEqual([])
    expect(outcomes.acquire?.granted).toBeGreaterThan(0)
    expect(await keysWithoutTtl(await cluster.primaries())).toEqual([])
  })
})

test.runIf(valkeyProgram !== undefined)('slots move at once', { timeout: 60_000 }, async () => {
  const cluster = await startRedisCluster({ program: valkeyProgram, primaries: 2, replicas: 0 })
  const locks = managerOf(cluster, 0)
  const history = new History({ limitMs: 5000 })
  const held = await locks.acquireStrong('held', { ttlMs: 4500, renew: true })
  const slot = slotOf(lockKey('held'))
  const source = await cluster.ownerOf(slot)
  const target = cluster.nodes.find((node) => node !== source)!
  const stop = load(locks, history)
  await cluster.moveSlotsAtomically(slot < 8192 ? [0, 8191] : [8192, 16_383], target)
  await sleep(5000)
  await stop()
  expect(held.held, 'it was renewed where it is now').toBe(true)
  expect(await held.release()).toBe(true)
  expect(history.check().violations).toEqual([])
  expect(await keysWithoutTtl([target])).toEqual([])
})
