/** Waiting for strong locks while Sentinels fail over, and calls while nothing can be reached. */
import { type LockError, LockManager } from 'fencelock'
import { describe, expect, test } from 'vitest'

import { closing, rejection, unique } from '../../fixtures/locks'
import { startSentinel } from '../../fixtures/servers/sentinel'
import { eventually } from '../../fixtures/temp'
import { queueKey, rejectionOnceAway, scriptsAreDone } from '../support'
import { managerOf } from './sentinel-load'

/** Waiters find a lock free this soon, also if nothing announces it. */
const soonMs = 4000

test('after kill -9 of the primary, those who wait are granted the lock once the new one has it free', async () => {
  const deployment = await startSentinel({ failoverTimeoutMs: 5000 })
  const [holder, first, second] = [0, 1, 2].map(() => managerOf(deployment))
  const primary = await deployment.primary()
  const held = await holder!.acquireStrong(unique(), { ttlMs: 60_000, acks: 'all', ackTimeoutMs: 2000 })
  const waiting = { waitMs: 30_000, ttlMs: 60_000 }
  const plain = first!.acquireStrong(held.resource, waiting)
  const fair = second!.acquireStrong(held.resource, { ...waiting, fair: true })
  const queued = async () => Number(await primary.cmd('ZCARD', queueKey(held.resource))) >= 2
  await eventually('they are queued', queued)
  await scriptsAreDone(primary)

  const timeline = await deployment.watch(primary)
  await primary.kill()
  await timeline.until('told')
  await timeline.until('linked')
  timeline.stop()
  // `false` after a call whose outcome was unknown, and that has released it.
  const release = (): Promise<unknown> =>
    held.release().then(
      () => true,
      () => undefined,
    )
  await eventually('the lease is released', release)
  const released = performance.now()

  const next = await Promise.race([plain, fair])
  expect(performance.now() - released).toBeLessThan(soonMs)
  expect(next.token).toBeGreaterThan(held.token)
  await next.release()
  const [one, other] = await Promise.all([plain, fair])
  expect(one.token).not.toBe(other.token)
})

describe('while nothing can be reached', () => {
  test('a call fails at once, one that waits is granted the lock when all are back', async () => {
    const deployment = await startSentinel({ replicas: 1, appendonly: true })
    const { sentinelUrls: sentinels, name } = deployment
    const connectTimeoutMs = 20_000
    const options = {
      redis: { sentinels, name, connectTimeoutMs },
      defaults: { acks: 1, ackTimeoutMs: 2000 },
    }
    const [known, fresh] = [0, 1].map(() => closing(new LockManager(options)))
    await (await known!.acquireStrong(unique())).release()

    const processes = [...deployment.sentinels, ...deployment.servers]
    await Promise.all(processes.map((each) => each.kill()))
    for (const locks of [known!, fresh!]) {
      const began = performance.now()
      const error =
        locks === known ? rejectionOnceAway(locks) : rejection<LockError>(locks.acquireStrong(unique()))
      const { code, message } = await error
      expect(performance.now() - began).toBeLessThan(connectTimeoutMs / 4)
      expect(code).toBe('BACKEND_UNAVAILABLE')
      expect(message).toContain('none of 3 Sentinels answers')
      expect(message).toContain('connection refused')
    }

    const waits = [known!, fresh!].map((locks) => locks.acquireStrong(unique(), { waitMs: 30_000 }))
    const early = await Promise.race([...waits, new Promise((resolve) => setTimeout(resolve, 500))])
    expect(early).toBeUndefined()
    await Promise.all(processes.map((each) => each.start()))
    for (const lock of await Promise.all(waits)) expect(lock.held).toBe(true)
  })

  test('without Sentinels the last primary goes on', async () => {
    const deployment = await startSentinel({ replicas: 1, sentinels: 1 })
    const locks = managerOf(deployment)
    await (await locks.acquireStrong(unique(), { ttlMs: 10_000, ackTimeoutMs: 2000 })).release()
    await Promise.all(deployment.sentinels.map((each) => each.kill()))
    const primary = await deployment.primary()
    await primary.cmd('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes')
    const lock = await eventually('a lock is granted', () =>
      locks.acquireStrong(unique(), { ttlMs: 10_000, ackTimeoutMs: 2000 }).catch(() => undefined),
    )
    expect(lock.acks).toEqual({ required: 1, received: 1 })
  })
})
