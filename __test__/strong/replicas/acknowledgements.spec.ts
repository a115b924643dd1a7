/** The acknowledgements of strong locks: from whom, how many, and what they cost for many locks at once. */
import { InsufficientReplicasError, LockManager } from 'fencelock'
import { beforeAll, describe, expect, it } from 'vitest'

import { closing, rejection, unique } from '../../fixtures/locks'
import { startPrimary, type Deployment } from '../../fixtures/servers/redis'
import { eventually } from '../../fixtures/temp'
import { patient } from '../support'

let redis: Deployment
beforeAll(async () => {
  redis = await startPrimary()
})

const manager = (options = {}): LockManager =>
  closing(new LockManager({ redis: redis.url, defaults: patient, ...options }))

describe('acknowledgements', () => {
  it('come from all declared replicas, or from as many as requested', async () => {
    const locks = manager()
    for (const [acks, required] of [
      [undefined, 2],
      ['all', 2],
      ['majority', 2],
      [2, 2],
      [1, 1],
    ] as const) {
      const lock = await locks.acquireStrong(unique(), { acks })
      expect(lock.acks!.required).toBe(required)
      expect(lock.acks!.received).toBeGreaterThanOrEqual(required)
    }
    const none = await locks.acquireStrong(unique(), { acks: 0 })
    expect(none.acks).toBeNull()
  })

  it('are counted among the declared replicas only', async () => {
    const one = manager({ redis: { url: redis.url, replicas: 1 } })
    expect((await one.acquireStrong(unique())).acks!.required).toBe(1)
    expect((await one.acquireStrong(unique(), { acks: 'majority' })).acks!.required).toBe(1)
    const none = manager({ redis: { url: redis.url, replicas: 0 } })
    expect((await none.acquireStrong(unique())).acks).toBeNull()
    expect((await none.acquireStrong(unique(), { acks: 'majority' })).acks).toBeNull()
    const three = manager({ redis: { url: redis.url, replicas: 3 } })
    expect((await three.acquireStrong(unique(), { acks: 'majority' })).acks!.required).toBe(2)
    const resource = unique()
    expect(await rejection(three.acquireStrong(resource))).toMatchObject({
      code: 'INSUFFICIENT_REPLICAS',
      required: 3,
      received: 2,
      connected: 2,
      rolledBack: true,
    })
    expect(await one.inspect(resource)).toBeNull()
  })

  it('cannot be more than declared', async () => {
    const locks = manager()
    for (const acks of [3, -1, 1.5, Number.NaN]) {
      expect(await rejection(locks.acquireStrong('x', { acks }))).toMatchObject({
        name: 'RangeError',
        code: 'INVALID_OPTION',
      })
    }
    for (const acks of ['most', null, 1n]) {
      expect(await rejection(locks.acquireStrong('x', { acks: acks as never }))).toMatchObject({
        name: 'TypeError',
        code: 'INVALID_OPTION',
      })
    }
    for (const ackTimeoutMs of [0, 51, 1.5]) {
      const error = await rejection(locks.acquireStrong('x', { ttlMs: 100, ackTimeoutMs }))
      expect(error).toMatchObject({ name: 'RangeError', code: 'INVALID_OPTION' })
    }
  })

  it('take the defaults of the manager, with a timeout of at most half of a short lease', async () => {
    const locks = manager({ defaults: { ttlMs: 20_000, acks: 1, ackTimeoutMs: 2_000 } })
    const lock = await locks.acquireStrong(unique())
    expect(lock.acks!.required).toBe(1)
    expect(lock.remainingMs).toBeGreaterThan(15_000)
    // Half of that is less than the timeout, which could not be given for such a lease.
    expect((await locks.acquireStrong(unique(), { ttlMs: 3_999 })).acks!.required).toBe(1)
  })

  it('are refused with what was declared, and a hint to declare what the server has', async () => {
    const locks = manager({
      redis: {
        url: redis.replicas[0]!.url.replace(String(redis.replicas[0]!.port), String(redis.primary.port)),
        replicas: 5,
      },
    })
    const error = await rejection<InsufficientReplicasError>(
      locks.acquireStrong(unique(), { ackTimeoutMs: 100 }),
    )
    expect(error).toBeInstanceOf(InsufficientReplicasError)
    expect(error.message).toContain('`replicas` declares 5; ')
    expect(error.message).toContain(
      'if the server has no more than 2, declare that: redis: { url, replicas: 2 };',
    )
  })
})

it('needs few script calls and few WAITs for many acquires at once', async () => {
  const locks = manager()
  await (await locks.acquireStrong(unique())).release()
  const before = await redis.primary.calls()
  const held = await Promise.all(Array.from({ length: 500 }, () => locks.acquireStrong(unique())))
  const after = await redis.primary.calls()
  expect(new Set(held.map((lock) => lock.owner)).size).toBe(500)
  expect(after.wait! - before.wait!).toBeLessThan(50)
  expect(after.evalsha! - before.evalsha!).toBeLessThan(60)
  expect(await Promise.all(held.map((lock) => lock.release()))).not.toContain(false)
  await eventually('no lock is held', () => locks.stats().held === 0)
})
