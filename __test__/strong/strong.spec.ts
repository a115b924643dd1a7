/** Strong locks on a primary with two replicas: acknowledgements, keys, tokens, scripts, and batches. */
import { InsufficientReplicasError, LockManager } from 'fencelock'
import { beforeAll, describe, expect, it } from 'vitest'

import { closing, rejection, unique } from '../fixtures/locks'
import { startPrimary, type Deployment } from '../fixtures/servers/redis'
import { eventually } from '../fixtures/temp'

let redis: Deployment
beforeAll(async () => {
  redis = await startPrimary()
})

const manager = (options = {}): LockManager => closing(new LockManager({ redis: redis.url, ...options }))

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
    const locks = manager({ defaults: { ttlMs: 20_000, acks: 1, ackTimeoutMs: 1_000 } })
    const lock = await locks.acquireStrong(unique())
    expect(lock.acks!.required).toBe(1)
    expect(lock.remainingMs).toBeGreaterThan(15_000)
    expect((await locks.acquireStrong(unique(), { ttlMs: 100 })).acks!.required).toBe(1)
  })

  it('are refused with a hint for development servers without replicas', async () => {
    const locks = manager({
      redis: {
        url: redis.replicas[0]!.url.replace(String(redis.replicas[0]!.port), String(redis.primary.port)),
        replicas: 5,
      },
    })
    const error = await rejection<InsufficientReplicasError>(locks.acquireStrong(unique()))
    expect(error).toBeInstanceOf(InsufficientReplicasError)
    expect(error.message).toContain('replicas: 0')
  })
})

describe('the keys on the server', () => {
  it('have the prefix, one hash tag, and a TTL each', async () => {
    const prefix = unique('p')
    const locks = manager({ prefix })
    const names = [unique(), `}${unique()}`, `{user}${unique()}`, `a{}b${unique()}`]
    for (const name of names) await locks.acquireStrong(name, { ttlMs: 60_000 })
    const keys = (await redis.primary.cmd('KEYS', `${prefix}:*`)) as string[]
    expect(keys).toHaveLength(2 * names.length)
    const tags = new Map<string, number>()
    for (const key of keys) {
      expect(Number(await redis.primary.cmd('PTTL', key))).toBeGreaterThan(0)
      // What a cluster hashes: between the first brace and the next closing one, if there is anything.
      const tag = /^[^{]*\{([^}]+)\}/.exec(key)?.[1]
      expect(tag).toBeDefined()
      tags.set(tag!, (tags.get(tag!) ?? 0) + 1)
    }
    expect([...tags.values()]).toEqual(names.map(() => 2))
    const fences = keys.filter((key) => key.endsWith(':fence'))
    expect(fences).toHaveLength(names.length)
    for (const key of fences)
      expect(Number(await redis.primary.cmd('PTTL', key))).toBeGreaterThan(7 * 86_400_000)
  })

  it('need a prefix that does not split a resource', async () => {
    for (const prefix of ['', 'a{b', 'a}b', 'a b', 'x'.repeat(65)]) {
      expect(() => new LockManager({ redis: redis.url, prefix })).toThrow(
        expect.objectContaining({ code: 'INVALID_OPTION' }),
      )
    }
  })

  it('keep managers with different prefixes apart', async () => {
    const resource = unique()
    await manager({ prefix: 'one' }).acquireStrong(resource)
    expect(await manager({ prefix: 'two' }).tryAcquireStrong(resource)).not.toBeNull()
  })

  it('are not written where another application has a key', async () => {
    const locks = manager()
    const resource = unique()
    await redis.primary.cmd('SET', `fencelock:{${resource}}:lock`, 'mine')
    expect(await locks.tryAcquireStrong(resource)).toBeNull()
    expect(await redis.primary.cmd('GET', `fencelock:{${resource}}:lock`)).toBe('mine')
    const other = unique()
    await redis.primary.cmd('LPUSH', `fencelock:{${other}}:fence`, 'not a token')
    expect(await rejection(locks.acquireStrong(other))).toMatchObject({ code: 'BACKEND_UNAVAILABLE' })
    expect(await redis.primary.cmd('EXISTS', `fencelock:{${other}}:lock`)).toBe(0)
  })
})

describe('describing', () => {
  it('reports what is declared and what is connected, and warns of a difference', async () => {
    expect(await manager().describe()).toMatchObject({
      strategy: 'strong',
      acks: 2,
      replicas: { declared: 2, connected: 2 },
      // The servers of the tests write nothing to disk.
      warnings: [expect.stringContaining('persistence is off')],
    })
    const fewer = await manager({ redis: { url: redis.url, replicas: 1 } }).describe()
    expect(fewer.replicas).toEqual({ declared: 1, connected: 2 })
    expect(fewer.warnings.join()).toMatch(/2 replicas are connected, 1 declared/)
    const more = await manager({ redis: { url: redis.url, replicas: 4 } }).describe()
    expect(more.warnings).not.toEqual([])
    const replica = await manager({ redis: redis.replicas[0]!.url }).describe()
    expect(replica.warnings.join()).toMatch(/replica/i)
  })

  it('needs the option redis', async () => {
    const locks = closing(new LockManager())
    const calls = [
      locks.acquireStrong('x'),
      locks.describe({ strategy: 'strong' }),
      locks.inspect('x', { strategy: 'strong' }),
    ]
    for (const call of calls)
      expect(await rejection(call)).toMatchObject({ name: 'TypeError', code: 'INVALID_OPTION' })
  })
})

it('continues with higher tokens after the server lost its data', async () => {
  const locks = manager()
  const resource = unique()
  const lock = await locks.acquireStrong(resource)
  await redis.primary.cmd('FLUSHALL')
  const next = await locks.acquireStrong(resource)
  expect(next.token).toBeGreaterThan(lock.token)
  expect(await lock.release()).toBe(false)
  expect(next.held).toBe(true)
  expect(await locks.inspect(resource)).toMatchObject({ owner: next.owner })
})

it('loads its scripts again when the server lost them', async () => {
  const locks = manager()
  await (await locks.acquireStrong(unique())).release()
  await redis.primary.cmd('SCRIPT', 'FLUSH')
  const lock = await locks.acquireStrong(unique())
  expect(lock.acks).toEqual({ required: 2, received: 2 })
  await redis.primary.cmd('SCRIPT', 'FLUSH')
  await lock.extend()
  await redis.primary.cmd('SCRIPT', 'FLUSH')
  expect(await locks.inspect(lock.resource)).not.toBeNull()
  await redis.primary.cmd('SCRIPT', 'FLUSH')
  expect(await lock.release()).toBe(true)
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
