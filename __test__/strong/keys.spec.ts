/**
 * What strong locks store on a server: their keys and scripts, and what happens when the server lost them.
 */
import { LockManager } from 'fencelock'
import { beforeAll, describe, expect, it } from 'vitest'

import { closing, rejection, unique } from '../fixtures/locks'
import { startPrimary, type Deployment } from '../fixtures/servers/redis'
import { eventually } from '../fixtures/temp'
import { fenceKey, lockKey, patient } from './support'

let redis: Deployment
beforeAll(async () => {
  redis = await startPrimary()
})

const manager = (options = {}): LockManager =>
  closing(new LockManager({ redis: redis.url, defaults: patient, ...options }))

describe('the keys on the server', () => {
  it('have the prefix, one hash tag, and a TTL each', async () => {
    const prefix = unique('p')
    const locks = manager({ prefix })
    const names = [unique(), `}${unique()}`, `{user}${unique()}`, `a{}b${unique()}`]
    for (const name of names) await locks.acquireStrong(name, { ttlMs: 60_000 })
    const stored = async () => (await redis.primary.cmd('KEYS', `${prefix}:*`)) as string[]
    // That of the holder comes beside the first lock.
    await eventually('all are there', async () => (await stored()).length === 2 * names.length + 1)
    const holder = (await stored()).find((key) => key.endsWith(':holder'))
    const { owner } = (await locks.inspect(names[0]!))!
    expect(holder).toBe(`${prefix}:{${owner.slice(0, 12)}}:holder`)
    const leftMs = Number(await redis.primary.cmd('PTTL', holder!))
    // Longer than its leases, and not much.
    expect(leftMs).toBeGreaterThan(60_000)
    expect(leftMs).toBeLessThanOrEqual(2 * 61_000)
    const keys = (await stored()).filter((key) => key !== holder)
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
    const [resource, list] = [unique(), unique()]
    await redis.primary.cmd('SET', lockKey(resource), 'mine')
    await redis.primary.cmd('RPUSH', lockKey(list), 'mine')
    // It never ends by itself, so no caller is told to wait for it.
    for (const [name, words] of [
      [resource, 'has no TTL, so it was not written by fencelock'],
      [list, 'value of another type'],
    ] as const) {
      for (const options of [{}, { waitMs: 300 }, { waitMs: 300, fair: true }]) {
        expect(await rejection(locks.acquireStrong(name, options))).toMatchObject({
          code: 'BACKEND_UNAVAILABLE',
          message: expect.stringContaining(words),
        })
      }
      expect(await rejection(locks.tryAcquireStrong(name))).toMatchObject({ code: 'BACKEND_UNAVAILABLE' })
    }
    expect(await redis.primary.cmd('GET', lockKey(resource))).toBe('mine')
    const other = unique()
    await redis.primary.cmd('LPUSH', fenceKey(other), 'not a token')
    expect(await rejection(locks.acquireStrong(other))).toMatchObject({ code: 'BACKEND_UNAVAILABLE' })
    expect(await redis.primary.cmd('EXISTS', lockKey(other))).toBe(0)
    const third = unique()
    for (const text of ['not a token', '9007199254740991']) {
      await redis.primary.cmd('SET', fenceKey(third), text)
      const error = await rejection(locks.acquireStrong(third))
      expect(error).toMatchObject({ code: 'BACKEND_UNAVAILABLE', resource: third })
      expect(String(error)).toContain(`the stored token of "${third}" is "${text}", so tokens cannot rise`)
      expect(await redis.primary.cmd('GET', fenceKey(third))).toBe(text)
      expect(await redis.primary.cmd('EXISTS', lockKey(third))).toBe(0)
    }
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
