/** The guard for data in Redis: a lower token never writes, with real clients on real servers. */
import { LockManager } from 'fencelock'
import {
  BackendUnavailableError,
  LockLostError,
  OutcomeUnknownError,
  StaleTokenError,
  UnsupportedError,
  redisGuard,
} from 'fencelock/guard'
import { beforeAll, describe, expect, it } from 'vitest'

import { onCleanup } from '../fixtures/cleanup'
import { clients, ioredis, load, nodeRedis, runExample } from '../fixtures/examples/redis-clients'
import { closing, rejection, unique } from '../fixtures/locks'
import { startCode } from '../fixtures/processes/processes'
import { startProxy } from '../fixtures/servers/proxy'
import { startRedis, type RedisServer } from '../fixtures/servers/redis'
import { eventually, root, sleep } from '../fixtures/temp'

let redis: RedisServer
beforeAll(async () => {
  redis = await startRedis()
})

const get = (key: string) => redis.cmd('GET', key)

describe.each(Object.keys(clients))('with %s', (name) => {
  const connect = (port = redis.port) => clients[name]!(port)

  it('writes for equal and higher tokens, and refuses lower ones with both tokens', async () => {
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

  it('passes on what the server says of the write itself', async () => {
    const guard = redisGuard({ client: await connect() })
    const lock = { resource: unique(), token: 7n }
    const key = unique()
    await redis.cmd('LPUSH', key, 'x')
    expect(String(await rejection(guard.hset(lock, key, { a: 1 })))).toContain('WRONGTYPE')
    expect(String(await rejection(guard.run(lock, "return redis.error_reply('ODD luck')")))).toContain(
      'ODD luck',
    )
    // A word with which servers refuse, of the script's: it has written before.
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

  it('advances the fences of all resources, or of none', async () => {
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

  it('keeps tokens exact, also where doubles would not', async () => {
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

  it('loads its scripts into a server that forgot them', async () => {
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

  it('keeps hostile names apart, and never mistakes them for anything else', async () => {
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

  it('tells a broken connection as unknown, and a missing one as nothing written', async () => {
    const proxy = await startProxy(redis.port)
    const client = await connect(proxy.port)
    const guard = redisGuard({ client })
    const lock = { resource: unique(), token: 7n }
    await guard.set(lock, lock.resource, 'before')
    // The write is done, and its answer is lost.
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
    const a = await locks.acquire(resource, { ttlMs: 500 })
    proxy.hold('toServer')
    expect(a.held).toBe(true)
    const late = write(mine, a, 'A').catch((error: unknown) => error)
    const b = await locks.acquire(resource, { waitMs: 5_000 })
    expect(b.token).toBeGreaterThan(a.token)
    await write(theirs, b, 'B')
    proxy.flow('toServer')
    return { outcome: await late, a, b, value: await get(resource) }
  }

  it('refuses the write of a holder that slept beyond its lease; without it the update is lost', async () => {
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

it('refuses a read-modify-write whose read came before a newer holder’s advance; without advance an update is lost', async () => {
  const client = await clients.ioredis!(redis.port)
  const guard = redisGuard({ client })
  async function scenario(advances: boolean) {
    const resource = unique()
    const at = (token: bigint) => ({ resource, token })
    await guard.set(at(1n), resource, 100)
    // A, stale already, has yet to write what it computed. B reads, A writes, B writes.
    if (advances) await guard.advance(at(3n))
    const read = Number(await client.get(resource))
    const late = await guard.set(at(2n), resource, 100 + 1).then(
      () => 'written',
      (error: unknown) => error,
    )
    await guard.set(at(3n), resource, read + 10)
    return { late, value: await get(resource) }
  }
  // A was told that its 1 is in, and it is not.
  expect(await scenario(false)).toEqual({ late: 'written', value: '110' })
  expect((await scenario(true)).late).toBeInstanceOf(StaleTokenError)
})

it('never lets the stored token go down, nor a lower one write, in whatever order they come', async () => {
  const guards = await Promise.all(
    Object.values(clients).map(async (connect) => redisGuard({ client: await connect(redis.port) })),
  )
  const resource = unique()
  const log = unique()
  const tokens = Array.from({ length: 3_000 }, () =>
    BigInt(1 + Math.floor(Math.random() * 10 ** (1 + Math.random() * 15))),
  )
  let refused = 0
  const noteToken = "return redis.call('RPUSH', KEYS[1], TOKEN)"
  for (let at = 0; at < tokens.length; at += 100) {
    await Promise.all(
      tokens.slice(at, at + 100).map((token, index) =>
        guards[index % guards.length]!.run({ resource, token }, noteToken, { keys: [log] }).catch(
          (error: unknown) => {
            if (!(error instanceof StaleTokenError)) throw error
            expect(error.current).toBeGreaterThan(token)
            refused++
          },
        ),
      ),
    )
  }
  const written = ((await redis.cmd('LRANGE', log, 0, -1)) as string[]).map(BigInt)
  expect(written.length + refused).toBe(tokens.length)
  expect(refused).toBeGreaterThan(1_000)
  expect(written).toEqual(written.toSorted((a, b) => (a < b ? -1 : a > b ? 1 : 0)))
  expect(written.at(-1)).toBe(tokens.reduce((a, b) => (a > b ? a : b)))
  expect(await guards[0]!.highWater(resource)).toBe(written.at(-1))
})

it('refuses a lock that is not held any more, without a trip', async () => {
  const locks = closing(new LockManager({ redis: { url: redis.url, replicas: 0 } }))
  const guard = redisGuard({ client: await clients.ioredis!(redis.port) })
  const resource = unique()
  const lock = await locks.acquire(resource)
  await guard.set(lock, resource, 1)
  await lock.release()
  await redis.resetStats()
  await expect(guard.set(lock, resource, 2)).rejects.toThrow(LockLostError)
  expect((await redis.calls()).evalsha).toBeUndefined()
  expect(await get(resource)).toBe('1')
})

it('shares nothing with the lock itself: neither keys, nor what the lock’s end deletes', async () => {
  const locks = closing(new LockManager({ redis: { url: redis.url, replicas: 0 } }))
  const guard = redisGuard({ client: await clients.ioredis!(redis.port) })
  const resource = unique()
  const lock = await locks.acquire(resource)
  await guard.set(lock, resource, 1)
  await lock.release()
  expect(await locks.forceRelease(resource)).toBe(false)
  expect(await guard.highWater(resource)).toBe(lock.token)
  await redis.cmd('DEL', `fencelock:{${resource}}:fence`)
  const minToken = ((await guard.highWater(resource)) ?? 0n) + 10n ** 9n
  expect((await locks.acquire(resource, { minToken })).token).toBeGreaterThan(minToken)
})

it('forgets the fence after fenceTtlMs without a write, if asked to', async () => {
  const guard = redisGuard({ client: await clients.ioredis!(redis.port), fenceTtlMs: 1_000 })
  const resource = unique()
  await guard.advance({ resource, token: 5n })
  expect(await rejection(guard.advance({ resource, token: 4n }))).toMatchObject({ current: 5n })
  await sleep(700)
  await guard.advance({ resource, token: 5n }) // refreshes it
  await sleep(700)
  expect(await guard.highWater(resource)).toBe(5n)
  await eventually('it is forgotten', async () => (await guard.highWater(resource)) === null)
})

it('writes nothing where the fence key is something else', async () => {
  const guard = redisGuard({ client: await clients.ioredis!(redis.port), prefix: 'other' })
  for (const odd of ['not a token', '007', '-1', '1.5', '']) {
    const resource = unique()
    await redis.cmd('SET', guard.fenceKey(resource), odd)
    expect(await rejection(guard.set({ resource, token: 9n }, resource, 1))).toBeInstanceOf(UnsupportedError)
    expect(await rejection(guard.highWater(resource))).toBeInstanceOf(UnsupportedError)
    expect(await get(resource)).toBeNull()
  }
  const resource = unique()
  await redis.cmd('LPUSH', guard.fenceKey(resource), 'x')
  expect(await rejection(guard.set({ resource, token: 9n }, resource, 1))).toBeInstanceOf(UnsupportedError)
  expect(await rejection(guard.highWater(resource))).toBeInstanceOf(UnsupportedError)
})

it('tells of servers that refuse to write, or to run scripts', async () => {
  const full = await startRedis({
    config: ['maxmemory 1', 'maxmemory-policy noeviction'],
    users: ['poor on >p ~* +@all -eval -evalsha'],
  })
  const Redis = load('ioredis')
  const rich = redisGuard({ client: ioredis(new Redis(full.port)) })
  expect(await rejection(rich.advance({ resource: 'r', token: 1n }))).toMatchObject({
    code: 'BACKEND_UNAVAILABLE',
    message: expect.stringContaining('OOM'),
  })
  const poor = redisGuard({ client: ioredis(new Redis(full.port, { username: 'poor', password: 'p' })) })
  expect(await rejection(poor.advance({ resource: 'r', token: 1n }))).toBeInstanceOf(UnsupportedError)
})

describe('in a cluster', () => {
  let node: RedisServer
  beforeAll(async () => {
    node = await startRedis({ cluster: true, config: ['cluster-announce-ip 127.0.0.1'] })
    await node.cmd('CLUSTER', 'ADDSLOTS', ...Array.from({ length: 16_384 }, (_, slot) => slot))
    await eventually('the cluster is up', async () =>
      String(await node.cmd('CLUSTER', 'INFO')).includes('cluster_state:ok'),
    )
  })

  const kinds: [string, () => Promise<any>][] = [
    ['ioredis', async () => ioredis(new (load('ioredis').Cluster)([{ host: '127.0.0.1', port: node.port }]))],
    ['node-redis 6', async () => nodeRedis(load('redis').createCluster({ rootNodes: [{ url: node.url }] }))],
  ]
  it.each(kinds)(
    'keeps the fence in the slot of the data, and says what to do where it is not (%s)',
    async (_, connect) => {
      const guard = redisGuard({ client: await connect() })
      const at = (resource: string) => ({ resource, token: 5n })
      const id = unique()
      await guard.set(at(id), id, 1)
      await guard.set(at(id), `{${id}}:balance`, 1)
      await guard.set(at(`{${id}}:a`), `{${id}}:b`, 1)
      await guard.set({ resources: [`{${id}}:a`, `{${id}}:c`], token: 6n }, id, 2)
      await node.cmd('SCRIPT', 'FLUSH')
      await guard.set(at(id), id, 3)
      expect(await node.cmd('GET', id)).toBe('3')
      for (const call of [
        guard.set(at(id), 'elsewhere', 1),
        guard.advance({ resources: [id, 'elsewhere'], token: 9n }),
      ]) {
        const error = await rejection(call)
        expect(error).toBeInstanceOf(UnsupportedError)
        expect(error.message).toMatch(/one slot.*hash tag/)
      }
      expect(await guard.highWater(id)).toBe(5n)
    },
  )
})

describe('arguments', () => {
  const client = { evalSha: async () => ['done', 1], eval: async () => ['done', 1] }
  const lock = { resource: 'r', token: 1n }

  it.each([
    [undefined], [{}], [{ client: null }], [{ client: {} }], [{ client: 'redis://' }], [{ client: { eval: () => 1 } }],
    [{ client, prefix: '' }], [{ client, prefix: 'a{b' }], [{ client, prefix: 1 }], [{ client, prefx: 'a' }],
    [{ client, fenceTtlMs: 0 }], [{ client, fenceTtlMs: 999 }], [{ client, fenceTtlMs: '9000' }], [[]],
  ] as any[][])('refuses %o', (options) => {
    expect(() => redisGuard(options)).toThrow(expect.objectContaining({ code: 'INVALID_OPTION' }))
  }) // prettier-ignore

  it('refuses what is no lock, key, value or option', async () => {
    const guard = redisGuard({ client }) as any
    for (const bad of [
      null,
      'r',
      {},
      { resource: 'r' },
      { resource: 'r', token: 1 },
      { resource: 'r', token: 0n },
      { resource: '', token: 1n },
      { resources: [], token: 1n },
      { resource: 'r', token: 2n ** 63n },
    ]) {
      expect(await rejection(guard.advance(bad))).toMatchObject({ code: 'INVALID_OPTION' })
    }
    const calls: (() => Promise<unknown>)[] = [
      () => guard.set(lock, '', 1),
      () => guard.set(lock, 1, 1),
      () => guard.set(lock, 'k', undefined),
      () => guard.set(lock, 'k', Number.NaN),
      () => guard.set(lock, 'k', {}),
      () => guard.set(lock, 'k', '\uD800'),
      () => guard.set(lock, 'k', 1, { ttlMs: 0 }),
      () => guard.set(lock, 'k', 1, { ttlMs: 1, keepTtl: true }),
      () => guard.set(lock, 'k', 1, { px: 1 }),
      () => guard.set(lock, 'k', 1, { if: 'nx' }),
      () => guard.hset(lock, 'k', {}),
      () => guard.hset(lock, 'k', 'a'),
      () => guard.hset(lock, 'k', Object.fromEntries(Array.from({ length: 4_000 }, (_, i) => [`f${i}`, i]))),
      () => guard.del(lock, []),
      () =>
        guard.del(
          lock,
          Array.from({ length: 7_001 }, (_, n) => `key:${n}`),
        ),
      () => guard.run(lock, 1),
      () => guard.run(lock, 'return 1', { keys: 'k' }),
      () => guard.run(lock, 'return 1', { args: [null] }),
      () => guard.run(lock, 'return 1', { argv: [] }),
      () => guard.highWater(''),
    ]
    for (const [index, call] of calls.entries()) {
      expect({ index, code: (await rejection<{ code?: string }>(call())).code }).toEqual({
        index,
        code: 'INVALID_OPTION',
      })
    }
  })

  it('says that the outcome is unknown when a client answers something else', async () => {
    const odd = redisGuard({ client: { evalSha: async () => 'OK', eval: async () => 'OK' } })
    expect(await rejection(odd.advance(lock))).toBeInstanceOf(OutcomeUnknownError)
  })
})

it('loads no addon', async () => {
  const script = startCode(`
    const { createRequire } = await import('node:module')
    const require = createRequire(process.cwd() + '/')
    const { redisGuard, httpFence, StaleTokenError } = await import('fencelock/guard')
    const loaded = Object.keys(require.cache).filter((file) => /\\.node$|binding\\.js$|manager\\.js$/.test(file))
    const same = StaleTokenError === (await import('fencelock')).StaleTokenError
    const after = Object.keys(require.cache).filter((file) => /\\.node$|binding\\.js$|manager\\.js$/.test(file))
    say({ kinds: [typeof redisGuard, typeof httpFence], loaded, same, addon: after.length > 0 })
  `)
  onCleanup(() => script.hangUp())
  expect(await script.next()).toEqual({
    kinds: ['function', 'function'],
    loaded: [],
    same: true,
    addon: true,
  })
})

describe('16 writers in 4 processes, whose leases end while they work', () => {
  /** Four, one for each resource. Each adds 1 so many times: read, pause, write. What it was told is in is what it says. */
  const writers = (guarded: boolean, resources: string[], times: number) => `
    const { createRequire } = await import('node:module')
    const Redis = createRequire(${JSON.stringify(`${root}/__test__/projects/redis-clients/`)})('ioredis')
    const { LockManager } = await import('fencelock')
    const { StaleTokenError, redisGuard } = await import('fencelock/guard')
    const locks = new LockManager({ redis: { url: ${JSON.stringify(redis.url)}, replicas: 0 } })
    const pause = () => Math.random() < 0.1 && new Promise((resolve) => setTimeout(resolve, Math.random() * 40))
    let written = 0
    async function write(resource) {
      const client = new Redis(${redis.port}, '127.0.0.1')
      const guard = redisGuard({ client })
      for (let left = ${times}; left > 0; ) {
        const lock = await locks.acquire(resource, { ttlMs: 10, waitMs: Infinity }).catch((error) => error)
        if (lock instanceof Error) {
          if (lock.code === 'LOCK_LOST') continue
          throw lock
        }
        // Only what is sent: the fence has to do it, not what the holder knows of its lease.
        const { token } = lock
        try {
          if (${guarded}) await guard.advance({ resource, token })
          const value = Number(await client.get(resource))
          await pause()
          if (${guarded}) await guard.set({ resource, token }, resource, value + 1)
          else await client.set(resource, value + 1)
          written++
          left--
        } catch (error) {
          if (!(error instanceof StaleTokenError)) throw error
        }
        await lock.release()
      }
      client.disconnect()
    }
    await Promise.all(${JSON.stringify(resources)}.map(write))
    await locks.close()
    say(written)
  `
  const sum = (numbers: number[]) => numbers.reduce((total, each) => total + each, 0)
  async function run(guarded: boolean, times: number) {
    const resources = Array.from({ length: 4 }, () => unique())
    const scripts = Array.from({ length: 4 }, () => startCode(writers(guarded, resources, times)))
    for (const script of scripts) script.hangUp()
    const said = await Promise.all(scripts.map((script) => script.next<number>(60_000)))
    return { told: sum(said), value: sum((await Promise.all(resources.map(get))).map(Number)) }
  }

  it('lose no update with the guard, and some without', { timeout: 90_000 }, async () => {
    const without = await run(false, 25)
    expect(without.told).toBe(400)
    expect(without.value, 'without a guard').toBeLessThan(400)
    expect(await run(true, 625)).toEqual({ told: 10_000, value: 10_000 })
  })
})

it('works as README.md shows it', async () => {
  await runExample('redis', (await startRedis()).url)
})
