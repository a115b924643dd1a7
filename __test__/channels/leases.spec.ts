/** The channels of extensions, releases and connections, and what is published without a call. */
import { LockLostError, LockManager } from 'fencelock'
import type { Lock, ManagerOptions } from 'fencelock'
import { lose } from 'fencelock/testing'
import { beforeAll, beforeEach, describe, expect, it } from 'vitest'

import { closing, rejection, unique } from '../fixtures/locks'
import { startProxy } from '../fixtures/servers/proxy'
import { startPrimary } from '../fixtures/servers/redis'
import { strategies } from '../fixtures/strategies'
import { eventually, sleep } from '../fixtures/temp'
import { patient } from '../strong/support'
import { ENDED, FAILED, listen, only, record } from './support'

const factsOf = ({ resources, owner, token }: Lock) => ({ resources, owner, token })

describe.each(strategies)('leases: $name', ({ strategy, start }) => {
  let options: ManagerOptions
  beforeAll(async () => {
    options = await start()
  })
  let locks: LockManager
  beforeEach(async () => {
    locks = closing(new LockManager(options))
    await locks.connect()
  })

  it('publish an extension, and one of a lease that has ended', async () => {
    const lock = await locks.acquire([unique('a'), unique('b')])
    const seen = record('fencelock:extend')
    await lock.extend()
    const context = only(seen, ENDED)
    expect(context).toMatchObject({ ...factsOf(lock), strategy, outcome: 'extended', error: undefined })
    expect(context.ttlMs).toBeUndefined()
    expect(context.heldMs).toBeGreaterThan(0)
    seen.length = 0
    await lose(lock)
    const error = await rejection(lock.extend(5_000))
    expect(only(seen, FAILED)).toMatchObject({ ttlMs: 5_000, outcome: 'lost', heldMs: undefined, error })
    seen.length = 0
    await rejection(lock.extend(1))
    expect(seen).toEqual([])
  })

  it('publish a release once, and how long the lock was held', async () => {
    const lock = await locks.acquire(unique())
    await sleep(60)
    const [seen, lost] = [record('fencelock:release'), listen('fencelock:lost')]
    expect(await Promise.all([lock.release(), lock.release()])).toEqual([true, true])
    const context = only(seen, ENDED)
    expect(context).toMatchObject({ ...factsOf(lock), strategy, outcome: 'released', error: undefined })
    expect(context.heldMs).toBeGreaterThanOrEqual(59)
    expect(context.serverAddress).toBe(strategy === 'strong' ? '127.0.0.1' : undefined)
    expect(lost).toEqual([])
  })

  it('publish the release of withLock, and of await using', async () => {
    const [acquired, released] = [record('fencelock:acquire'), record('fencelock:release')]
    const owner = await locks.withLock(unique(), ({ owner: own }) => own)
    expect(only(acquired, ENDED)).toMatchObject({ outcome: 'granted', owner })
    expect(only(released, ENDED)).toMatchObject({ outcome: 'released', owner })
    released.length = 0
    await (await locks.acquire(unique()))[Symbol.asyncDispose]()
    expect(only(released, ENDED)).toMatchObject({ outcome: 'released' })
  })

  it('publish a loss that only the release found, once', async () => {
    const lock = await locks.acquire(unique(), { ttlMs: 60_000 })
    const [seen, lost] = [record('fencelock:release'), listen('fencelock:lost')]
    await locks.forceRelease(lock.resource)
    expect(await lock.release()).toBe(false)
    expect(only(seen, ENDED)).toMatchObject({ outcome: 'lost', error: undefined })
    await eventually('it is published', () => lost.length === 1)
    expect(lost[0]).toMatchObject({ ...factsOf(lock), strategy, cause: 'taken' })
    expect(lost[0]!.heldMs).toBeGreaterThan(0)
    expect(lost[0]!.error).toBeInstanceOf(LockLostError)
    expect(lost[0]!.error).toMatchObject({ code: 'LOCK_LOST', strategy, resource: lock.resource })
    expect(locks.stats()).toMatchObject({ lost: 1, losses: { taken: 1, expired: 0, failover: 0, file: 0 } })
  })

  it('publish a loss that was found before the release once, and count it once', async () => {
    const lock = await locks.acquire(unique(), { ttlMs: 60_000 })
    const [seen, lost] = [record('fencelock:release'), listen('fencelock:lost')]
    await lose(lock, 'for a test')
    await eventually('it is published', () => lost.length === 1)
    expect(await lock.release()).toBe(false)
    expect(only(seen, ENDED)).toMatchObject({ outcome: 'lost', heldMs: undefined })
    await sleep(50)
    expect(lost).toHaveLength(1)
    expect(locks.stats().lost).toBe(1)
  })

  it('publish an expiry in time, although nothing asks for the lease', async () => {
    const lost = listen('fencelock:lost')
    const early = await locks.acquire(unique(), { ttlMs: 1_500 })
    const late = await locks.acquire(unique(), { ttlMs: 2_000 })
    const left = late.remainingMs
    const released = await locks.acquire(unique(), { ttlMs: 1_700 })
    expect(await released.release()).toBe(true)
    await eventually('they are published', () => lost.length === 2)
    expect(new Map(lost.map(({ owner, cause }) => [owner, cause]))).toEqual(
      new Map([
        [early.owner, 'expired'],
        [late.owner, 'expired'],
      ]),
    )
    expect(lost.find(({ owner }) => owner === late.owner)!.heldMs).toBeGreaterThan(left - 20)
    expect(locks.stats()).toMatchObject({ lost: 2, losses: { expired: 2 }, held: 0 })
  })

  it('publish each renewal', async () => {
    const renewed = listen('fencelock:renewed')
    const lock = await locks.acquire(unique(), { ttlMs: 2_400, renew: true })
    await eventually('it is renewed twice', () => renewed.length >= 2)
    const { owner, token, resources } = lock
    expect(renewed[0]).toMatchObject({ owner, token, resources, strategy, outcome: 'extended' })
    expect(renewed[0]!.error).toBeUndefined()
    for (const { lagMs, durationMs, remainingMs, heldMs } of renewed) {
      expect(lagMs).toBeGreaterThanOrEqual(0)
      expect(durationMs).toBeGreaterThanOrEqual(0)
      expect(remainingMs).toBeGreaterThan(0)
      expect(heldMs).toBeGreaterThanOrEqual(100)
    }
    await lock.release()
  })

  it('publish a renewal that finds the lease gone, and the loss', async () => {
    const [renewed, lost] = [listen('fencelock:renewed'), listen('fencelock:lost')]
    const lock = await locks.acquire(unique(), { ttlMs: 3_000, renew: true })
    await locks.forceRelease(lock.resource)
    const failed = await eventually('both are published', () =>
      lost.length > 0 ? renewed.findLast(({ owner }) => owner === lock.owner) : undefined,
    )
    expect(failed).toMatchObject({ outcome: 'lost', error: { code: 'LOCK_LOST' } })
    expect(lost.map(({ owner, cause }) => [owner, cause])).toEqual([[lock.owner, 'taken']])
  })

  it('publish connecting, and what fails about it', async () => {
    const seen = record('fencelock:connect')
    await closing(new LockManager(options)).connect()
    const server = strategy === 'strong' ? { serverAddress: '127.0.0.1', serverPort: expect.any(Number) } : {}
    expect(only(seen, ENDED)).toMatchObject({ strategy, outcome: 'connected', error: undefined, ...server })
    seen.length = 0
    const error = await rejection(
      closing(new LockManager({ redis: { url: 'redis://127.0.0.1:1', connectTimeoutMs: 200 } })).connect(),
    )
    expect(only(seen, FAILED)).toMatchObject({ strategy: 'strong', outcome: 'unavailable', error })
  })

  it('are counted in stats(): waits, holds and connections', async () => {
    const other = closing(new LockManager(options))
    const resource = unique()
    const lock = await locks.acquire(resource)
    await rejection(other.acquire(resource, { waitMs: 120 }))
    await lock.release()
    // A quorum grants and refuses before its last node is connected.
    await eventually('all are open', () => other.stats().connections.every(({ open }) => open > 0))
    const { waitMs, holdMs, connections } = { ...other.stats(), holdMs: locks.stats().holdMs }
    expect(waitMs.count).toBe(1)
    expect(waitMs.max).toBeGreaterThan(50)
    expect(waitMs.p50).toBe(waitMs.max)
    expect(holdMs).toMatchObject({ count: 1, p99: holdMs.max })
    expect(holdMs.max).toBeGreaterThanOrEqual(119)
    const expected = { strong: 1, quorum: 3, local: 0 }[strategy]
    expect(connections).toHaveLength(expected)
    for (const each of connections) {
      expect(each).toMatchObject({ strategy, serverAddress: '127.0.0.1', serverPort: expect.any(Number) })
      expect(each.open).toBeGreaterThan(0)
    }
  })
})

describe('strong locks', () => {
  it('publish a hand-over as a release', async () => {
    const locks = closing(new LockManager({ redis: (await startPrimary()).url, defaults: patient }))
    const lock = await locks.acquire(unique())
    const [seen, lost] = [record('fencelock:release'), listen('fencelock:lost')]
    await lock.handOver()
    expect(only(seen, ENDED)).toMatchObject({ outcome: 'handed-over', owner: lock.owner })
    expect(await lock.release()).toBe(false)
    expect(seen).toHaveLength(4)
    expect(lost).toEqual([])
  })

  it('publish connections that open, break, cannot be made and are closed', async () => {
    const changes = listen('fencelock:connection')
    const proxy = await startProxy((await startPrimary()).primary.port)
    const locks = new LockManager({ redis: { url: proxy.url, connectTimeoutMs: 3_000 }, defaults: patient })
    const lock = await locks.acquire(unique(), { ttlMs: 60_000 })
    await eventually('it is published', () => changes.length > 0)
    const server = { strategy: 'strong', serverAddress: '127.0.0.1', serverPort: proxy.port }
    expect(changes[0]).toEqual({ ...server, state: 'opened', open: 1, reason: undefined })
    await proxy.stop()
    await rejection(locks.acquire(unique()))
    await eventually('a failure is published', () => changes.some(({ state }) => state === 'failed'))
    const broken = changes.find(({ state }) => state === 'broken')!
    expect(broken).toMatchObject(server)
    expect(broken.reason).toMatch(/connection/i)
    expect(changes.findLast(({ state }) => state === 'broken')!.open).toBe(0)
    expect(locks.stats().connections).toEqual([{ ...server, open: 0 }])
    await lock.release().catch(() => false)
    await locks.close({ drainMs: 0 })
  })

  it('publish that closing the manager closes the connections', async () => {
    const changes = listen('fencelock:connection')
    const locks = new LockManager({ redis: (await startPrimary()).url, defaults: patient })
    await (await locks.acquire(unique())).release()
    await locks.close()
    await eventually('all are closed', () => changes.at(-1)?.state === 'closed' && changes.at(-1)?.open === 0)
  })
})

describe('local locks', () => {
  it('publish a release on the calling thread: it has ended when `end` is published', () => {
    const locks = closing(new LockManager({ local: ':memory:' }))
    const lock = locks.tryAcquireLocalSync(unique())!
    const seen = record('fencelock:release')
    expect([lock.releaseSync(), lock.releaseSync()]).toEqual([true, false])
    expect(seen.map(({ event, outcome }) => [event, outcome])).toEqual([
      ['start', undefined],
      ['end', 'released'],
    ])
  })
})
