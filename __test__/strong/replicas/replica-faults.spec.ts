/** Strong locks when replicas lag or do not reply, and when a primary is demoted or killed. */
import { LockManager } from 'fencelock'
import { beforeAll, describe, expect, it } from 'vitest'

import { onCleanup } from '../../fixtures/cleanup'
import { closing, rejection, unique } from '../../fixtures/locks'
import { startProxy } from '../../fixtures/servers/proxy'
import { startPrimary, type Deployment } from '../../fixtures/servers/redis'
import { eventually, sleep } from '../../fixtures/temp'
import { connected, fenceKey, leaseExists, leaseIsRemoved, lockKey, replicationIsIdle } from '../support'

describe('with a primary and two replicas', () => {
  let redis: Deployment
  beforeAll(async () => {
    redis = await startPrimary()
  })

  function pause(...which: number[]): void {
    for (const index of which) redis.replicas[index]!.pause()
    onCleanup(async () => {
      for (const index of which) redis.replicas[index]!.resume()
      await redis.primary.waitForReplicas(2)
    })
  }

  it('refuses a grant in time when no replica acknowledges it, and rolls it back', async () => {
    const locks = await connected(redis.url)
    pause(0, 1)
    await redis.primary.cmd('CONFIG', 'SET', 'hz', 1)
    onCleanup(() => redis.primary.cmd('CONFIG', 'SET', 'hz', 10))
    for (const ackTimeoutMs of [50, 200]) {
      const late: number[] = []
      for (let round = 0; round < 5; round++) {
        const resource = unique()
        const began = performance.now()
        const error = await rejection(locks.acquireStrong(resource, { ackTimeoutMs }))
        late.push(performance.now() - began - ackTimeoutMs)
        expect(error).toMatchObject({
          code: 'INSUFFICIENT_REPLICAS',
          required: 2,
          received: 0,
          connected: 2,
          rolledBack: true,
        })
        expect(late.at(-1)).toBeGreaterThanOrEqual(-5)
        expect(await redis.primary.cmd('EXISTS', lockKey(resource))).toBe(0)
        expect(await locks.inspect(resource)).toBeNull()
      }
      // On its own this server would notice the end of the time up to a second late. A busy machine may
      // delay two.
      expect(late.toSorted((a, b) => a - b)[2]).toBeLessThan(150)
    }
  })

  it('grants quickly with the healthy replica alone while other calls wait for the paused one', async () => {
    const locks = await connected(redis.url)
    pause(1)
    let ended = 0
    const all = Array.from({ length: 20 }, () =>
      rejection(locks.acquireStrong(unique(), { ackTimeoutMs: 4_000 })).finally(() => ended++),
    )
    for (let round = 0; round < 20; round++) {
      const lock = await locks.acquireStrong(unique(), { acks: 1, ackTimeoutMs: 4_000 })
      expect(lock.acks).toEqual({ required: 1, received: 1 })
      expect(await lock.release()).toBe(true)
    }
    expect(ended, 'all others still wait').toBe(0)
    for (const error of await Promise.all(all))
      expect(error).toMatchObject({ code: 'INSUFFICIENT_REPLICAS', received: 1, rolledBack: true })
  })

  it('still returns "busy" in a batch whose grants are refused', async () => {
    const locks = await connected(redis.url)
    const held = await locks.acquireStrong(unique(), { ttlMs: 30_000 })
    pause(0)
    const [refused, busy] = await Promise.allSettled([
      locks.acquireStrong(unique(), { ackTimeoutMs: 100 }),
      locks.tryAcquireStrong(held.resource, { ackTimeoutMs: 100 }),
    ])
    expect(refused).toMatchObject({ status: 'rejected', reason: { code: 'INSUFFICIENT_REPLICAS' } })
    expect(busy).toEqual({ status: 'fulfilled', value: null })
    expect(await locks.inspect(held.resource)).toMatchObject({ owner: held.owner })
  })

  it('does not roll back another owner’s lock when its own lease ended during the WAIT', async () => {
    const locks = await connected(redis.url)
    pause(0, 1)
    const resource = unique()
    // The lease ends at 1,200 ms. The rollback after the WAIT is delayed until another owner has the lock.
    const proxy = await startProxy(redis.primary.port)
    const slow = closing(new LockManager({ redis: { url: proxy.url, replicas: 2 } }))
    await rejection(slow.acquireStrong(unique()))
    const attempt = rejection(slow.acquireStrong(resource, { ttlMs: 1_200, ackTimeoutMs: 600 }))
    // Which stays when the lease has ended.
    await eventually('it is written', () => redis.primary.cmd('EXISTS', fenceKey(resource)))
    proxy.hold('toClient')
    await leaseIsRemoved(redis.primary, resource)
    const thief = await locks.acquireStrong(resource, { acks: 0, ttlMs: 30_000 })
    proxy.flow()
    expect((await attempt).message).not.toBe('')
    await eventually('nothing is left to clean up', () => slow.stats().cleanups === 0)
    expect(await redis.primary.cmd('GET', lockKey(resource))).toBe(thief.owner)
    expect(await thief.release()).toBe(true)
  })

  it('does not make a busy call wait for the replicas of other calls', async () => {
    const locks = await connected(redis.url)
    const held = await locks.acquireStrong(unique(), { ttlMs: 30_000 })
    pause(0)
    let waits = true
    const refused = rejection(locks.acquireStrong(unique(), { ackTimeoutMs: 3_000 })).finally(
      () => (waits = false),
    )
    expect(await locks.tryAcquireStrong(held.resource, { ackTimeoutMs: 3_000 })).toBeNull()
    expect(waits, 'the other one still waits').toBe(true)
    expect(await refused).toMatchObject({ code: 'INSUFFICIENT_REPLICAS' })
  })

  it('still reports who was busy in a batch whose connection breaks, but not who was granted', async () => {
    const proxy = await startProxy(redis.primary.port)
    const locks = await connected(proxy.url)
    const held = await locks.acquireStrong(unique(), { ttlMs: 60_000 })
    pause(0)
    const resource = unique()
    const calls = Promise.allSettled([
      locks.acquireStrong(resource, { ackTimeoutMs: 5_000, ttlMs: 60_000 }),
      locks.tryAcquireStrong(held.resource, { ackTimeoutMs: 5_000 }),
    ])
    await leaseExists(redis.primary, resource)
    // The reply to the script has left the server, and passes the proxy in a turn of the event loop.
    await sleep(20)
    proxy.cut()
    const [granted, busy] = await calls
    expect(busy).toEqual({ status: 'fulfilled', value: null })
    expect(granted).toMatchObject({ status: 'rejected', reason: { code: 'OUTCOME_UNKNOWN' } })
    await leaseIsRemoved(redis.primary, resource)
    expect(await redis.primary.cmd('GET', lockKey(held.resource))).toBe(held.owner)
  })

  it('keeps deadline and lease unchanged when an extension is not acknowledged', async () => {
    const locks = await connected(redis.url)
    const lock = await locks.acquireStrong(unique(), { ttlMs: 20_000 })
    pause(0, 1)
    const error = await rejection(lock.extend(60_000))
    expect(error).toMatchObject({ code: 'INSUFFICIENT_REPLICAS', required: 2, received: 0 })
    expect(lock.held).toBe(true)
    expect(lock.remainingMs).toBeLessThan(20_000)
    expect(lock.signal.aborted).toBe(false)
  })

  it('reports an unknown outcome when the primary is demoted during the WAIT', async () => {
    const own = await startPrimary()
    const locks = await connected(own.url)
    for (const replica of own.replicas) replica.pause()
    const resource = unique()
    const attempt = rejection(locks.acquireStrong(resource, { ackTimeoutMs: 4_000, ttlMs: 60_000 }))
    await leaseExists(own.primary, resource)
    await own.primary.replicate(redis.primary)
    expect(await attempt).toMatchObject({ code: 'OUTCOME_UNKNOWN' })
  })

  it('survives a failover to a replica that acknowledged it, but to no other', async () => {
    const own = await startPrimary({ replicaProxies: true })
    const locks = await connected(own.url)
    await replicationIsIdle(own)
    const [slow, cutOff] = own.links
    slow!.hold('toClient')
    cutOff!.swallow('toClient')
    const resource = unique()
    let granted = false
    const call = locks
      .acquireStrong(resource, { acks: 1, ackTimeoutMs: 5_000, ttlMs: 60_000 })
      .then((lock) => {
        granted = true
        return lock
      })
    // Only the primary has it: no grant yet.
    expect(await eventually('the primary has it', () => locks.inspect(resource))).toMatchObject({ resource })
    expect(granted).toBe(false)
    slow!.flow('toClient')
    const lock = await call
    await own.primary.kill()
    expect(lock.acks).toEqual({ required: 1, received: 1 })
    const [acknowledged, silent] = own.replicas.map((replica) =>
      closing(new LockManager({ redis: { url: replica.url, replicas: 0 } })),
    )
    for (const replica of own.replicas) await replica.promote()
    expect(await acknowledged!.inspect(resource)).toMatchObject({ owner: lock.owner, token: lock.token })
    expect(await acknowledged!.tryAcquireStrong(resource)).toBeNull()
    // Had only this one been promoted, the lock would be lost; the fencing token tells the holders apart.
    expect(await silent!.inspect(resource)).toBeNull()
    expect((await silent!.acquireStrong(resource)).token).toBeGreaterThan(lock.token)
    expect(lock.held).toBe(true)
  })

  it('can be lost without acknowledgements, which is why they exist', async () => {
    const own = await startPrimary({ replicaProxies: true })
    const locks = await connected(own.url)
    for (const link of own.links) link.swallow('toClient')
    const resource = unique()
    expect(await rejection(locks.acquireStrong(resource, { ackTimeoutMs: 100 }))).toMatchObject({
      code: 'INSUFFICIENT_REPLICAS',
    })
    const doomed = await locks.acquireStrong(resource, { acks: 0, ttlMs: 60_000 })
    expect(doomed.held).toBe(true)
    await own.primary.kill()
    const promoted = await own.failOver()
    const survivors = closing(new LockManager({ redis: { url: promoted.url, replicas: 0 } }))
    const second = await survivors.acquireStrong(resource)
    // Two holders at once; the fencing token tells them apart.
    expect(doomed.held).toBe(true)
    expect(second.token).toBeGreaterThan(doomed.token)
  })
})
