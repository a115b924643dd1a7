/**
 * What docs/reference/comparison.md and docs/moving state of other libraries on a Redis server, with
 * fencelock next to them, in the versions of examples/package.json.
 */
import { LockManager } from 'fencelock'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { beforeAll, describe, expect, it } from 'vitest'

import { comparisonTables } from '../../bench/report/comparison.mjs'
import { toTable } from '../../bench/report/tables.mjs'
import { closing, rejection, unique } from '../fixtures/locks'
import { startProxy } from '../fixtures/servers/proxy'
import { startRedis, type RedisServer } from '../fixtures/servers/redis'
import { eventually, root, sleep } from '../fixtures/temp'
import { connect, load, startPeer } from './support'

const Redlock = load('redlock').default
const Redlock4 = load('redlock-4')
const { createLock, IoredisAdapter } = load('redlock-universal')
const { Mutex } = load('redis-semaphore')

let server: RedisServer
let redis: any
beforeAll(async () => {
  server = await startRedis()
  redis = connect(server.url)
})

const fencelock = (url = server.url) => closing(new LockManager({ redis: { url, replicas: 0 } }))

it('are these versions', () => {
  const versions = ['redlock', 'redlock-4', 'redlock-universal', 'redis-semaphore', 'proper-lockfile'].map(
    (name) => load(`./node_modules/${name}/package.json`).version,
  )
  expect(versions).toEqual(['v5.0.0-beta.2', '4.2.0', '0.8.5', '5.8.0', '4.1.2'])
})

it('the figures of speed are those of the benchmark', () => {
  const read = (file: string) => readFileSync(join(root, file), 'utf8')
  const text = read('docs/reference/comparison.md')
  const tables = comparisonTables(JSON.parse(read('bench/results.json')).runtimes)
  for (const rows of Object.values(tables)) expect(text).toContain(toTable(rows))
})

describe('what a lock has for the data', () => {
  it('redlock, redlock-universal and redis-semaphore: a random value', async () => {
    const redlock = await new Redlock([redis]).acquire([unique()], 5000)
    expect(redlock.value).toMatch(/^[\da-f]{32}$/)
    const universal = await createLock({ adapter: new IoredisAdapter(redis), key: unique() }).acquire()
    expect(universal.value).toMatch(/^[\da-f]{32,}$/)
    const mutex = new Mutex(redis, unique(), { refreshInterval: 0 })
    await mutex.acquire()
    expect(mutex.identifier).toMatch(/^[\da-f-]{36}$/)
  })

  it('fencelock: a token that rises, also after the server lost everything', async () => {
    const [locks, name] = [fencelock(), unique()]
    const first = await locks.acquire(name)
    await server.cmd('FLUSHALL')
    expect((await locks.acquire(name)).token).toBeGreaterThan(first.token)
  })
})

describe('while the event loop is blocked', () => {
  const blocked = `
    say('held')
    const end = Date.now() + 15_000
    while (Date.now() < end);
    process.exit()`
  const keep = 'new Promise(() => {})'
  const holders: [string, string, (name: string) => string][] = [
    [
      'redlock 5',
      `const { default: Redlock } = await import('redlock')
       await new Redlock([redis]).using([name], 3000, async () => { ${blocked} })`,
      (name) => name,
    ],
    [
      'redlock-universal',
      `const { createLock, IoredisAdapter } = await import('redlock-universal')
       await createLock({ adapter: new IoredisAdapter(redis), key: name, ttl: 3000 }).using(async () => { ${blocked} })`,
      (name) => name,
    ],
    [
      'redis-semaphore',
      `const { Mutex } = await import('redis-semaphore')
       await new Mutex(redis, name, { lockTimeout: 3000 }).acquire()
       ${blocked}`,
      (name) => `mutex:${name}`,
    ],
    [
      'fencelock',
      `const { LockManager } = await import('fencelock')
       const locks = new LockManager({ redis: { url: process.env.REDIS_URL, replicas: 0 } })
       await locks.withLock(name, { ttlMs: 3000 }, async () => { ${blocked} })`,
      (name) => `fencelock:{${name}}:lock`,
    ],
  ]

  it('fencelock renews the lock; the others lose it', async () => {
    const lost = await Promise.all(
      holders.map(async ([library, code, key]) => {
        const name = unique()
        const script = startPeer(
          `const { Redis } = await import('ioredis')
           const redis = new Redis(process.env.REDIS_URL)
           const name = ${JSON.stringify(name)}
           ${code}; await ${keep}`,
          server.url,
        )
        expect(await script.next()).toBe('held')
        if (Number(await server.cmd('EXISTS', key(name))) === 0) return `${library} has no such key`
        await sleep(3700)
        return Number(await server.cmd('EXISTS', key(name))) === 0 ? library : undefined
      }),
    )
    expect(lost).toEqual(['redlock 5', 'redlock-universal', 'redis-semaphore', undefined])
  })
})

describe('waiting', () => {
  /**
   * The commands that a waiter sends in a second, to a server of its own. Another second counts if they were
   * too few or too many: this process may have stalled.
   */
  async function commands(
    wait: (url: string, signal: AbortSignal) => Promise<unknown>,
    { least = 0, most = Infinity },
  ): Promise<number> {
    const own = await startRedis()
    await own.cmd('MSET', 'x', 'held', 'mutex:x', 'held')
    const end = new AbortController()
    const waiting = wait(own.url, end.signal).catch(() => undefined)
    await sleep(500)
    let count = NaN
    for (let second = 0; second < 5 && !(count >= least && count <= most); second++) {
      await own.resetStats()
      await sleep(1000)
      const { set = 0, evalsha = 0, eval: evaluated = 0 } = await own.calls()
      count = set + evalsha + evaluated
    }
    end.abort()
    await own.cmd('DEL', 'x', 'mutex:x')
    await waiting
    return count
  }

  it('is polling for the others; fencelock is notified, and sends a sign of life', async () => {
    // They ask every 200 ms, 100 ms and 10 ms.
    const limits = [{ least: 3 }, { least: 6 }, { least: 10 }, { most: 2 }] as const
    const [redlock, universal, semaphore, ours] = await Promise.all([
      commands((url) => new Redlock([connect(url)], { retryCount: 100 }).acquire(['x'], 5000), limits[0]),
      commands((url) => {
        const adapter = new IoredisAdapter(connect(url))
        return createLock({ adapter, key: 'x', retryAttempts: 200 }).acquire()
      }, limits[1]),
      commands((url, signal) => new Mutex(connect(url), 'x').acquire(signal), limits[2]),
      commands(async (url, signal) => {
        const locks = fencelock(url)
        const lock = await locks.acquire('x', { ttlMs: 60_000 })
        await locks.acquire('x', { waitMs: Infinity, signal }).catch(() => undefined)
        await lock.release()
      }, limits[3]),
    ])
    expect(redlock).toBeGreaterThanOrEqual(limits[0].least)
    expect(universal).toBeGreaterThanOrEqual(limits[1].least)
    expect(semaphore).toBeGreaterThanOrEqual(limits[2].least)
    expect(ours).toBeLessThanOrEqual(limits[3].most)
  })
})

it('only fencelock opens connections of its own', async () => {
  const own = await startRedis()
  const client = connect(own.url)
  const clients = async () =>
    String(await own.cmd('CLIENT', 'LIST'))
      .trim()
      .split('\n').length
  await client.ping()
  const before = await clients()
  const lock = await new Redlock([client]).acquire([unique()], 5000)
  await lock.release()
  expect(await clients()).toBe(before)
  const ours = await fencelock(own.url).acquire(unique())
  expect(await clients()).toBeGreaterThan(before)
  await ours.release()
})

describe('a lock that is lost', () => {
  it('ends a process with redis-semaphore by default; with fencelock its signal aborts', async () => {
    const name = unique()
    const theirs = startPeer(
      `const { Redis } = await import('ioredis')
       const { Mutex } = await import('redis-semaphore')
       const redis = new Redis(process.env.REDIS_URL)
       await new Mutex(redis, '${name}', { lockTimeout: 1000, refreshInterval: 100 }).acquire()
       say('held')`,
      server.url,
    )
    await theirs.next()
    await server.cmd('DEL', `mutex:${name}`)
    expect(await theirs.ended).toMatchObject({ code: 1, stderr: expect.stringContaining('Lost mutex') })

    const lock = await fencelock().acquire(name, { ttlMs: 1000, renew: true })
    const { signal } = lock
    await server.cmd('DEL', `fencelock:{${name}}:lock`)
    await eventually('the signal aborts', () => signal.aborted)
    expect(signal.reason).toMatchObject({ code: 'LOCK_LOST' })
  })

  it('is still acquired for redis-semaphore, when a refresh fails with an error that is not handled', async () => {
    const own = await startRedis()
    const script = startPeer(
      `const { Redis } = await import('ioredis')
       const { Mutex } = await import('redis-semaphore')
       const redis = new Redis(process.env.REDIS_URL, { retryStrategy: () => null })
       redis.on('error', () => {})
       const mutex = new Mutex(redis, 'x', { lockTimeout: 2000, refreshInterval: 100, onLockLost: () => say('lost') })
       await mutex.acquire()
       const end = () => { say({ isAcquired: mutex.isAcquired }); process.exit() }
       process.on('unhandledRejection', () => say('rejection'))
       // It has expired then.
       process.once('unhandledRejection', () => setTimeout(end, 2500))
       say('held')
       setTimeout(() => {}, 20_000)`,
      own.url,
    )
    await script.next()
    await own.stop()
    await script.ended
    expect(script.said).toContain('rejection')
    expect(script.said).not.toContain('lost')
    expect(script.said.at(-1)).toEqual({ isAcquired: true })
  })

  it('aborts the signal of redlock 5 after its end; that of fencelock before', async () => {
    const name = unique()
    const theirs = new Promise<number>((resolve) => {
      const start = performance.now()
      const work = async (signal: AbortSignal) => {
        await server.cmd('DEL', name)
        await new Promise((done) => signal.addEventListener('abort', done))
        resolve(performance.now() - start)
      }
      new Redlock([redis]).using([name], 1000, work).catch(() => undefined)
    })
    const { signal } = await fencelock().acquire(name, { ttlMs: 3000 })
    const start = performance.now()
    // By how much this process was late, if it stalled.
    let [seen, late] = [start, 0]
    const look = () => {
      late = Math.max(late, performance.now() - seen)
      seen = performance.now()
    }
    const looks = setInterval(look, 5)
    const ours = await new Promise<number>((resolve) => {
      signal.addEventListener('abort', () => resolve(performance.now() - start))
    })
    clearInterval(looks)
    look()
    expect(ours - late).toBeLessThan(3000)
    expect(await theirs).toBeGreaterThan(2000) // The lock ended after one second.
  })
})

describe('the release of a lock that has expired', () => {
  it('is an error in redlock; false or nothing in the others', async () => {
    const name = unique()
    const settings = { retryCount: 0 }
    const five = await new Redlock([redis], settings).acquire([name], 5000)
    await server.cmd('DEL', name)
    expect(await rejection(five.release())).toMatchObject({ name: 'ExecutionError' })
    const four = await new Redlock4([redis], settings).lock(name, 5000)
    await server.cmd('DEL', name)
    expect(await rejection(four.unlock())).toMatchObject({ name: 'LockError' })

    const universal = createLock({ adapter: new IoredisAdapter(redis), key: name })
    const handle = await universal.acquire()
    await server.cmd('DEL', name)
    expect(await universal.release(handle)).toBe(false)
    const mutex = new Mutex(redis, name)
    await mutex.acquire()
    await server.cmd('DEL', `mutex:${name}`)
    expect(await mutex.release()).toBeUndefined()
    const lock = await fencelock().acquire(name)
    await server.cmd('DEL', `fencelock:{${name}}:lock`)
    expect(await lock.release()).toBe(false)
  })

  it('hides the error of the function in redlock 5, and is hidden in redlock-universal', async () => {
    const name = unique()
    const fail = (key: string) => async () => {
      await server.cmd('DEL', key)
      throw new Error('of the function')
    }
    const succeed = (key: string) => async () => {
      await server.cmd('DEL', key)
      return 'result'
    }
    const redlock = new Redlock([redis], { retryCount: 0 })
    expect((await rejection(redlock.using([name], 5000, fail(name)))).message).toMatch(
      'unable to achieve a quorum',
    )
    const universal = createLock({ adapter: new IoredisAdapter(redis), key: name })
    expect((await rejection(universal.using(fail(name)))).message).toBe('of the function')
    expect(await universal.using(succeed(name))).toBe('result')

    const [locks, key] = [fencelock(), `fencelock:{${name}}:lock`]
    expect((await rejection(locks.withLock(name, fail(key)))).message).toBe('of the function')
    expect(await rejection(locks.withLock(name, succeed(key)))).toMatchObject({
      code: 'LOCK_LOST',
      result: 'result',
    })
  })
})

describe('a slow server', () => {
  it('grants a lock that is over to redlock 5, redlock-universal and redis-semaphore', async () => {
    const proxy = await startProxy(server.port)
    const client = connect(proxy.url)
    const locks = fencelock(proxy.url)
    await Promise.all([client.ping(), locks.acquire(unique())])
    proxy.delay(300, 'toClient')

    const five = await new Redlock([client]).acquire([unique()], 100)
    expect(five.expiration).toBeLessThan(Date.now())
    const four = new Redlock4([client], { retryCount: 0 }).lock(unique(), 100)
    expect(await rejection(four)).toMatchObject({ name: 'LockError' })
    const sent = Date.now()
    const adapter = new IoredisAdapter(client)
    const handle = await createLock({ adapter, key: unique(), ttl: 100, circuitBreaker: false }).acquire()
    expect(handle.acquiredAt - sent).toBeGreaterThanOrEqual(290)
    const mutex = new Mutex(client, unique(), { lockTimeout: 100, refreshInterval: 0 })
    expect(await mutex.tryAcquire()).toBe(true)
    expect(await rejection(locks.acquire(unique(), { ttlMs: 100 }))).toMatchObject({ code: 'LOCK_LOST' })
  })

  it('redlock 5 grants a lock that is over when it was waited for longer than its TTL', async () => {
    const name = unique()
    await server.cmd('SET', name, 'another', 'PX', 2600)
    const waited = await new Redlock([redis], { retryCount: 100 }).acquire([name], 2500)
    expect(waited.expiration).toBeLessThan(Date.now())
    expect(await server.cmd('EXISTS', name)).toBe(1)

    await server.cmd('SET', name, 'another', 'PX', 1100)
    const work = async (signal: AbortSignal) => {
      await eventually('it is aborted', () => signal.aborted)
      return signal.aborted
    }
    expect(await new Redlock([redis]).using([name], 1000, work)).toBe(true)
  })

  it('leaves a lock without a holder, when ioredis sends SET NX again after a broken connection', async () => {
    const proxy = await startProxy(server.port)
    const client = connect(proxy.url, { retryStrategy: () => 10 })
    await client.ping()
    const [name, cut] = [unique(), proxy.when('+OK', { in: 'toClient', deliver: 'before', act: 'cut' })]
    const granted = client.set(name, 'mine', 'PX', 10_000, 'NX')
    await cut
    expect(await granted).toBeNull()
    expect(await server.cmd('GET', name)).toBe('mine')
  })
})
