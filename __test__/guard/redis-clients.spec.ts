/** The guard for data in Redis with each of the clients it supports, on a real server. */
import { LockManager } from 'fencelock'
import { BackendUnavailableError, OutcomeUnknownError, StaleTokenError, redisGuard } from 'fencelock/guard'
import { beforeAll, describe, expect, it } from 'vitest'

import { clients } from '../fixtures/examples/redis-clients'
import { closing, rejection, unique } from '../fixtures/locks'
import { startProxy } from '../fixtures/servers/proxy'
import { startRedis, type RedisServer } from '../fixtures/servers/redis'
import { eventually } from '../fixtures/temp'

let redis: RedisServer
beforeAll(async () => {
  redis = await startRedis()
})

const get = (key: string) => redis.cmd('GET', key)

describe.each(Object.keys(clients))('with %s', (name) => {
  const connect = (port = redis.port) => clients[name]!(port)

  it('writes with equal and higher tokens, and rejects lower ones with both tokens', async () => {
    const guard = redisGuard({ client: await connect() })
    const resource = unique()
    const at = (token: bigint) => ({ resource, token })
    expect(await guard.highWater(resource)).toBeNull()
    expect(await guard.set(at(10n), resource, 'ten')).toBe(true)
    expect(await guard.set(at(10n), resource, 'ten again')).toBe(true)
    expect(await guard.highWater(resource)).toBe(10n)
    const error = await rejection(guard.set(at(9n), resource, 'nine'))
    expect(error).toBeInstanceOf(StaleTokenError)
    expect(error).toMatchObject({ code: 'STALE_TOKEN', resource, token: 9n, current: 10n })
    expect(JSON.parse(JSON.stringify(error))).toMatchObject({ token: '9', current: '10' })
    expect(await get(resource)).toBe('ten again')
    await guard.advance(at(11n))
    await expect(guard.del(at(10n), resource)).rejects.toThrow(StaleTokenError)
    await expect(guard.advance(at(10n))).rejects.toThrow(StaleTokenError)
    expect(await guard.del(at(11n), resource)).toBe(1)
    expect(await redis.cmd('TTL', guard.fenceKey(resource))).toBe(-1)
  })

  it('sets with the options of SET', async () => {
    const guard = redisGuard({ client: await connect() })
    const lock = { resource: unique(), token: 1n }
    const key = unique()
    expect(await guard.set(lock, key, 'a', { if: 'present' })).toBe(false)
    expect(await guard.set(lock, key, 'a', { if: 'absent', ttlMs: 60_000 })).toBe(true)
    expect(await guard.set(lock, key, 'b', { if: 'absent' })).toBe(false)
    expect(await guard.set(lock, key, Buffer.from([0xff, 0, 0xfe]), { keepTtl: true, if: 'present' })).toBe(
      true,
    )
    expect(Number(await redis.cmd('PTTL', key))).toBeGreaterThan(50_000)
    expect(await redis.cmd('STRLEN', key)).toBe(3)
    await guard.set(lock, key, 12n)
    expect([await get(key), await redis.cmd('PTTL', key)]).toEqual(['12', -1])
  })

  it('writes hashes, deletes several keys, and runs scripts of the caller', async () => {
    const guard = redisGuard({ client: await connect() })
    const lock = { resource: unique(), token: 7n }
    const [hash, counter] = [unique(), unique()]
    expect(await guard.hset(lock, hash, { a: 1, b: 'zwei' })).toBe(2)
    expect(await guard.hset(lock, hash, new Map([['c', 3n]]))).toBe(1)
    expect(await redis.cmd('HMGET', hash, 'a', 'b', 'c')).toEqual(['1', 'zwei', '3'])
    const add = "return redis.call('INCRBY', KEYS[1], ARGV[1]) -- a comment at the end"
    expect(await guard.run(lock, add, { keys: [counter], args: [5] })).toBe(5)
    expect(await guard.run(lock, add, { keys: [counter], args: [5] })).toBe(10)
    expect(await guard.run(lock, 'return {TOKEN, #KEYS, #ARGV}', { keys: [hash], args: ['x', 'y'] })).toEqual(
      ['7', 1, 2],
    )
    expect(await guard.run(lock, 'local nothing = 1')).toBeNull()
    await expect(guard.run({ ...lock, token: 6n }, add, { keys: [counter], args: [5] })).rejects.toThrow(
      StaleTokenError,
    )
    expect(await get(counter)).toBe('10')
    expect(await guard.del(lock, [hash, counter, unique()])).toBe(2)
  })

  it('passes on the errors of the write itself', async () => {
    const guard = redisGuard({ client: await connect() })
    const lock = { resource: unique(), token: 7n }
    const key = unique()
    await redis.cmd('LPUSH', key, 'x')
    expect(String(await rejection(guard.hset(lock, key, { a: 1 })))).toContain('WRONGTYPE')
    expect(String(await rejection(guard.run(lock, "return redis.error_reply('ODD luck')")))).toContain(
      'ODD luck',
    )
    // The script fails with a code of servers that refuse, after it has written.
    const writes = "redis.call('SET', KEYS[1], 'half'); "
    for (const fails of [
      "return redis.error_reply('BUSY doing half')",
      "return {err = 'READONLY doing half'}",
      "error('NOSCRIPT doing half')",
      "redis.call('LPUSH', KEYS[1], 'x')",
    ]) {
      const half = unique()
      const error = await rejection(guard.run(lock, writes + fails, { keys: [half] }))
      expect(error).not.toBeInstanceOf(BackendUnavailableError)
      expect(error.message).toMatch(/doing half|WRONGTYPE/)
      expect(await get(half)).toBe('half')
    }
    expect(String(await rejection(guard.run(lock, 'this is no Lua')))).toMatch(/compiling script/)
  })

  it('advances the fences of all resources or of none', async () => {
    const guard = redisGuard({ client: await connect() })
    const [a, b, c] = [unique(), unique(), unique()]
    await guard.advance({ resource: b, token: 5n })
    expect(await rejection(guard.set({ resources: [a, b, c], token: 4n }, a, 'x'))).toMatchObject({
      code: 'STALE_TOKEN',
      resource: b,
      current: 5n,
    })
    expect([await guard.highWater(a), await guard.highWater(c), await get(a)]).toEqual([null, null, null])
    await guard.set({ resources: [a, b, c], token: 6n }, a, 'x')
    for (const each of [a, b, c]) expect(await guard.highWater(each)).toBe(6n)
  })

  it('keeps tokens exact that doubles would round', async () => {
    const guard = redisGuard({ client: await connect() })
    for (const high of [10n, 1_000_000_000_000_000n, 2n ** 53n - 1n, 2n ** 53n + 1n, 2n ** 63n - 1n]) {
      const resource = unique()
      await guard.advance({ resource, token: high })
      expect(await get(guard.fenceKey(resource))).toBe(String(high))
      for (const low of [high - 1n, high / 10n]) {
        expect(await rejection(guard.advance({ resource, token: low }))).toMatchObject({ current: high })
      }
      await guard.advance({ resource, token: high })
    }
  })

  it('loads its scripts again into a server that lost them', async () => {
    const guard = redisGuard({ client: await connect() })
    const lock = { resource: unique(), token: 7n }
    await guard.set(lock, lock.resource, 1)
    await redis.cmd('SCRIPT', 'FLUSH')
    await redis.resetStats()
    await guard.set(lock, lock.resource, 2)
    await guard.set(lock, lock.resource, 3)
    const calls = await redis.calls()
    expect([calls.evalsha, calls.eval]).toEqual([2, 1])
    expect(await get(lock.resource)).toBe('3')
  })

  it('keeps hostile names apart, and treats them as nothing but names', async () => {
    const guard = redisGuard({ client: await connect(), prefix: name.replace(' ', '-') })
    const names = [
      '\'"; DEL *', '\0', 'a\0b', 'a b\r\nSET x y', '{', '}', '{}', '{a}', '{a}b', 'a}{', '}a{b}', '{a}{b}', 'a', '{a', '🔒',
      'é', 'e\u0301', 'A', 'a}:guard:x{a}', 'x'.repeat(512), '🔒'.repeat(128),
    ] // prettier-ignore
    for (const [index, resource] of names.entries()) {
      const token = BigInt(1000 - index)
      expect({ resource, stored: await guard.highWater(resource) }).toEqual({ resource, stored: null })
      await guard.set({ resource, token }, `data:${index}`, token)
    }
    for (const [index, resource] of names.entries()) {
      expect(await guard.highWater(resource)).toBe(BigInt(1000 - index))
      await expect(guard.advance({ resource, token: BigInt(999 - index) })).rejects.toThrow(StaleTokenError)
    }
  })

  it('writes in the one round trip of the plain command', async () => {
    const proxy = await startProxy(redis.port, { record: true })
    const client = await connect(proxy.port)
    const guard = redisGuard({ client })
    const resource = unique()
    const trips = async (work: () => Promise<unknown>): Promise<number> => {
      await work()
      proxy.recorded.length = 0
      await work()
      const sent = proxy.recorded.map(([direction]) => direction)
      return sent.filter((each, at) => each === 'toServer' && sent[at - 1] !== 'toServer').length
    }
    expect(await trips(() => client.set(resource, 'plain'))).toBe(1)
    expect(await trips(() => guard.set({ resource, token: 1n }, resource, 'guarded'))).toBe(1)
    expect(await trips(() => guard.advance({ resource, token: 1n }))).toBe(1)
  })

  it('reports a broken connection as an unknown outcome, and a missing one as nothing written', async () => {
    const proxy = await startProxy(redis.port)
    const client = await connect(proxy.port)
    const guard = redisGuard({ client })
    const lock = { resource: unique(), token: 7n }
    await guard.set(lock, lock.resource, 'before')
    // The write is done, and the answer is lost.
    proxy.hold('toClient')
    const call = rejection(guard.set(lock, lock.resource, 'after'))
    await eventually('it was written', async () => (await get(lock.resource)) === 'after')
    proxy.refusing = true
    proxy.cut()
    const error = await call
    expect(error).toBeInstanceOf(OutcomeUnknownError)
    expect(error).toMatchObject({
      code: 'OUTCOME_UNKNOWN',
      resource: lock.resource,
      cause: expect.any(Error),
    })
    await eventually(
      'the client gave up',
      () => client.status === 'end' || client.isReady === false || client.connected === false,
    )
    const none = await rejection(guard.set(lock, lock.resource, 'never'))
    expect(none).toBeInstanceOf(BackendUnavailableError)
    expect(await get(lock.resource)).toBe('after')
  })

  /** A takes the lock; its write stays in the network until B has taken the lock and written. */
  async function staleWriter(
    write: (client: any, lock: { resource: string; token: bigint }, value: string) => Promise<unknown>,
  ) {
    const locks = closing(new LockManager({ redis: { url: redis.url, replicas: 0 } }))
    const proxy = await startProxy(redis.port)
    const [mine, theirs] = [await connect(proxy.port), await connect()]
    const resource = unique()
    await locks.connect()
    const a = await locks.acquire(resource, { ttlMs: 60_000 })
    proxy.hold('toServer')
    expect(a.held).toBe(true)
    const late = write(mine, a, 'A').catch((error: unknown) => error)
    // The holder does not notice this, just as it would not notice the end of its lease while stopped.
    await locks.forceRelease(resource)
    const b = await locks.acquire(resource)
    expect(b.token).toBeGreaterThan(a.token)
    await write(theirs, b, 'B')
    proxy.flow('toServer')
    return { outcome: await late, a, b, value: await get(resource) }
  }

  it('rejects the write of a holder that slept beyond its lease; without the guard an update is lost', async () => {
    const unguarded = await staleWriter((client, lock, value) => client.set(lock.resource, value))
    expect(unguarded.value, 'without a guard').toBe('A')
    const guarded = await staleWriter((client, lock, value) =>
      redisGuard({ client }).set(lock, lock.resource, value),
    )
    expect(guarded.value).toBe('B')
    expect(guarded.outcome).toMatchObject({
      code: 'STALE_TOKEN',
      token: guarded.a.token,
      current: guarded.b.token,
      strategy: 'strong',
    })
  })
})
