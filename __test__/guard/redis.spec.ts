/** The guard for data in Redis, with any client: tokens, fences, clusters, arguments, and lost updates. */
import { LockManager } from 'fencelock'
import {
  LockLostError,
  OutcomeUnknownError,
  StaleTokenError,
  UnsupportedError,
  redisGuard,
} from 'fencelock/guard'
import { beforeAll, describe, expect, it } from 'vitest'

import { onCleanup } from '../fixtures/cleanup'
import { clients, ioredis, load, nodeRedis, runExamples } from '../fixtures/examples/redis-clients'
import { closing, rejection, unique } from '../fixtures/locks'
import { startCode } from '../fixtures/processes/processes'
import { startCluster, startRedis, type RedisServer } from '../fixtures/servers/redis'
import { eventually, root } from '../fixtures/temp'

let redis: RedisServer
beforeAll(async () => {
  redis = await startRedis()
})

const get = (key: string) => redis.cmd('GET', key)

it('rejects a read-modify-write whose read came before a newer holder’s advance; without advance an update is lost', async () => {
  const client = await clients.ioredis!(redis.port)
  const guard = redisGuard({ client })
  async function scenario(advances: boolean) {
    const resource = unique()
    const at = (token: bigint) => ({ resource, token })
    await guard.set(at(1n), resource, 100)
    // A is stale, but has not yet written what it computed. B reads, A writes, B writes.
    if (advances) await guard.advance(at(3n))
    const read = Number(await client.get(resource))
    const late = await guard.set(at(2n), resource, 100 + 1).then(
      () => 'written',
      (error: unknown) => error,
    )
    await guard.set(at(3n), resource, read + 10)
    return { late, value: await get(resource) }
  }
  // A's write was acknowledged, and is lost.
  expect(await scenario(false)).toEqual({ late: 'written', value: '110' })
  expect((await scenario(true)).late).toBeInstanceOf(StaleTokenError)
})

it('never lowers the stored token, and never lets a lower one write, whatever their order', async () => {
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

it('rejects a lock that is no longer held, without a round trip', async () => {
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

it('shares no keys with the lock itself, also none that the end of the lock deletes', async () => {
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

it('has no key that a lock has, whatever their names and prefixes are', () => {
  const names = new Set<string>()
  const grow = (name: string, more: number): void => {
    if (name !== '') names.add(name)
    for (const part of more > 0 ? ['{', '}', ':', 'a', 'guard', ':guard:', 'x', ':fence', ':lock'] : []) {
      grow(name + part, more - 1)
    }
  }
  grow('', 4)
  const prefixes = ['fencelock', 'fencelock:guard', 'fencelock:x']
  const ofLocks = new Set<string>()
  for (const prefix of prefixes) {
    for (const name of names) {
      const start = name.startsWith('}') ? `x{${Buffer.from(name).toString('hex')}` : `{${name}`
      for (const kind of ['lock', 'fence', 'line']) ofLocks.add(`${prefix}:${start}}:${kind}`)
    }
  }
  const ofGuards = new Set<string>()
  for (const prefix of prefixes) {
    const guard = redisGuard({ client: { evalsha: async () => null, eval: async () => null }, prefix })
    for (const name of names) ofGuards.add(guard.fenceKey(name))
  }
  expect(ofGuards.size).toBe(names.size * prefixes.length)
  expect([...ofGuards].filter((key) => ofLocks.has(key))).toEqual([])
})

it('does not see the lock of another resource whose name looks like its key', async () => {
  const locks = closing(new LockManager({ redis: { url: redis.url, replicas: 0 } }))
  const guard = redisGuard({ client: await clients.ioredis!(redis.port) })
  // Once the key of the fence of the one was the key of the guard of the other.
  const id = unique()
  const data = `{${id}}x}:fence`
  const holder = await locks.acquire(data)
  await guard.advance(holder)
  await (await locks.acquire(`${id}}:guard:{${id}}x`)).release()
  expect(await guard.highWater(data)).toBe(holder.token)
  expect(await redis.cmd('TTL', guard.fenceKey(data))).toBe(-1)
  await guard.advance(holder)
})

it('lets the fence expire after fenceTtlMs without a write, if that is set', async () => {
  const client = await clients.ioredis!(redis.port)
  const guard = redisGuard({ client, fenceTtlMs: 60_000 })
  const resource = unique()
  const left = async () => Number(await redis.cmd('PTTL', guard.fenceKey(resource)))
  await guard.advance({ resource, token: 5n })
  expect(await left()).toBeGreaterThan(50_000)
  expect(await rejection(guard.advance({ resource, token: 4n }))).toMatchObject({ current: 5n })
  // As if most of the time were over.
  await redis.cmd('PEXPIRE', guard.fenceKey(resource), 20_000)
  await guard.advance({ resource, token: 5n }) // refreshes it
  expect(await left()).toBeGreaterThan(50_000)
  expect(await left()).toBeLessThanOrEqual(60_000)
  expect(await guard.highWater(resource)).toBe(5n)
  await redisGuard({ client, fenceTtlMs: 1_000 }).advance({ resource, token: 5n })
  await eventually('it is forgotten', async () => (await guard.highWater(resource)) === null)
})

it('writes nothing if the fence key holds something else', async () => {
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

it('reports servers that refuse to write, or to run scripts', async () => {
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
    node = await startCluster()
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

  it('rejects invalid locks, keys, values and options', async () => {
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

  it('reports an unknown outcome if a client returns something else', async () => {
    const odd = redisGuard({ client: { evalSha: async () => 'OK', eval: async () => 'OK' } })
    expect(await rejection(odd.advance(lock))).toBeInstanceOf(OutcomeUnknownError)
  })
})

it('does not load the addon', async () => {
  const script = startCode(`
    const { createRequire } = await import('node:module')
    const require = createRequire(process.cwd() + '/')
    const { redisGuard, httpFence, StaleTokenError } = await import('fencelock/guard')
    const loaded = Object.keys(require.cache).filter((file) => /\\.node$|native.load\\.js$|manager\\.js$/.test(file))
    const same = StaleTokenError === (await import('fencelock')).StaleTokenError
    const after = Object.keys(require.cache).filter((file) => /\\.node$|native.load\\.js$|manager\\.js$/.test(file))
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

describe('16 writers in 4 processes, whose leases end during their work', () => {
  /** Far longer than they take, unless the machine has much else to do. */
  const limitMs = 240_000
  /**
   * Four, one for each resource. Each repeatedly adds 1 (read, pause, write), and reports its acknowledged
   * writes.
   */
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
        // Only the token: the fence has to reject it, not the holder's knowledge of its lease.
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
    const scripts = Array.from({ length: 4 }, () =>
      startCode(writers(guarded, resources, times), { limitMs }),
    )
    for (const script of scripts) script.hangUp()
    const said = await Promise.all(scripts.map((script) => script.next<number>(limitMs)))
    return { acknowledged: sum(said), value: sum((await Promise.all(resources.map(get))).map(Number)) }
  }

  it('lose no update with the guard, and some without', { timeout: 2 * limitMs }, async () => {
    const without = await run(false, 25)
    expect(without.acknowledged).toBe(400)
    expect(without.value, 'without a guard').toBeLessThan(400)
    expect(await run(true, 625)).toEqual({ acknowledged: 10_000, value: 10_000 })
  })
})

it('works as the documents show it', { timeout: 120_000 }, async () => {
  await runExamples('redis', (await startRedis()).url)
})
