/** Waiting for strong locks on servers that restart, are down, forbid commands, or are a cluster. */
import { LockManager } from 'fencelock'
import { expect, it } from 'vitest'

import { closing, rejection, unique } from '../fixtures/locks'
import { startRedis } from '../fixtures/servers/redis'
import { eventually, sleep } from '../fixtures/temp'
import { queueKey, lockKey } from './support'

it('continues when the server was restarted and lost its data', async () => {
  const server = await startRedis()
  const connect = (): LockManager => closing(new LockManager({ redis: { url: server.url, replicas: 0 } }))
  const [one, two] = [connect(), connect()]
  const resource = unique()
  await one.acquireStrong(resource, { ttlMs: 60_000 })
  const next = two.acquireStrong(resource, { waitMs: 30_000 })
  await eventually('it is queued', () => server.cmd('EXISTS', queueKey(resource)))
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
  const waits = [1, 2, 3].map(() => rejection(locks.acquireStrong(resource, { waitMs: 3_000 })))
  await eventually('one is queued', () => server.cmd('EXISTS', queueKey(resource)))
  await server.kill()
  for (const error of await Promise.all(waits)) expect(error).toMatchObject({ code: 'BACKEND_UNAVAILABLE' })
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
  const began = performance.now()
  for (const lock of locks) await lock.release()
  await Promise.all(waits)
  expect(performance.now() - began).toBeLessThan(500)
})

it('reports every grant, even when its place in the queue cannot be removed', async () => {
  const server = await startRedis({ users: ['app on >secret ~fencelock:* &fencelock:* +@all -zrem'] })
  const url = `redis://app:secret@127.0.0.1:${server.port}`
  const locks = closing(new LockManager({ redis: { url, replicas: 0 } }))
  const resource = unique()
  const lock = await locks.acquireStrong(resource)
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
