/** Waiting for strong locks on servers that restart, are away, forbid commands, or are a cluster. */
import { LockManager } from 'fencelock'
import { expect, it } from 'vitest'

import { closing, rejection, unique } from '../fixtures/locks'
import { startRedis } from '../fixtures/servers/redis'
import { eventually, sleep } from '../fixtures/temp'
import { lineKey, lockKey } from './replication'

it('goes on when the server was restarted, and lost everything', async () => {
  const server = await startRedis()
  const connect = (): LockManager => closing(new LockManager({ redis: { url: server.url, replicas: 0 } }))
  const [one, two] = [connect(), connect()]
  const resource = unique()
  await one.acquireStrong(resource, { ttlMs: 60_000 })
  const next = two.acquireStrong(resource, { waitMs: 30_000 })
  await eventually('it is in line', () => server.cmd('EXISTS', lineKey(resource)))
  await server.kill()
  await sleep(300)
  await server.start()
  expect((await next).held).toBe(true)
})

it('tells all who wait that the server is away, if it is so in the end', async () => {
  const server = await startRedis()
  const locks = closing(new LockManager({ redis: { url: server.url, replicas: 0 } }))
  const resource = unique()
  await locks.acquireStrong(resource, { ttlMs: 60_000 })
  const waits = [1, 2, 3].map(() => rejection(locks.acquireStrong(resource, { waitMs: 3_000 })))
  await eventually('one is in line', () => server.cmd('EXISTS', lineKey(resource)))
  await server.kill()
  for (const error of await Promise.all(waits)) expect(error).toMatchObject({ code: 'BACKEND_UNAVAILABLE' })
})

it('says what it may not do', async () => {
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

it('shows life in a cluster of one, whose server takes no keys of several slots in one call', async () => {
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
  await sleep(3_000) // twice as long as somebody is believed to live
  const began = performance.now()
  for (const lock of locks) await lock.release()
  await Promise.all(waits)
  expect(performance.now() - began).toBeLessThan(500)
})

it('grants nothing that it does not tell of, whatever the line does', async () => {
  const server = await startRedis({ users: ['app on >secret ~fencelock:* &fencelock:* +@all -zrem'] })
  const url = `redis://app:secret@127.0.0.1:${server.port}`
  const locks = closing(new LockManager({ redis: { url, replicas: 0 } }))
  const resource = unique()
  const lock = await locks.acquireStrong(resource)
  const next = locks.acquireStrong(resource, { waitMs: 10_000 })
  await eventually('it is in line', () => server.cmd('EXISTS', lineKey(resource)))
  await lock.release()
  // It cannot be taken out of the line, and is told what it got all the same.
  expect(await (await next).release()).toBe(true)
})

it('leaves a line that is none of ours alone', async () => {
  const server = await startRedis()
  const locks = closing(new LockManager({ redis: { url: server.url, replicas: 0 } }))
  const resource = unique()
  await server.cmd('SET', lineKey(resource), 'mine')
  expect(await rejection(locks.acquireStrong(resource))).toMatchObject({ code: 'BACKEND_UNAVAILABLE' })
  expect(await server.cmd('GET', lineKey(resource))).toBe('mine')
  expect(await server.cmd('EXISTS', lockKey(resource))).toBe(0)
  const neighbour = await locks.acquireStrong(unique())
  expect(await neighbour.release()).toBe(true)
})
