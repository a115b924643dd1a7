/** The oldest Redis that is supported, with Sentinels: locks, a failover, and a lease that outlives it. */
import { LockManager } from 'fencelock'
import { expect, test } from 'vitest'

import { closing, unique } from '../../fixtures/locks'
import { redis6Program } from '../../fixtures/servers/products'
import { startSentinel } from '../../fixtures/servers/sentinel'
import { eventually } from '../../fixtures/temp'
import { scriptsAreDone } from '../support'

test.runIf(redis6Program !== undefined)('locks outlive a failover', { timeout: 60_000 }, async () => {
  const deployment = await startSentinel({ program: redis6Program })
  const { sentinelUrls: sentinels, name } = deployment
  const defaults = { acks: 1, ackTimeoutMs: 2000 }
  const locks = closing(new LockManager({ redis: { sentinels, name, replicas: 2 }, defaults }))
  const [kept, renewed] = [
    await locks.acquireStrong(unique(), { ttlMs: 60_000, acks: 2 }),
    await locks.acquireStrong(unique(), { ttlMs: 15_000, renew: true }),
  ]
  expect(kept.acks).toEqual({ required: 2, received: 2 })
  expect(await locks.tryAcquireStrong(kept.resource)).toBeNull()
  const waiting = locks.acquireStrong(kept.resource, { waitMs: 50_000 })
  await eventually('it waits', () => locks.stats().waiting === 1)

  const old = await deployment.primary()
  await scriptsAreDone(old)
  await old.kill()
  const promoted = await deployment.agree((primary) => primary !== old)
  await promoted.waitForReplicas(1)
  const free = () => locks.acquireStrong(unique()).catch(() => undefined)
  const fresh = await eventually('locks are granted', free)
  expect(await fresh.release()).toBe(true)
  expect(await locks.inspect(kept.resource)).toMatchObject({ owner: kept.owner, token: kept.token })
  expect(await kept.release()).toBe(true)
  const next = await waiting
  expect(next.token).toBeGreaterThan(kept.token)
  expect(await next.release()).toBe(true)
  await eventually('it is renewed', () => renewed.remainingMs > 12_000)
  expect(await locks.inspect(renewed.resource)).toMatchObject({ owner: renewed.owner })
  expect(await renewed.release()).toBe(true)
})
