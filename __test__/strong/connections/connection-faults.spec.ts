/** Strong locks when connections to the primary break, are slow, or lose replies; the faults are verified. */
import { InsufficientReplicasError, LockManager, OutcomeUnknownError } from 'fencelock'
import { beforeAll, describe, expect, it } from 'vitest'

import { onCleanup } from '../../fixtures/cleanup'
import { closing, rejection, unique } from '../../fixtures/locks'
import { startProxy } from '../../fixtures/servers/proxy'
import { startPrimary, type Deployment } from '../../fixtures/servers/redis'
import { eventually, sleep } from '../../fixtures/temp'
import {
  connected,
  fenceKey,
  leaseExists,
  leaseIsRemoved,
  lockKey,
  patient,
  replicationIsIdle,
} from '../support'

describe('with a proxy in front of the primary', () => {
  let redis: Deployment
  beforeAll(async () => {
    redis = await startPrimary()
  })

  it('reports an unknown outcome when the connection breaks between the script and its WAIT, and cleans up', async () => {
    const proxy = await startProxy(redis.primary.port)
    const locks = await connected(proxy.url)
    const resource = unique()
    const cut = proxy.when('WAIT', { deliver: 'before', act: 'cut' })
    const error = await rejection(locks.acquireStrong(resource, { ttlMs: 60_000 }))
    await cut
    expect(error).toBeInstanceOf(OutcomeUnknownError)
    expect(error).toMatchObject({ code: 'OUTCOME_UNKNOWN', resource })
    // The fault took effect: without the cleanup the key would stay for a minute.
    await leaseIsRemoved(redis.primary, resource)
    await eventually('the cleanup has ended', () => locks.stats().cleanups === 0)
    expect(await redis.primary.cmd('EXISTS', fenceKey(resource))).toBe(1) // it had been granted
    expect(locks.stats()).toMatchObject({ unknown: 1, held: 0 })
    expect((await locks.acquireStrong(resource)).acks).toEqual({ required: 2, received: 2 })
  })

  it('reports an unknown outcome when no reply arrives, and closes the connection', async () => {
    const proxy = await startProxy(redis.primary.port)
    const locks = await connected({ url: proxy.url, commandTimeoutMs: 1_600 })
    const resource = unique()
    const swallowed = proxy.when('WAIT', { act: 'swallow' })
    const began = performance.now()
    const error = await rejection(locks.acquireStrong(resource, { ttlMs: 60_000, ackTimeoutMs: 100 }))
    await swallowed
    expect(error).toMatchObject({ code: 'OUTCOME_UNKNOWN' })
    expect(performance.now() - began).toBeLessThan(8_000)
    await leaseIsRemoved(redis.primary, resource)
    expect((await locks.acquireStrong(resource)).acks).toEqual({ required: 2, received: 2 })
  })

  it('cleans up a request that arrives late', async () => {
    const proxy = await startProxy(redis.primary.port)
    const locks = await connected({ url: proxy.url, commandTimeoutMs: 1_600 })
    const resource = unique()
    const held = proxy.when(resource, { deliver: 'before', act: 'hold' })
    const error = await rejection(locks.acquireStrong(resource, { ttlMs: 60_000, ackTimeoutMs: 100 }))
    await held
    expect(error).toMatchObject({ code: 'OUTCOME_UNKNOWN' })
    await sleep(300) // by now a cleanup has found nothing
    expect(await redis.primary.cmd('EXISTS', lockKey(resource))).toBe(0)
    proxy.flow() // only now does the script reach the server
    await eventually(
      'the script ran',
      async () => (await redis.primary.cmd('EXISTS', fenceKey(resource))) === 1,
    )
    await leaseIsRemoved(redis.primary, resource, 15_000)
    await eventually('the cleanup has ended', () => locks.stats().cleanups === 0)
  })

  it.each([
    ['a grant', 'between two calls', false],
    ['a grant', 'before the server read it', true],
    ['an extension', 'between two calls', false],
    ['an extension', 'before the server read it', true],
  ])('for %s accepts no acknowledgement over a connection that was cut %s', async (what, _, inMidCall) => {
    const proxy = await startProxy(redis.primary.port)
    const locks = closing(new LockManager({ redis: proxy.url, defaults: patient }))
    const held = await locks.acquireStrong(unique(), { ttlMs: 60_000 })
    await held.extend() // by now each kind of connection exists
    await replicationIsIdle(redis)
    for (const replica of redis.replicas) replica.pause()
    onCleanup(async () => {
      for (const replica of redis.replicas) replica.resume()
      await redis.primary.waitForReplicas(2)
    })
    // The fault takes effect: a WAIT on any connection but the one that writes next returns both replicas.
    const other = await redis.primary.connect()
    await other.cmd('PING')
    expect(await other.cmd('WAIT', 2, 50)).toBe(2)
    other.close()

    const granted: string[] = []
    const call = (): Promise<unknown> => {
      if (what === 'an extension') return held.extend()
      granted.push(unique())
      return locks.acquireStrong(granted.at(-1)!, { ttlMs: 60_000, ackTimeoutMs: 100 })
    }
    const before = proxy.accepted
    if (inMidCall) {
      const cut = proxy.when('EVALSHA', { deliver: 'before', act: 'cut' })
      expect(await rejection(call())).toMatchObject({ code: 'OUTCOME_UNKNOWN' })
      await cut
    } else {
      proxy.cut()
    }
    const refused = await eventually('a call over a new connection', async () => {
      // The cut may become visible only when something is sent, or after it was.
      const error = await rejection<Error & { code?: string }>(call())
      return error.code === 'INSUFFICIENT_REPLICAS' && error
    })
    expect(proxy.accepted).toBeGreaterThan(before)
    expect(refused).toBeInstanceOf(InsufficientReplicasError)
    expect(refused).toMatchObject({ required: 2, received: 0 })
    for (const resource of granted) await leaseIsRemoved(redis.primary, resource)
  })

  it('leaves no key without a holder behind, however often the connection breaks', async () => {
    const proxy = await startProxy(redis.primary.port)
    const locks = closing(new LockManager({ redis: proxy.url, defaults: patient }))
    const owners = new Set<unknown>()
    for (let round = 0; round < 10; round++) {
      // Three waves: before the cut, during it, and over the connections that follow.
      for (const wave of ['before', 'during', 'after']) {
        const resources = Array.from({ length: 20 }, () => unique())
        const calls = resources.map((resource) => locks.acquireStrong(resource, { ttlMs: 6_000 }))
        if (wave === 'during') {
          if (round % 2 === 0) setTimeout(() => proxy.cut(), round)
          else void proxy.when('WAIT', { deliver: 'before', act: 'cut' })
        }
        for (const outcome of await Promise.allSettled(calls)) {
          if (outcome.status === 'rejected') {
            expect(['OUTCOME_UNKNOWN', 'BACKEND_UNAVAILABLE']).toContain(outcome.reason.code)
            continue
          }
          owners.add(outcome.value.owner)
          // Acknowledged means that every replica has it.
          for (const replica of redis.replicas) {
            expect(await replica.cmd('GET', lockKey(outcome.value.resource))).toBe(outcome.value.owner)
          }
        }
      }
    }
    expect(owners.size).toBeGreaterThan(0)
    expect(locks.stats().unknown).toBeGreaterThan(0)
    await eventually('the cleanups have ended', () => locks.stats().cleanups === 0, 25_000)
    for (const key of (await redis.primary.cmd('KEYS', 'fencelock:*:lock')) as string[]) {
      const owner = await redis.primary.cmd('GET', key)
      // Null: its lease ended since then.
      if (owner !== null) expect(owners).toContain(owner)
    }
  })

  it('reports an unknown outcome of an extension whose reply was lost', async () => {
    const proxy = await startProxy(redis.primary.port)
    const locks = closing(new LockManager({ redis: proxy.url, defaults: patient }))
    const lock = await locks.acquireStrong(unique(), { ttlMs: 20_000 })
    await lock.extend()
    const cut = proxy.when('WAIT', { act: 'cut' })
    expect(await rejection(lock.extend(60_000))).toMatchObject({ code: 'OUTCOME_UNKNOWN' })
    await cut
    expect(lock.held).toBe(true)
    expect(lock.remainingMs).toBeLessThan(20_000)
    await lock.extend(60_000)
    expect(lock.remainingMs).toBeGreaterThan(50_000)
    expect(await lock.release()).toBe(true)
  })

  it('cleans up after a release whose reply was lost', async () => {
    const proxy = await startProxy(redis.primary.port)
    const locks = closing(new LockManager({ redis: proxy.url, defaults: patient }))
    const lock = await locks.acquireStrong(unique(), { ttlMs: 60_000 })
    proxy.refusing = true
    proxy.cut()
    const error = await rejection(lock.release())
    expect(['OUTCOME_UNKNOWN', 'BACKEND_UNAVAILABLE']).toContain((error as { code?: string }).code)
    expect(await redis.primary.cmd('EXISTS', lockKey(lock.resource))).toBe(1)
    proxy.refusing = false
    await leaseIsRemoved(redis.primary, lock.resource, 15_000)
  })

  it('releases a grant that arrives after its deadline', async () => {
    const proxy = await startProxy(redis.primary.port)
    const locks = await connected({ url: proxy.url, commandTimeoutMs: 10_000 })
    const resource = unique()
    const ttlMs = 4_000
    proxy.hold()
    const call = rejection(locks.acquireStrong(resource, { ttlMs }))
    await sleep(ttlMs)
    proxy.flow('toServer')
    // For the server the lease begins only now; for the client it has ended.
    await leaseExists(redis.primary, resource)
    const left = Number(await redis.primary.cmd('PTTL', lockKey(resource)))
    expect(left).toBeGreaterThan(ttlMs / 4)
    const began = performance.now()
    proxy.flow()
    expect(await call).toMatchObject({ code: 'LOCK_LOST', resource })
    expect(await redis.primary.cmd('PTTL', lockKey(resource))).toBe(-2)
    expect(performance.now() - began).toBeLessThan(left) // long before the key would have expired
    expect(locks.stats().held).toBe(0)
    // A late reply does not harm a lease that is long enough.
    proxy.delay(300, 'toClient')
    expect((await locks.acquireStrong(resource, { ttlMs: 10_000 })).held).toBe(true)
  })

  it('disposes without an error when the backend is unreachable, and closes in time', async () => {
    const proxy = await startProxy(redis.primary.port)
    const locks = new LockManager({ redis: proxy.url, defaults: patient })
    const [one, two] = [await locks.acquireStrong(unique()), await locks.acquireStrong(unique())]
    await proxy.stop()
    await one[Symbol.asyncDispose]()
    const began = performance.now()
    await locks.close({ drainMs: 0 })
    expect(performance.now() - began).toBeLessThan(5_000)
    expect(two.held).toBe(false)
  })
})
