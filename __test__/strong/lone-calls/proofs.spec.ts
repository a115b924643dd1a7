/** Calls that are made one after another, by what they need: acknowledgements, the disk, or nothing. */
import { LockManager } from 'fencelock'
import { describe, expect, it } from 'vitest'

import { closing, rejection, unique } from '../../fixtures/locks'
import { startPrimary, valkeyProgram } from '../../fixtures/servers/redis'
import { eventually, sleep } from '../../fixtures/temp'
import { leaseIsRemoved, lockKey } from '../support'
import { alone, isInline, open, ownConnection } from './support'

describe('a lone call', () => {
  it('that needs no acknowledgement uses the same connection, and waits for no replica', async () => {
    const redis = await startPrimary({ replicas: 1, replicaProxies: true })
    const url = redis.primary.url
    const locks = await alone({ url, replicas: 1 })
    if (isInline) {
      const own = await ownConnection(redis.primary, locks)
      expect(await ownConnection(redis.primary, locks, { acks: 0 })).toBe(own)
    }
    redis.links[0]!.hold('toServer')
    const began = performance.now()
    for (let round = 0; round < 20; round++) {
      const lock = await locks.acquireStrong('again', { acks: 0, ackTimeoutMs: 5_000 })
      expect(lock.acks).toBeNull()
      expect(await lock.release()).toBe(true)
    }
    expect(performance.now() - began).toBeLessThan(4_500)
    redis.links[0]!.flow()
    // Those that never need any have two connections in all, and none for a WAIT.
    const none = closing(new LockManager({ redis: { url, replicas: 1 }, defaults: { acks: 0 } }))
    await eventually('they have their own', async () => {
      await (await none.acquireStrong(unique())).release()
      return open(none) === (isInline ? 2 : 1)
    })
  })

  it.skipIf(valkeyProgram === undefined)('that must be on disk is proved there, or undone', async () => {
    const config = ['appendonly yes', 'appendfsync always']
    const { primary, replicas } = await startPrimary({ replicas: 1, program: valkeyProgram!, config })
    const locks = await alone({ url: primary.url, replicas: 1 })
    const fsync = { fsync: true, ackTimeoutMs: 2_000 }
    const own = isInline ? await ownConnection(primary, locks) : undefined
    // The first one asks whether the server can do that.
    await (await locks.acquireStrong(unique(), fsync)).release()
    for (let round = 0; round < 3; round++) {
      if (isInline) expect(await ownConnection(primary, locks, fsync)).toBe(own)
      const lock = await locks.acquireStrong(unique(), fsync)
      expect(lock.acks).toMatchObject({ required: 1, received: 1 })
      expect(await lock.release()).toBe(true)
    }
    await primary.cmd('SCRIPT', 'FLUSH')
    expect(await (await locks.acquireStrong(unique(), fsync)).release()).toBe(true)

    const appendfsync = (how: string) => replicas[0]!.cmd('CONFIG', 'SET', 'appendfsync', how)
    await appendfsync('no')
    const resource = unique()
    const began = performance.now()
    const error = await rejection(locks.acquireStrong(resource, { fsync: true, ackTimeoutMs: 300 }))
    expect(error).toMatchObject({ code: 'INSUFFICIENT_REPLICAS', rolledBack: true, required: 1, received: 0 })
    const took = performance.now() - began
    expect(took).toBeGreaterThan(290)
    expect(took).toBeLessThan(1_900)
    expect(await primary.cmd('EXISTS', lockKey(resource))).toBe(0)
    await appendfsync('always')
    await sleep(50)
    if (isInline) expect(await ownConnection(primary, locks, fsync)).toBe(own)

    // Another owner is told of at once, not after a time for the disk.
    const held = await locks.acquireStrong(resource, { ...fsync, ttlMs: 60_000 })
    await appendfsync('no')
    const asked = performance.now()
    expect(await locks.tryAcquireStrong(resource, { fsync: true, ackTimeoutMs: 4_000 })).toBeNull()
    expect(performance.now() - asked).toBeLessThan(3_800)
    expect(await held.release()).toBe(true)
    await leaseIsRemoved(primary, resource)
  })
})
