/** Handing strong leases over while replicas are away, connections break, and clocks are set. */
import { type LockManager } from 'fencelock'
import { beforeAll, describe, expect, it } from 'vitest'

import { rejection, unique } from '../../fixtures/locks'
import { startProxy } from '../../fixtures/servers/proxy'
import { startPrimary, startRedis, type Deployment } from '../../fixtures/servers/redis'
import { eventually, sleep } from '../../fixtures/temp'
import { hasWallClock, wallClock } from '../../fixtures/time/wall-clock'
import { connected, fenceKey, leaseIsRemoved, lockKey } from '../support'

/** A ticket for a new lease, and the lock it was. */
async function offered(locks: LockManager, ttlMs = 60_000) {
  const lock = await locks.acquireStrong(unique(), { ttlMs, ackTimeoutMs: 2_000 })
  return { resource: lock.resource, owner: lock.owner, token: lock.token, ticket: await lock.handOver() }
}

describe('a ticket of a strong lock', () => {
  let redis: Deployment
  beforeAll(async () => {
    redis = await startPrimary()
  })

  it('is adopted with as many acknowledgements as are required, and costs one round trip', async () => {
    const [giver, taker] = await Promise.all([connected(redis.url), connected(redis.url)])
    const { ticket } = await offered(giver)
    const before = await redis.primary.calls()
    const lock = await taker.adopt(ticket, { acks: 1 })
    expect(lock.acks).toEqual({ required: 1, received: expect.any(Number) })
    const after = await redis.primary.calls()
    expect(after.wait! - before.wait!).toBe(1)
    const none = await taker.adopt(await lock.handOver(), { acks: 0 })
    expect(none.acks).toBeNull()
    expect((await redis.primary.calls()).wait).toBe(after.wait)
  })

  it('stays valid when too few replicas acknowledge its adoption', async () => {
    const own = await startPrimary({ replicaProxies: true })
    const [giver, taker] = await Promise.all([connected(own.url), connected(own.url)])
    const { ticket, resource, owner, token } = await offered(giver)
    own.links[0]!.hold('toServer')
    const error = await rejection(taker.adopt(ticket, { ackTimeoutMs: 300 }))
    expect(error).toMatchObject({ code: 'INSUFFICIENT_REPLICAS', required: 2, rolledBack: true, resource })
    expect(error.message).toContain('the ticket can be used again')
    expect(await taker.inspect(resource)).toMatchObject({ owner })
    expect(await own.primary.cmd('PTTL', lockKey(resource))).toBeGreaterThan(50_000)
    expect(await giver.tryAcquireStrong(resource, { acks: 0 })).toBeNull()
    expect(taker.stats()).toMatchObject({ held: 0, insufficient: 1, cleanups: 0 })
    own.links[0]!.flow()
    const lock = await taker.adopt(ticket, { ackTimeoutMs: 5_000 })
    expect(lock.token).toBeGreaterThan(token)
    expect(await lock.release()).toBe(true)
  })

  it('is used up when the outcome of its adoption is unknown, and the lease is released', async () => {
    const proxy = await startProxy(redis.primary.port)
    const [giver, taker] = await Promise.all([connected(redis.url), connected(proxy.url)])
    const { ticket, resource, token } = await offered(giver)
    const cut = proxy.when('WAIT', { deliver: 'before', act: 'cut' })
    const error = await rejection(taker.adopt(ticket))
    await cut
    expect(error).toMatchObject({ code: 'OUTCOME_UNKNOWN', resource })
    await leaseIsRemoved(redis.primary, resource)
    await eventually('the cleanup has ended', () => taker.stats().cleanups === 0)
    expect(await rejection(giver.adopt(ticket))).toMatchObject({ code: 'LOCK_LOST' })
    expect((await giver.acquireStrong(resource)).token).toBeGreaterThan(token)
  })

  it('can be used again when its adoption did not reach the server', async () => {
    const proxy = await startProxy(redis.primary.port)
    const [giver, taker] = await Promise.all([
      connected(redis.url),
      connected({ url: proxy.url, commandTimeoutMs: 1_600 }),
    ])
    const { ticket, resource, token } = await offered(giver)
    const held = proxy.when(resource, { deliver: 'before', act: 'hold' })
    expect(await rejection(taker.adopt(ticket, { ackTimeoutMs: 100 }))).toMatchObject({
      code: 'OUTCOME_UNKNOWN',
    })
    await held
    const lock = await giver.adopt(ticket)
    expect(lock.token).toBeGreaterThan(token)
    // Only now the server gets the first one, which finds another owner.
    proxy.flow()
    await sleep(1_000)
    await lock.extend()
    expect(await giver.inspect(resource)).toMatchObject({ owner: lock.owner })
  })

  it('comes after the extension that is in flight, which the next owner does not see', async () => {
    const proxy = await startProxy(redis.primary.port)
    const [giver, taker] = await Promise.all([connected(proxy.url), connected(redis.url)])
    const lock = await giver.acquireStrong(unique(), { ttlMs: 60_000 })
    await lock.extend()
    proxy.delay(500, 'toServer')
    const extending = lock.extend(600_000)
    const began = performance.now()
    const ticket = await lock.handOver()
    expect(performance.now() - began).toBeGreaterThan(400)
    await extending
    const adopted = await taker.adopt(ticket, { ttlMs: 20_000 })
    await sleep(700)
    expect(await redis.primary.cmd('PTTL', lockKey(lock.resource))).toBeLessThan(20_000)
    expect(adopted.held).toBe(true)
  })

  it('has a token above what the fence holds, wherever the clock of the server is', async () => {
    if (!hasWallClock) return
    const clock = wallClock()
    const server = await startRedis({ env: clock.env })
    const locks = await connected({ url: server.url, replicas: 0 })
    clock.set(3_600_000)
    const { ticket, token, resource } = await offered(locks)
    clock.set(-3_600_000)
    const lock = await locks.adopt(ticket)
    expect(lock.token).toBe(token + 1n)
    expect(await server.cmd('GET', fenceKey(resource))).toBe(String(lock.token))
    // Until the clock has passed the token, and the lease is over.
    const week = 7 * 24 * 3_600_000
    expect(await server.cmd('PTTL', fenceKey(resource))).toBeGreaterThan(week)
    await server.cmd('SET', fenceKey(resource), String(token + 60_000_000_000_000n))
    const next = await locks.adopt(await lock.handOver())
    expect(next.token).toBe(token + 60_000_000_000_001n)
    expect(await server.cmd('PTTL', fenceKey(resource))).toBeGreaterThan(8 * week)
  })

  it('is refused without a token that could follow, and stays valid', async () => {
    const locks = await connected(redis.url)
    const { ticket, resource, owner } = await offered(locks)
    const fence = await redis.primary.cmd('GET', fenceKey(resource))
    for (const damaged of ['x', '9007199254740991', '-1']) {
      await redis.primary.cmd('SET', fenceKey(resource), damaged)
      expect(await rejection(locks.adopt(ticket))).toMatchObject({ code: 'BACKEND_UNAVAILABLE' })
      expect(await locks.inspect(resource)).toMatchObject({ owner })
    }
    await redis.primary.cmd('SET', fenceKey(resource), fence as string)
    expect((await locks.adopt(ticket)).held).toBe(true)
  })

  it('is not refused by a primary that was demoted as lost', async () => {
    const [old, next] = await Promise.all([startRedis(), startRedis()])
    const locks = await connected({ url: old.url, replicas: 0 })
    const { ticket, resource } = await offered(locks)
    await old.replicate(next)
    await eventually('it is a replica', async () => (await old.cmd('EXISTS', lockKey(resource))) === 0)
    const error = await rejection(locks.adopt(ticket))
    expect(error).toMatchObject({
      code: 'BACKEND_UNAVAILABLE',
      // The server refuses the adoption, or the next connection to it.
      message: expect.stringMatching(/nothing was granted; the ticket can be used again/i),
    })
  })

  it('is used up by an adoption whose reply comes after the lease has ended', async () => {
    const proxy = await startProxy(redis.primary.port)
    const [giver, taker] = await Promise.all([
      connected(redis.url),
      connected({ url: proxy.url, commandTimeoutMs: 10_000 }),
    ])
    const { ticket, resource } = await offered(giver)
    proxy.delay(700, 'toClient')
    const error = await rejection(taker.adopt(ticket, { ttlMs: 600, acks: 0 }))
    expect(error).toMatchObject({
      code: 'LOCK_LOST',
      message: expect.stringContaining('longer than a lease'),
    })
    proxy.delay(0, 'toClient')
    await leaseIsRemoved(redis.primary, resource)
    expect(taker.stats()).toMatchObject({ held: 0 })
    expect(await rejection(giver.adopt(ticket))).toMatchObject({ code: 'LOCK_LOST' })
  })

  it('is adopted after a failover where the new primary has the lease, and nowhere else', async () => {
    const own = await startPrimary()
    const proxy = await startProxy(own.primary.port)
    const locks = await connected(proxy.url)
    const [kept, lost] = [await offered(locks), await offered(locks)]
    const promoted = await own.failOver()
    await promoted.waitForReplicas(1)
    await promoted.cmd('DEL', lockKey(lost.resource))
    proxy.switchTo(promoted.port, { cut: true })
    const lock = await eventually('it is adopted', async () =>
      locks.adopt(kept.ticket, { acks: 1, ackTimeoutMs: 2_000 }).catch(() => undefined),
    )
    expect(lock.token).toBeGreaterThan(kept.token)
    expect(await rejection(locks.adopt(lost.ticket))).toMatchObject({ code: 'LOCK_LOST' })
  })
})
