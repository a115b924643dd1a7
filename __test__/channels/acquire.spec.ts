/** The channels of acquires and waits: each way in which a call can end, on each strategy. */
import { InsufficientReplicasError, LockLostError, LockManager, OutcomeUnknownError } from 'fencelock'
import type { ManagerOptions } from 'fencelock'
import { beforeAll, beforeEach, describe, expect, it } from 'vitest'

import { closing, rejection, unique } from '../fixtures/locks'
import { startProxy } from '../fixtures/servers/proxy'
import { startPrimary, type Deployment } from '../fixtures/servers/redis'
import { block } from '../fixtures/stalls'
import { strategies } from '../fixtures/strategies'
import { eventually } from '../fixtures/temp'
import { connected, patient } from '../strong/support'
import { ENDED, FAILED, only, record } from './support'

describe.each(strategies)('acquires: $name', ({ strategy, start }) => {
  let options: ManagerOptions
  beforeAll(async () => {
    options = await start()
  })
  let locks: LockManager
  let other: LockManager
  beforeEach(() => {
    locks = closing(new LockManager(options))
    other = closing(new LockManager(options))
  })

  it('publish a grant once, with the lock in it', async () => {
    await locks.connect()
    const [seen, waits] = [record('fencelock:acquire'), record('fencelock:wait')]
    const [a, b] = [unique('a'), unique('b')]
    const lock = await locks.acquire([a, b], { ttlMs: 20_000, waitMs: 500 })
    const { owner, token, acks } = lock
    const context = only(seen, ENDED)
    expect(context).toEqual({
      resources: [a, b],
      strategy,
      ttlMs: 20_000,
      waitMs: 500,
      fair: false,
      adopted: false,
      outcome: 'granted',
      owner,
      token,
      acks,
      waitedMs: 0,
      serverAddress: strategy === 'strong' ? '127.0.0.1' : undefined,
      serverPort: strategy === 'strong' ? expect.any(Number) : undefined,
      error: undefined,
    })
    expect(waits).toEqual([])
  })

  it('publish that a lock is busy as an answer, also if the call rejects', async () => {
    const resource = unique()
    await other.acquire(resource)
    const seen = record('fencelock:acquire')
    expect(await locks.tryAcquire(resource)).toBeNull()
    expect(only(seen, ENDED)).toMatchObject({ outcome: 'busy', owner: undefined, error: undefined })
    seen.length = 0
    expect(await rejection(locks.acquire(resource))).toMatchObject({ code: 'LOCK_HELD' })
    expect(only(seen, ENDED)).toMatchObject({ outcome: 'busy', waitedMs: 0, error: undefined })
  })

  it('publish a wait that ends with the lock, and how long it took', async () => {
    const resource = unique()
    const first = await other.acquire(resource)
    const [seen, waits] = [record('fencelock:acquire'), record('fencelock:wait')]
    const second = locks.acquire(resource, { waitMs: 20_000 })
    await eventually('it waits', () => waits.length === 2)
    expect(waits.map(({ event }) => event)).toEqual(['start', 'end'])
    await first.release()
    await second
    const wait = only(waits, ENDED)
    expect(wait).toMatchObject({ resources: [resource], strategy, waitMs: 20_000, outcome: 'granted' })
    expect(wait.waitedMs).toBeGreaterThan(0)
    expect(only(seen, ENDED)).toMatchObject({ outcome: 'granted', waitedMs: wait.waitedMs })
  })

  it.each([false, true])('publish a wait that is over in vain, fair: %s', async (fair) => {
    const resource = unique()
    await other.acquire(resource)
    const [seen, waits] = [record('fencelock:acquire'), record('fencelock:wait')]
    expect(await rejection(locks.acquire(resource, { waitMs: 150, fair }))).toMatchObject({
      code: 'LOCK_HELD',
    })
    expect(only(waits, ENDED)).toMatchObject({ outcome: 'timeout', fair, error: undefined })
    expect(only(seen, ENDED)).toMatchObject({ outcome: 'timeout', fair, error: undefined })
  })

  it('publish an abort, before the call, while it waits, and of its reason alone', async () => {
    const resource = unique()
    await other.acquire(resource)
    const [seen, waits] = [record('fencelock:acquire'), record('fencelock:wait')]
    const reason = new Error('enough')
    const before = { waitMs: 10_000, signal: AbortSignal.abort(reason) }
    expect(await rejection(locks.acquire(resource, before))).toBe(reason)
    expect(only(seen, ENDED)).toMatchObject({ outcome: 'aborted', waitedMs: 0, error: undefined })
    seen.length = 0
    const controller = new AbortController()
    const waiting = rejection(locks.acquire(resource, { waitMs: 10_000, signal: controller.signal }))
    await eventually('it waits', () => waits.length === 2)
    controller.abort(reason)
    expect(await waiting).toBe(reason)
    expect(only(seen, ENDED)).toMatchObject({ outcome: 'aborted', error: undefined })
    expect(only(waits, ENDED)).toMatchObject({ outcome: 'aborted', error: undefined })
    // What the addon says of the call later is published no more.
    await eventually('it is over', () => locks.stats().pending === 0)
    expect([seen.length, waits.length]).toEqual([4, 4])
  })

  it('publish that the manager was closed, before the call and while it waits', async () => {
    const resource = unique()
    await other.acquire(resource)
    const [seen, waits] = [record('fencelock:acquire'), record('fencelock:wait')]
    const waiting = rejection(locks.acquire(resource, { waitMs: 10_000 }))
    await eventually('it waits', () => waits.length === 2)
    await locks.close({ drainMs: 0 })
    expect(await waiting).toMatchObject({ code: 'CLOSED' })
    expect(only(seen, ENDED)).toMatchObject({ outcome: 'closed', error: undefined })
    expect(only(waits, ENDED)).toMatchObject({ outcome: 'closed', error: undefined })
    seen.length = 0
    expect(await rejection(locks.acquire(unique()))).toMatchObject({ code: 'CLOSED' })
    expect(only(seen, ENDED)).toMatchObject({ outcome: 'closed', error: undefined })
  })

  it('publish a grant that came too late as an error', async () => {
    const seen = record('fencelock:acquire')
    await locks.connect()
    let error: unknown
    // A busy machine may send it late, or get no acknowledgements within half of the TTL.
    for (let round = 0; round < 5 && !(error instanceof LockLostError); round++) {
      seen.length = 0
      const call = locks.acquire(unique(), { ttlMs: 400 })
      // It is sent by then, and nothing can have come back yet.
      for (let reactions = 0; reactions < 20; reactions++) await Promise.resolve()
      block(1_000)
      error = await call.then(
        (lock) => {
          expect(lock.held, 'never one whose time is over').toBe(true)
        },
        (reason: unknown) => reason,
      )
    }
    expect(error).toBeInstanceOf(LockLostError)
    expect(only(seen, FAILED)).toMatchObject({ outcome: 'late', error, owner: undefined })
  })

  it('publish each call of many that are settled together', async () => {
    const seen = record('fencelock:acquire')
    const names = Array.from({ length: 100 }, () => unique())
    const all = await Promise.all(names.map((name) => locks.acquire(name)))
    expect(seen).toHaveLength(400)
    const granted = seen.filter(({ event }) => event === 'asyncEnd').map(({ context }) => context.owner)
    expect(new Set(granted)).toEqual(new Set(all.map(({ owner }) => owner)))
    expect(new Set(granted).size).toBe(100)
    await Promise.all(all.map((lock) => lock.release()))
  })

  it('publish no call whose arguments are invalid', async () => {
    const seen = record('fencelock:acquire')
    await rejection(locks.acquire('', {}))
    await rejection(locks.acquire('x', { ttlMs: 0 }))
    expect(seen).toEqual([])
  })
})

describe('acquires of strong locks', () => {
  let redis: Deployment
  beforeAll(async () => {
    redis = await startPrimary()
  })

  it('publish missing acknowledgements, an unknown outcome and an unreachable server', async () => {
    const seen = record('fencelock:acquire')
    const three = closing(new LockManager({ redis: { url: redis.url, replicas: 3 } }))
    const missing = await rejection(three.acquire(unique()))
    expect(missing).toBeInstanceOf(InsufficientReplicasError)
    expect(only(seen, FAILED)).toMatchObject({ outcome: 'insufficient', error: missing })
    seen.length = 0

    const proxy = await startProxy(redis.primary.port)
    const locks = await connected(proxy.url)
    seen.length = 0
    const cut = proxy.when('WAIT', { deliver: 'before', act: 'cut' })
    const unknown = await rejection(locks.acquire(unique()))
    await cut
    expect(unknown).toBeInstanceOf(OutcomeUnknownError)
    const server = { serverAddress: '127.0.0.1', serverPort: proxy.port }
    expect(only(seen, FAILED)).toMatchObject({ outcome: 'unknown', error: unknown, ...server })
    seen.length = 0

    const away = closing(new LockManager({ redis: { url: 'redis://127.0.0.1:1', connectTimeoutMs: 200 } }))
    const unavailable = await rejection(away.acquire(unique()))
    expect(only(seen, FAILED)).toMatchObject({
      outcome: 'unavailable',
      error: unavailable,
      serverAddress: undefined,
    })
  })

  it('publish an adoption, and one that has nothing to adopt', async () => {
    const [giver, taker] = [0, 1].map(() => closing(new LockManager({ redis: redis.url, defaults: patient })))
    const ticket = await (await giver!.acquire(unique(), { ttlMs: 20_000 })).handOver()
    const seen = record('fencelock:acquire')
    const { owner } = await taker!.adopt(ticket)
    expect(only(seen, ENDED)).toMatchObject({ outcome: 'granted', adopted: true, ttlMs: 20_000, owner })
    seen.length = 0
    const error = await rejection(taker!.adopt(ticket))
    expect(only(seen, FAILED)).toMatchObject({ outcome: 'lost', adopted: true, error })
  })
})

describe('acquires on the calling thread', () => {
  it('have ended when `end` is published', () => {
    const locks = closing(new LockManager({ local: ':memory:' }))
    const seen = record('fencelock:acquire')
    const resource = unique()
    const lock = locks.tryAcquireLocalSync(resource)!
    expect(seen.map(({ event, outcome }) => [event, outcome])).toEqual([
      ['start', undefined],
      ['end', 'granted'],
    ])
    expect(seen[1]!.context).toMatchObject({ owner: lock.owner, token: lock.token, acks: null })
    seen.length = 0
    expect(locks.tryAcquireLocalSync(resource)).toBeNull()
    expect(seen.map(({ event, outcome }) => [event, outcome])).toEqual([
      ['start', undefined],
      ['end', 'busy'],
    ])
    lock.releaseSync()
  })

  it('publish a failure, once', async () => {
    const locks = closing(new LockManager({ local: '/nowhere/locks.sqlite' }))
    const seen = record('fencelock:acquire')
    expect(() => locks.tryAcquireLocalSync(unique())).toThrow(/nowhere/)
    expect(seen.map(({ event }) => event)).toEqual(['start', 'error', 'end'])
    expect(seen[0]!.context).toMatchObject({ outcome: 'unavailable' })
    await locks.close()
  })
})
