/** Strong locks across a failover behind a name, as managed services make it: the name leads elsewhere. */
import { LockManager } from 'fencelock'
import { expect, test } from 'vitest'

import { closing, rejection, unique } from '../../fixtures/locks'
import { startProxy } from '../../fixtures/servers/proxy'
import { startPrimary } from '../../fixtures/servers/redis'
import { eventually, sleep } from '../../fixtures/temp'

/** Long before a lease ends; a second and a half are for a machine that stalls. */
const limitMs = 3000
const ttlMs = 6000

test.each([
  { profile: 'without acknowledgements', declared: 0, acks: 0 },
  { profile: 'with one of two', declared: 2, acks: 1 },
])('a waiter and a renewed lease, $profile', async ({ declared, acks }) => {
  const { primary, replicas } = await startPrimary({ replicas: Math.max(declared, 1) })
  const name = await startProxy(primary.port)
  const redis = { url: name.url, replicas: declared }
  const defaults = { acks, ackTimeoutMs: 2000 }
  const [holder, other] = [0, 1].map(() => closing(new LockManager({ redis, defaults })))
  const renewed = await holder!.acquireStrong(unique(), { ttlMs, renew: true })
  const granted = performance.now()
  const held = await holder!.acquireStrong(unique(), { ttlMs: 60_000 })
  const waiter = other!.acquireStrong(held.resource, { waitMs: 30_000 })
  // Whatever the acknowledgements, the servers that are promoted have everything.
  await primary.cmd('WAIT', replicas.length, 5000)
  await eventually('the waiter listens', async () =>
    String(await primary.cmd('PUBSUB', 'CHANNELS', '*')).includes('fencelock'),
  )

  // A planned failover: the old primary keeps its connections, and refuses writes.
  const [promoted, ...rest] = replicas
  await promoted!.cmd('REPLICAOF', 'NO', 'ONE')
  await Promise.all([primary, ...rest].map((each) => each.cmd('REPLICAOF', '127.0.0.1', promoted!.port)))
  await promoted!.waitForReplicas(1)
  expect(await rejection(primary.cmd('SET', 'x', '1'))).toMatchObject({
    message: expect.stringContaining('READONLY'),
  })
  name.switchTo(promoted!.port)

  const began = performance.now()
  const fresh = await eventually('a lock is granted', () =>
    other!.acquireStrong(unique()).catch(() => undefined),
  )
  expect(performance.now() - began).toBeLessThan(limitMs)
  await fresh.release()

  expect(await held.release()).toBe(true)
  const released = performance.now()
  const next = await waiter
  expect(performance.now() - released).toBeLessThan(limitMs)
  expect(next.token).toBeGreaterThan(held.token)
  await next.release()

  // Renewed at the new primary, beyond what it had before.
  await sleep(Math.max(0, granted + ttlMs + 200 - performance.now()))
  expect(renewed.held).toBe(true)
  expect(renewed.signal.aborted).toBe(false)
  expect(await other!.inspect(renewed.resource)).toMatchObject({ owner: renewed.owner })
  expect(await renewed.release()).toBe(true)
})
