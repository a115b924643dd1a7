/** Strong locks when replicas lag, connections break, and primaries die. Each fault is shown to bite. */
import { InsufficientReplicasError, LockManager, OutcomeUnknownError } from 'fencelock'
import { beforeAll, describe, expect, it } from 'vitest'

import { onCleanup } from '../fixtures/cleanup'
import { closing, rejection, unique } from '../fixtures/locks'
import { startProxy } from '../fixtures/servers/proxy'
import { startPrimary, startRedis, type Deployment } from '../fixtures/servers/redis'
import { eventually, sleep } from '../fixtures/temp'

const lockKey = (resource: string): string => `fencelock:{${resource}}:lock`

/**
 * Until the replicas have acknowledged all there is, and nothing more comes by itself. From then on every WAIT that is
 * not for the next write is answered at once, by all of them: a false acknowledgement would show.
 */
async function settled({ primary, replicas }: Deployment): Promise<void> {
  onCleanup(() => primary.cmd('CONFIG', 'SET', 'repl-ping-replica-period', 1).catch(() => undefined))
  await primary.cmd('CONFIG', 'SET', 'repl-ping-replica-period', 3600)
  await eventually('the replicas have acknowledged everything', async () => {
    const { master_repl_offset: all, ...info } = await primary.info('replication')
    return replicas.every((_, index) => info[`slave${index}`]?.includes(`,offset=${all},`))
  })
}

describe('with a primary and two replicas', () => {
  let redis: Deployment
  beforeAll(async () => {
    redis = await startPrimary()
  })

  function pause(...which: number[]): void {
    for (const index of which) redis.replicas[index]!.pause()
    onCleanup(async () => {
      for (const index of which) redis.replicas[index]!.resume()
      await redis.primary.waitForReplicas(2)
    })
  }

  it('refuses a grant in time when no replica answers, and takes it back', async () => {
    const locks = closing(new LockManager({ redis: redis.url }))
    await (await locks.acquireStrong(unique())).release() // connected, loaded
    pause(0, 1)
    for (const ackTimeoutMs of [50, 200]) {
      const resource = unique()
      const began = performance.now()
      const error = await rejection(locks.acquireStrong(resource, { ackTimeoutMs }))
      const took = performance.now() - began
      expect(error).toMatchObject({
        code: 'INSUFFICIENT_REPLICAS',
        required: 2,
        received: 0,
        connected: 2,
        rolledBack: true,
      })
      expect(took).toBeGreaterThanOrEqual(ackTimeoutMs - 5)
      expect(took).toBeLessThan(ackTimeoutMs + 50)
      expect(await redis.primary.cmd('EXISTS', lockKey(resource))).toBe(0)
      expect(await locks.inspect(resource)).toBeNull()
    }
  })

  it('grants with the healthy replica alone, and quickly, while others wait for the paused one', async () => {
    const locks = closing(new LockManager({ redis: redis.url }))
    await (await locks.acquireStrong(unique())).release()
    pause(1)
    const all = Array.from({ length: 20 }, () =>
      rejection(locks.acquireStrong(unique(), { ackTimeoutMs: 1_000 })),
    )
    const began = performance.now()
    for (let round = 0; round < 20; round++) {
      const lock = await locks.acquireStrong(unique(), { acks: 1, ackTimeoutMs: 1_000 })
      expect(lock.acks).toEqual({ required: 1, received: 1 })
      expect(await lock.release()).toBe(true)
    }
    expect(performance.now() - began).toBeLessThan(900)
    for (const error of await Promise.all(all))
      expect(error).toMatchObject({ code: 'INSUFFICIENT_REPLICAS', received: 1, rolledBack: true })
  })

  it('keeps "busy" busy in a batch whose grants are refused', async () => {
    const locks = closing(new LockManager({ redis: redis.url }))
    const held = await locks.acquireStrong(unique(), { ttlMs: 30_000 })
    pause(0)
    const [refused, busy] = await Promise.allSettled([
      locks.acquireStrong(unique()),
      locks.tryAcquireStrong(held.resource),
    ])
    expect(refused).toMatchObject({ status: 'rejected', reason: { code: 'INSUFFICIENT_REPLICAS' } })
    expect(busy).toEqual({ status: 'fulfilled', value: null })
    expect(await locks.inspect(held.resource)).toMatchObject({ owner: held.owner })
  })

  it('does not take back somebody else’s lock when its own lease ended while it waited', async () => {
    const locks = closing(new LockManager({ redis: redis.url }))
    await (await locks.acquireStrong(unique())).release()
    pause(0, 1)
    const resource = unique()
    // The lease ends at 600 ms; its WAIT and the rollback come from 300 ms on, which is delayed until after the theft.
    const proxy = await startProxy(redis.primary.port)
    const slow = closing(new LockManager({ redis: { url: proxy.url, replicas: 2 } }))
    await rejection(slow.acquireStrong(unique()))
    const attempt = rejection(slow.acquireStrong(resource, { ttlMs: 600, ackTimeoutMs: 300 }))
    await eventually(
      'the key is there',
      async () => (await redis.primary.cmd('EXISTS', lockKey(resource))) === 1,
    )
    proxy.hold('toClient')
    await eventually(
      'the lease ended',
      async () => (await redis.primary.cmd('EXISTS', lockKey(resource))) === 0,
    )
    const thief = await locks.acquireStrong(resource, { acks: 0, ttlMs: 30_000 })
    proxy.flow()
    expect((await attempt).message).not.toBe('')
    await eventually('nothing is left to clean up', () => slow.stats().cleanups === 0)
    expect(await redis.primary.cmd('GET', lockKey(resource))).toBe(thief.owner)
    expect(await thief.release()).toBe(true)
  })

  it('does not make a loser wait for the replicas of others', async () => {
    const locks = closing(new LockManager({ redis: redis.url }))
    const held = await locks.acquireStrong(unique(), { ttlMs: 30_000 })
    pause(0)
    const refused = rejection(locks.acquireStrong(unique(), { ackTimeoutMs: 1_500 }))
    const began = performance.now()
    expect(await locks.tryAcquireStrong(held.resource, { ackTimeoutMs: 1_500 })).toBeNull()
    const busyAfter = performance.now() - began
    expect(await refused).toMatchObject({ code: 'INSUFFICIENT_REPLICAS' })
    expect(busyAfter).toBeLessThan((performance.now() - began) / 2)
  })

  it('knows of a batch that breaks who was busy, and not who was granted', async () => {
    const proxy = await startProxy(redis.primary.port)
    const locks = closing(new LockManager({ redis: proxy.url }))
    const held = await locks.acquireStrong(unique(), { ttlMs: 30_000 })
    pause(0)
    const resource = unique()
    const calls = Promise.allSettled([
      locks.acquireStrong(resource, { ackTimeoutMs: 2_000, ttlMs: 60_000 }),
      locks.tryAcquireStrong(held.resource, { ackTimeoutMs: 2_000 }),
    ])
    await eventually(
      'it was granted',
      async () => (await redis.primary.cmd('EXISTS', lockKey(resource))) === 1,
    )
    proxy.cut()
    const [granted, busy] = await calls
    expect(busy).toEqual({ status: 'fulfilled', value: null })
    expect(granted).toMatchObject({ status: 'rejected', reason: { code: 'OUTCOME_UNKNOWN' } })
    await eventually(
      'the key is gone',
      async () => (await redis.primary.cmd('EXISTS', lockKey(resource))) === 0,
    )
    expect(await redis.primary.cmd('GET', lockKey(held.resource))).toBe(held.owner)
  })

  it('leaves deadline and lease as they were when an extension is not acknowledged', async () => {
    const locks = closing(new LockManager({ redis: redis.url }))
    const lock = await locks.acquireStrong(unique(), { ttlMs: 5_000 })
    pause(0, 1)
    const error = await rejection(lock.extend(60_000))
    expect(error).toMatchObject({ code: 'INSUFFICIENT_REPLICAS', required: 2, received: 0 })
    expect(lock.held).toBe(true)
    expect(lock.remainingMs).toBeLessThan(5_000)
    expect(lock.signal.aborted).toBe(false)
  })

  it('does not know the outcome when the primary is demoted while it waits', async () => {
    const own = await startPrimary()
    const locks = closing(new LockManager({ redis: own.url }))
    await (await locks.acquireStrong(unique())).release()
    for (const replica of own.replicas) replica.pause()
    const resource = unique()
    const attempt = rejection(locks.acquireStrong(resource, { ackTimeoutMs: 4_000, ttlMs: 60_000 }))
    await eventually('it was granted', async () => (await own.primary.cmd('EXISTS', lockKey(resource))) === 1)
    await own.primary.replicate(redis.primary)
    expect(await attempt).toMatchObject({ code: 'OUTCOME_UNKNOWN' })
  })

  it('survives a failover to a replica that acknowledged it, and to no other', async () => {
    const own = await startPrimary({ replicaProxies: true })
    const locks = closing(new LockManager({ redis: own.url }))
    await (await locks.acquireStrong(unique())).release()
    await settled(own)
    const [slow, cutOff] = own.links
    slow!.hold('toClient')
    cutOff!.swallow('toClient')
    const resource = unique()
    let granted = false
    const call = locks
      .acquireStrong(resource, { acks: 1, ackTimeoutMs: 5_000, ttlMs: 60_000 })
      .then((lock) => {
        granted = true
        return lock
      })
    // The primary alone has it: no grant yet.
    expect(await eventually('the primary has it', () => locks.inspect(resource))).toMatchObject({ resource })
    expect(granted).toBe(false)
    slow!.flow('toClient')
    const lock = await call
    await own.primary.kill()
    expect(lock.acks).toEqual({ required: 1, received: 1 })
    const [acknowledged, silent] = own.replicas.map((replica) =>
      closing(new LockManager({ redis: { url: replica.url, replicas: 0 } })),
    )
    for (const replica of own.replicas) await replica.promote()
    expect(await acknowledged!.inspect(resource)).toMatchObject({ owner: lock.owner, token: lock.token })
    expect(await acknowledged!.tryAcquireStrong(resource)).toBeNull()
    // Had this one been promoted alone, the lock would be lost; the fence tells the holders apart.
    expect(await silent!.inspect(resource)).toBeNull()
    expect((await silent!.acquireStrong(resource)).token).toBeGreaterThan(lock.token)
    expect(lock.held).toBe(true)
  })

  it('can be lost without acknowledgements, which is what they are for', async () => {
    const own = await startPrimary({ replicaProxies: true })
    const locks = closing(new LockManager({ redis: own.url }))
    await (await locks.acquireStrong(unique())).release()
    for (const link of own.links) link.swallow('toClient')
    const resource = unique()
    expect(await rejection(locks.acquireStrong(resource))).toMatchObject({ code: 'INSUFFICIENT_REPLICAS' })
    const doomed = await locks.acquireStrong(resource, { acks: 0, ttlMs: 30_000 })
    expect(doomed.held).toBe(true)
    await own.primary.kill()
    const promoted = await own.failOver()
    const survivors = closing(new LockManager({ redis: { url: promoted.url, replicas: 0 } }))
    const second = await survivors.acquireStrong(resource)
    // Two holders at once; the fence tells them apart.
    expect(doomed.held).toBe(true)
    expect(second.token).toBeGreaterThan(doomed.token)
  })
})

describe('with a proxy before the primary', () => {
  let redis: Deployment
  beforeAll(async () => {
    redis = await startPrimary()
  })

  it('does not know the outcome when the connection breaks between the script and its WAIT, and cleans up', async () => {
    const proxy = await startProxy(redis.primary.port)
    const locks = closing(new LockManager({ redis: proxy.url }))
    await (await locks.acquireStrong(unique())).release()
    const resource = unique()
    const cut = proxy.when('WAIT', { deliver: 'before', act: 'cut' })
    const error = await rejection(locks.acquireStrong(resource, { ttlMs: 60_000 }))
    await cut
    expect(error).toBeInstanceOf(OutcomeUnknownError)
    expect(error).toMatchObject({ code: 'OUTCOME_UNKNOWN', resource })
    // The fault bites: without the cleanup the key would stay for a minute.
    await eventually(
      'the key is gone',
      async () => (await redis.primary.cmd('EXISTS', lockKey(resource))) === 0,
    )
    await eventually('the cleanup is over', () => locks.stats().cleanups === 0)
    expect(await redis.primary.cmd('EXISTS', `fencelock:{${resource}}:fence`)).toBe(1) // it had been granted
    expect(locks.stats()).toMatchObject({ unknown: 1, held: 0 })
    expect((await locks.acquireStrong(resource)).acks).toEqual({ required: 2, received: 2 })
  })

  it('does not know the outcome when no reply comes, and closes the connection', async () => {
    const proxy = await startProxy(redis.primary.port)
    const locks = closing(new LockManager({ redis: { url: proxy.url, commandTimeoutMs: 300 } }))
    await (await locks.acquireStrong(unique())).release()
    const resource = unique()
    const swallowed = proxy.when('WAIT', { act: 'swallow' })
    const began = performance.now()
    const error = await rejection(locks.acquireStrong(resource, { ttlMs: 60_000 }))
    await swallowed
    expect(error).toMatchObject({ code: 'OUTCOME_UNKNOWN' })
    expect(performance.now() - began).toBeLessThan(5_000)
    await eventually(
      'the key is gone',
      async () => (await redis.primary.cmd('EXISTS', lockKey(resource))) === 0,
    )
    expect((await locks.acquireStrong(resource)).acks).toEqual({ required: 2, received: 2 })
  })

  it('cleans up a request that arrives late', async () => {
    const proxy = await startProxy(redis.primary.port)
    const locks = closing(new LockManager({ redis: { url: proxy.url, commandTimeoutMs: 200 } }))
    await (await locks.acquireStrong(unique())).release()
    const resource = unique()
    const held = proxy.when(resource, { deliver: 'before', act: 'hold' })
    const error = await rejection(locks.acquireStrong(resource, { ttlMs: 60_000 }))
    await held
    expect(error).toMatchObject({ code: 'OUTCOME_UNKNOWN' })
    await sleep(300) // a cleanup has found nothing by now
    expect(await redis.primary.cmd('EXISTS', lockKey(resource))).toBe(0)
    proxy.flow() // and only now the script comes through
    await eventually(
      'the script ran',
      async () => (await redis.primary.cmd('EXISTS', `fencelock:{${resource}}:fence`)) === 1,
    )
    await eventually(
      'the key is gone',
      async () => (await redis.primary.cmd('EXISTS', lockKey(resource))) === 0,
      15_000,
    )
    await eventually('the cleanup is over', () => locks.stats().cleanups === 0)
  })

  it.each([
    ['a grant', 'between two calls', false],
    ['a grant', 'before the server read it', true],
    ['an extension', 'between two calls', false],
    ['an extension', 'before the server read it', true],
  ])('for %s takes no acknowledgement from a connection that was cut %s', async (what, _, inMidCall) => {
    const proxy = await startProxy(redis.primary.port)
    const locks = closing(new LockManager({ redis: proxy.url }))
    const held = await locks.acquireStrong(unique(), { ttlMs: 60_000 })
    await held.extend() // by now there is every kind of connection
    await settled(redis)
    for (const replica of redis.replicas) replica.pause()
    onCleanup(async () => {
      for (const replica of redis.replicas) replica.resume()
      await redis.primary.waitForReplicas(2)
    })
    // The fault bites: a WAIT on any other connection than the one that writes next is answered by both of them.
    const other = await redis.primary.connect()
    await other.cmd('PING')
    expect(await other.cmd('WAIT', 2, 50)).toBe(2)
    other.close()

    const granted: string[] = []
    const call = (): Promise<unknown> => {
      if (what === 'an extension') return held.extend()
      granted.push(unique())
      return locks.acquireStrong(granted.at(-1)!, { ttlMs: 60_000 })
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
      // The cut may reach us only after we sent something.
      const error = await rejection<Error & { code?: string }>(call())
      return error.code !== 'OUTCOME_UNKNOWN' && error
    })
    expect(proxy.accepted).toBeGreaterThan(before)
    expect(refused).toBeInstanceOf(InsufficientReplicasError)
    expect(refused).toMatchObject({ required: 2, received: 0 })
    for (const resource of granted) expect(await redis.primary.cmd('EXISTS', lockKey(resource))).toBe(0)
  })

  it('leaves no key behind without a holder, however often the connection breaks', async () => {
    const proxy = await startProxy(redis.primary.port)
    const locks = closing(new LockManager({ redis: proxy.url }))
    const owners = new Set<unknown>()
    for (let round = 0; round < 10; round++) {
      // Three waves: before the cut, into it, and over the connections that come after it.
      for (const wave of ['before', 'during', 'after']) {
        const resources = Array.from({ length: 20 }, () => unique())
        const calls = resources.map((resource) => locks.acquireStrong(resource, { ttlMs: 3_000 }))
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
          // Acknowledged means: every replica has it.
          for (const replica of redis.replicas) {
            expect(await replica.cmd('GET', lockKey(outcome.value.resource))).toBe(outcome.value.owner)
          }
        }
      }
    }
    expect(owners.size).toBeGreaterThan(0)
    expect(locks.stats().unknown).toBeGreaterThan(0)
    await eventually('the cleanups are over', () => locks.stats().cleanups === 0, 25_000)
    for (const key of (await redis.primary.cmd('KEYS', 'fencelock:*:lock')) as string[]) {
      expect(owners).toContain(await redis.primary.cmd('GET', key))
    }
  })

  it('does not know the outcome of an extension whose reply was lost', async () => {
    const proxy = await startProxy(redis.primary.port)
    const locks = closing(new LockManager({ redis: proxy.url }))
    const lock = await locks.acquireStrong(unique(), { ttlMs: 5_000 })
    await lock.extend()
    const cut = proxy.when('WAIT', { act: 'cut' })
    expect(await rejection(lock.extend(60_000))).toMatchObject({ code: 'OUTCOME_UNKNOWN' })
    await cut
    expect(lock.held).toBe(true)
    expect(lock.remainingMs).toBeLessThan(5_000)
    await lock.extend(60_000)
    expect(lock.remainingMs).toBeGreaterThan(50_000)
    expect(await lock.release()).toBe(true)
  })

  it('cleans up after a release whose reply was lost', async () => {
    const proxy = await startProxy(redis.primary.port)
    const locks = closing(new LockManager({ redis: proxy.url }))
    const lock = await locks.acquireStrong(unique(), { ttlMs: 60_000 })
    proxy.refusing = true
    proxy.cut()
    const error = await rejection(lock.release())
    expect(['OUTCOME_UNKNOWN', 'BACKEND_UNAVAILABLE']).toContain((error as { code?: string }).code)
    expect(await redis.primary.cmd('EXISTS', lockKey(lock.resource))).toBe(1)
    proxy.refusing = false
    await eventually(
      'the key is gone',
      async () => (await redis.primary.cmd('EXISTS', lockKey(lock.resource))) === 0,
      15_000,
    )
  })

  it('gives back a grant that comes after its deadline', async () => {
    const proxy = await startProxy(redis.primary.port)
    const locks = closing(new LockManager({ redis: { url: proxy.url, commandTimeoutMs: 10_000 } }))
    await (await locks.acquireStrong(unique())).release()
    const resource = unique()
    const ttlMs = 2_000
    proxy.hold()
    const call = rejection(locks.acquireStrong(resource, { ttlMs }))
    await sleep(ttlMs)
    proxy.flow('toServer')
    // For the server the lease begins only now, while for us it is over.
    await eventually(
      'it was granted',
      async () => (await redis.primary.cmd('EXISTS', lockKey(resource))) === 1,
    )
    const left = Number(await redis.primary.cmd('PTTL', lockKey(resource)))
    expect(left).toBeGreaterThan(ttlMs / 2)
    const began = performance.now()
    proxy.flow()
    expect(await call).toMatchObject({ code: 'LOCK_LOST', resource })
    expect(await redis.primary.cmd('PTTL', lockKey(resource))).toBe(-2)
    expect(performance.now() - began).toBeLessThan(left) // long before it would have gone by itself
    expect(locks.stats().held).toBe(0)
    // A reply that is late is no harm to a lease that is long enough.
    proxy.delay(300, 'toClient')
    expect((await locks.acquireStrong(resource, { ttlMs: 10_000 })).held).toBe(true)
  })

  it('disposes without an error when the backend is away, and closes in time', async () => {
    const proxy = await startProxy(redis.primary.port)
    const locks = new LockManager({ redis: { url: proxy.url, connectTimeoutMs: 500, commandTimeoutMs: 500 } })
    const [one, two] = [await locks.acquireStrong(unique()), await locks.acquireStrong(unique())]
    await proxy.stop()
    await one[Symbol.asyncDispose]()
    const began = performance.now()
    await locks.close()
    expect(performance.now() - began).toBeLessThan(5_000)
    expect(two.held).toBe(false)
  })
})

describe('with a server that refuses', () => {
  it('says that WAIT is missing, and takes the grant back', async () => {
    const server = await startRedis({ config: ['rename-command WAIT ""'] })
    const locks = closing(new LockManager({ redis: { url: server.url, replicas: 1 } }))
    const resource = unique()
    const error = await rejection(locks.acquireStrong(resource, { ttlMs: 60_000 }))
    expect(error).toMatchObject({ code: 'UNSUPPORTED', message: expect.stringContaining('WAIT') })
    expect(await server.cmd('EXISTS', lockKey(resource), `fencelock:{${resource}}:fence`)).toBe(1) // it had been granted
    expect((await locks.acquireStrong(resource, { acks: 0 })).held).toBe(true)
  })

  it('says that scripts are missing', async () => {
    const server = await startRedis({ config: ['rename-command EVALSHA ""'] })
    const locks = closing(new LockManager({ redis: { url: server.url, replicas: 0 } }))
    expect(await rejection(locks.acquireStrong(unique()))).toMatchObject({
      code: 'UNSUPPORTED',
      message: expect.stringContaining('EVALSHA'),
    })
    expect(await server.cmd('DBSIZE')).toBe(0)
  })

  it('tells a replica from a primary, and writes nothing', async () => {
    const redis = await startPrimary({ replicas: 1 })
    const locks = closing(new LockManager({ redis: { url: redis.replicas[0]!.url, replicas: 1 } }))
    const resource = unique()
    const error = await rejection(locks.acquireStrong(resource))
    expect(error).toMatchObject({ code: 'BACKEND_UNAVAILABLE' })
    expect(error.message).toMatch(/replica/i)
    expect(await redis.primary.cmd('EXISTS', lockKey(resource))).toBe(0)
  })

  it('goes on by itself when the server was restarted', async () => {
    const server = await startRedis()
    const locks = closing(new LockManager({ redis: { url: server.url, replicas: 0 } }))
    const first = await locks.acquireStrong(unique(), { ttlMs: 60_000 })
    await server.restart()
    const next = await eventually('a lock after the restart', () =>
      locks.acquireStrong(first.resource).catch(() => null),
    )
    expect(next.token).toBeGreaterThan(first.token)
    expect(await first.release()).toBe(false)
    expect(await locks.inspect(first.resource)).toMatchObject({ owner: next.owner })
  })

  it('tells a lack of replicas that the server itself noticed', async () => {
    const server = await startRedis({ config: ['min-replicas-to-write 1'] })
    const locks = closing(new LockManager({ redis: { url: server.url, replicas: 1 } }))
    expect(await rejection(locks.acquireStrong(unique()))).toMatchObject({
      code: 'INSUFFICIENT_REPLICAS',
      rolledBack: true,
    })
  })

  it('fails within the time limit when nobody is there, every time, and recovers', async () => {
    const server = await startRedis()
    const locks = closing(
      new LockManager({ redis: { url: server.url, replicas: 0, connectTimeoutMs: 1_000 } }),
    )
    await (await locks.acquireStrong(unique())).release()
    await server.kill()
    for (let round = 0; round < 5; round++) {
      const began = performance.now()
      expect(await rejection(locks.acquireStrong(unique()))).toMatchObject({
        code: expect.stringMatching(/BACKEND_UNAVAILABLE|OUTCOME_UNKNOWN/),
      })
      expect(performance.now() - began).toBeLessThan(3_000)
    }
    await server.start()
    await eventually('it is back', () => locks.acquireStrong(unique()).catch(() => null))
  })

  it('fails within the time limit when the server accepts and says nothing', async () => {
    const server = await startRedis()
    const proxy = await startProxy(server.port)
    proxy.swallow()
    const locks = closing(new LockManager({ redis: { url: proxy.url, replicas: 0, connectTimeoutMs: 400 } }))
    const began = performance.now()
    expect(await rejection(locks.acquireStrong(unique()))).toMatchObject({ code: 'BACKEND_UNAVAILABLE' })
    expect(performance.now() - began).toBeLessThan(4_000)
  })
})
