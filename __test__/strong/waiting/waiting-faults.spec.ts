/**
 * Waiting for strong locks on servers that restart, are down or full, drop subscriptions, forbid commands, or
 * are a cluster.
 */
import { LockManager } from 'fencelock'
import { expect, it } from 'vitest'

import { closing, rejection, unique } from '../../fixtures/locks'
import { startProxy } from '../../fixtures/servers/proxy'
import { startRedis } from '../../fixtures/servers/redis'
import { eventually, sleep } from '../../fixtures/temp'
import { connected, lockKey, queueKey, rejectionOnceAway, scriptsAreDone } from '../support'

it('continues when the server was restarted and lost its data', async () => {
  const server = await startRedis()
  const connect = (): LockManager => closing(new LockManager({ redis: { url: server.url, replicas: 0 } }))
  const [one, two] = [connect(), connect()]
  const resource = unique()
  await one.acquireStrong(resource, { ttlMs: 60_000 })
  const next = two.acquireStrong(resource, { waitMs: 30_000 })
  await eventually('it is queued', () => server.cmd('EXISTS', queueKey(resource)))
  await scriptsAreDone(server)
  await server.kill()
  await sleep(300)
  await server.start()
  expect((await next).held).toBe(true)
})

it('reports that the server is down to all waiters, if it still is when their time is over', async () => {
  const server = await startRedis()
  const locks = closing(new LockManager({ redis: { url: server.url, replicas: 0 } }))
  const resource = unique()
  await locks.acquireStrong(resource, { ttlMs: 60_000 })
  const waits = [1, 2, 3].map(() => rejection(locks.acquireStrong(resource, { waitMs: 5_000 })))
  await eventually('one is queued', () => server.cmd('EXISTS', queueKey(resource)))
  await scriptsAreDone(server)
  await server.kill()
  for (const error of await Promise.all(waits)) expect(error).toMatchObject({ code: 'BACKEND_UNAVAILABLE' })
})

it('waits for a server that went away before the first attempt, not for one that never was there', async () => {
  const server = await startRedis()
  const options = { redis: { url: server.url, replicas: 0 } }
  const known = closing(new LockManager(options))
  await (await known.acquireStrong(unique())).release()
  await server.kill()
  expect(await rejectionOnceAway(known)).toMatchObject({ code: 'BACKEND_UNAVAILABLE' })
  const outcomes: string[] = []
  const next = known.acquireStrong(unique(), { waitMs: 30_000 }).finally(() => outcomes.push('known'))
  const stranger = closing(new LockManager(options))
  const refused = rejection(stranger.acquireStrong(unique(), { waitMs: 30_000 }))
  expect(await refused).toMatchObject({ code: 'BACKEND_UNAVAILABLE' })
  expect(outcomes).toEqual([])
  await server.start()
  expect((await next).held).toBe(true)
})

it('reports a missing permission', async () => {
  const server = await startRedis({ users: ['app on >secret ~fencelock:* +@all resetchannels'] })
  const { port } = server
  const locks = closing(
    new LockManager({ redis: { url: `redis://app:secret@127.0.0.1:${port}`, replicas: 0 } }),
  )
  const resource = unique()
  const lock = await locks.acquireStrong(resource)
  expect(await rejection(locks.acquireStrong(resource, { waitMs: Infinity }))).toMatchObject({
    code: 'BACKEND_UNAVAILABLE',
    message: expect.stringContaining('&fencelock:wake:*'),
  })
  expect(await lock.release()).toBe(true)
})

it('renews waiters on a cluster of one node, which accepts no keys of several slots in one call', async () => {
  const server = await startRedis({ cluster: true })
  await server.cmd('CLUSTER', 'ADDSLOTSRANGE', 0, 16_383)
  await eventually('the cluster is up', async () => {
    return String(await server.cmd('CLUSTER', 'INFO')).includes('cluster_state:ok')
  })
  const connect = (): LockManager => closing(new LockManager({ redis: { url: server.url, replicas: 0 } }))
  const [one, two] = [connect(), connect()]
  const resources = [unique(), unique(), unique()]
  const locks = await Promise.all(resources.map((name) => one.acquireStrong(name, { ttlMs: 60_000 })))
  const waits = resources.map((name) => two.acquireStrong(name, { waitMs: 30_000 }))
  await sleep(3_000) // twice as long as a waiter counts as alive without a heartbeat
  const took: number[] = []
  for (const [index, lock] of locks.entries()) {
    const began = performance.now()
    await lock.release()
    await waits[index]
    took.push(performance.now() - began)
  }
  // Those that do not count as alive are not notified. A busy machine may delay one.
  expect(took.toSorted((a, b) => a - b)[1]).toBeLessThan(500)
})

it('reports every grant, even when its place in the queue cannot be removed', async () => {
  const server = await startRedis({ users: ['app on >secret ~fencelock:* &fencelock:* +@all'] })
  const url = `redis://app:secret@127.0.0.1:${server.port}`
  const locks = closing(new LockManager({ redis: { url, replicas: 0 } }))
  const resource = unique()
  const lock = await locks.acquireStrong(resource)
  // Before the first grant its lack would have been noticed.
  await server.cmd('ACL', 'SETUSER', 'app', '-zrem')
  const next = locks.acquireStrong(resource, { waitMs: 10_000 })
  await eventually('it is queued', () => server.cmd('EXISTS', queueKey(resource)))
  await lock.release()
  // It cannot be removed from the queue, and its grant is reported all the same.
  expect(await (await next).release()).toBe(true)
})

it('does not touch a key of another application in place of the queue', async () => {
  const server = await startRedis()
  const locks = closing(new LockManager({ redis: { url: server.url, replicas: 0 } }))
  const resource = unique()
  await server.cmd('SET', queueKey(resource), 'mine')
  expect(await rejection(locks.acquireStrong(resource))).toMatchObject({ code: 'BACKEND_UNAVAILABLE' })
  expect(await server.cmd('GET', queueKey(resource))).toBe('mine')
  expect(await server.cmd('EXISTS', lockKey(resource))).toBe(0)
  const neighbour = await locks.acquireStrong(unique())
  expect(await neighbour.release()).toBe(true)
})

it('subscribes again after a pause, if its subscriptions are closed as soon as they are made', async () => {
  const server = await startRedis()
  const [one, two] = await Promise.all([1, 2].map(() => connected({ url: server.url, replicas: 0 })))
  const resource = unique()
  const lock = await one!.acquireStrong(resource, { ttlMs: 60_000 })
  const next = two!.acquireStrong(resource, { waitMs: 30_000 })
  await eventually('it is queued', () => server.cmd('EXISTS', queueKey(resource)))
  const connections = async (): Promise<number> =>
    Number((await server.info('stats')).total_connections_received)
  const before = await connections()
  const end = performance.now() + 1_000
  while (performance.now() < end) await server.cmd('CLIENT', 'KILL', 'TYPE', 'pubsub')
  expect((await connections()) - before).toBeLessThan(20)
  await lock.release()
  expect((await next).held).toBe(true)
})

it('notices a subscription that was dropped silently', async () => {
  const server = await startRedis()
  const proxy = await startProxy(server.port)
  const one = await connected({ url: server.url, replicas: 0 })
  const two = await connected({ url: proxy.url, replicas: 0, commandTimeoutMs: 1_600 })
  const resource = unique()
  const lock = await one.acquireStrong(resource, { ttlMs: 60_000 })
  // From the end of the reply to SUBSCRIBE, nothing arrives on that connection any more. It is looked for
  // then only, because other replies have lines with that end, for example that to INFO: uptime_in_seconds:1.
  const dropped = proxy
    .when('SUBSCRIBE\r\n', { act: () => undefined })
    .then(() => proxy.when(':1\r\n', { in: 'toClient', act: 'swallow' }))
  const next = two.acquireStrong(resource, { waitMs: 30_000 })
  await dropped
  const subscriber = async (): Promise<string | undefined> =>
    /^id=(\d+)/m.exec(String(await server.cmd('CLIENT', 'LIST', 'TYPE', 'pubsub')))?.[1]
  const old = await eventually('it has subscribed', subscriber)
  await eventually('it subscribes again', async () => ![undefined, old].includes(await subscriber()))
  await lock.release()
  expect((await next).held).toBe(true)
})

it('goes on waiting while the server has no room for its subscription', async () => {
  const server = await startRedis()
  const [one, two] = await Promise.all([1, 2].map(() => connected({ url: server.url, replicas: 0 })))
  const resource = unique()
  const lock = await one!.acquireStrong(resource, { ttlMs: 60_000 })
  await server.cmd('CONFIG', 'SET', 'maxclients', (await server.info('clients')).connected_clients!)
  const short = rejection(two!.acquireStrong(resource, { waitMs: 300, fair: true }))
  const next = two!.acquireStrong(resource, { waitMs: 30_000 })
  expect(await short).toMatchObject({ code: 'LOCK_HELD' })
  await lock.release()
  const began = performance.now()
  expect((await next).held).toBe(true)
  expect(performance.now() - began).toBeLessThan(6_000)
})

it('keeps the order of fair waiters while the server is out of memory, and says so', async () => {
  const server = await startRedis()
  const [one, two, three] = await Promise.all(
    [1, 2, 3].map(() => connected({ url: server.url, replicas: 0 })),
  )
  const resource = unique()
  const lock = await one!.acquireStrong(resource, { ttlMs: 60_000 })
  const served: number[] = []
  const waits: Promise<unknown>[] = []
  for (const [number, locks] of [two!, three!, two!, three!].entries()) {
    const wait = locks.acquireStrong(resource, { waitMs: 30_000, fair: true })
    waits.push(
      wait.then((mine) => {
        served.push(number)
        return mine.release()
      }),
    )
    await eventually('it is queued', async () => {
      return (await server.cmd('ZCOUNT', queueKey(resource), 1e14, '+inf')) === number + 1
    })
  }
  await server.cmd('CONFIG', 'SET', 'maxmemory', 1)
  expect(await one!.tryAcquireStrong(resource)).toBeNull()
  expect((await one!.describe()).warnings.join()).toContain('at its memory limit')
  const free = unique()
  expect(await rejection(one!.acquireStrong(free))).toMatchObject({
    code: 'BACKEND_UNAVAILABLE',
    message: expect.stringContaining('out of memory'),
  })
  await lock.extend()
  await sleep(1_800) // longer than a process without a heartbeat counts as alive
  await server.cmd('CONFIG', 'SET', 'maxmemory', 0)
  await lock.release()
  await Promise.all(waits)
  expect(served).toEqual([0, 1, 2, 3])
})

it('is possible without PUBLISH, which `describe()` reports', async () => {
  const server = await startRedis({ users: ['app on >secret ~fencelock:* &fencelock:* +@all -publish'] })
  const url = `redis://app:secret@127.0.0.1:${server.port}`
  const locks = await connected({ url, replicas: 0 })
  expect((await locks.describe()).warnings.join()).toContain('releases cannot be announced')
  const resource = unique()
  const lock = await locks.acquireStrong(resource, { ttlMs: 60_000 })
  const waits = [[resource], [resource, unique()]].map((names) =>
    locks.acquireStrong(names, { waitMs: 10_000 }).then((mine) => mine.release()),
  )
  await eventually('they are queued', async () => {
    return (await server.cmd('ZCOUNT', queueKey(resource), 1e14, '+inf')) === 2
  })
  await lock.release()
  expect(await Promise.all(waits)).toEqual([true, true])
})
