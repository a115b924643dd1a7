/** Acquiring, holding, inspecting and releasing locks. */
import { LockHeldError, type Lock } from 'fencelock'
import { randomUUID } from 'node:crypto'
import { describe, expect, it } from 'vitest'

import { rejection, unique } from '../../fixtures/locks'
import { block, inTime } from '../../fixtures/stalls'
import { eventually } from '../../fixtures/temp'
import type { Chapter } from './subject'

export const holdingContract: Chapter = ({ manager, subject }) => {
  describe('holding', () => {
    it('grants a free resource, and does not grant it again while it is held', async () => {
      const [one, two] = [manager(), manager()]
      const resource = unique()
      const lock = await one.acquire(resource, { ttlMs: 60_000 })
      expect(lock).toMatchObject({
        resource,
        resources: [resource],
        strategy: subject().strategy,
        held: true,
      })
      expect(lock.owner).toMatch(/^[0-9a-f]{32}$/)
      expect(lock.remainingMs).toBeGreaterThan(50_000)
      expect(lock.remainingMs).toBeLessThan(60_000)
      expect(await two.tryAcquire(resource)).toBeNull()
      expect(await one.tryAcquire(resource)).toBeNull()
      const error = await rejection<LockHeldError>(two.acquire(resource))
      expect(error).toBeInstanceOf(LockHeldError)
      expect(error).toMatchObject({ code: 'LOCK_HELD', resource, strategy: subject().strategy })
      expect(error.remainingMs).toBeGreaterThan(50_000)
      expect(error.remainingMs).toBeLessThanOrEqual(60_000)
      expect(error.message).toMatch(/nothing was granted.*Retry later/)
      expect(lock.held).toBe(true)
    })

    it('grants the resource once more after a release', async () => {
      const [one, two] = [manager(), manager()]
      const resource = unique()
      const lock = await one.acquire(resource)
      const released = lock.release()
      expect(lock.held).toBe(false)
      expect(lock.remainingMs).toBe(0)
      expect(lock.release()).toBe(released)
      expect(await released).toBe(true)
      const next = await two.acquire(resource)
      expect(await lock.release()).toBe(true) // the result of the first call; nothing is released again
      expect(next.held).toBe(true)
      expect(await one.tryAcquire(resource)).toBeNull()
    })

    it('grants the resource again after the lease ended, and reports the loss to the first holder', async () => {
      const [one, two] = [manager(), manager()]
      const lock = await inTime(450, () => one.acquire(unique(), { ttlMs: 2_000 }))
      const { resource } = lock
      await eventually('it has ended', () => !lock.held)
      expect(lock.remainingMs).toBe(0)
      const next = await eventually('it is granted again', () => two.tryAcquire(resource))
      expect(await rejection(lock.extend())).toMatchObject({ code: 'LOCK_LOST', resource })
      expect(await lock.release()).toBe(false)
      expect(lock.held).toBe(false)
      expect(next.held).toBe(true)
      expect(await one.tryAcquire(resource)).toBeNull()
    })

    it('does not hand out a lease that ended while the event loop was blocked', async () => {
      const locks = manager()
      await locks.connect()
      const resource = unique()
      const call = rejection(locks.acquire(resource, { ttlMs: 1_000 }))
      // The call is sent when this event-loop turn ends.
      await new Promise((resolve) => process.nextTick(resolve))
      block(2_300)
      expect(await call).toMatchObject({ code: 'LOCK_LOST', resource })
      await eventually('it is not held', () => locks.stats().held === 0)
      await eventually('it is free', () => locks.tryAcquire(resource))
    })

    it('grants the resource to one of many contenders', async () => {
      const managers = [manager(), manager(), manager()]
      const resource = unique()
      const attempts = Array.from({ length: 60 }, (_, index) => managers[index % 3]!.tryAcquire(resource))
      const locks = (await Promise.all(attempts)).filter((lock) => lock !== null)
      expect(locks).toHaveLength(1)
      expect(locks[0]!.held).toBe(true)
    })

    it('keeps resources apart, whatever their names are', async () => {
      const locks = manager()
      const id = randomUUID()
      const names = [
        '',
        '{',
        '}',
        '{}',
        '{a}',
        '}{',
        'a}b{c',
        ' ',
        '\n',
        '\0',
        '%',
        '%7D',
        ':',
        ':lock',
        '🔒',
        'Job',
        'job',
        "'",
        '"',
        '\\',
      ]
      const held = await Promise.all(
        names.flatMap((name) => [`${name}${id}`, `${id}${name}x`]).map((name) => locks.tryAcquire(name)),
      )
      expect(held.filter((lock) => lock === null)).toEqual([])
      for (const lock of held as Lock[]) expect(await locks.tryAcquire(lock.resource)).toBeNull()
    })

    it('accepts names of up to 512 bytes', async () => {
      const locks = manager()
      for (const name of [unique().padEnd(512, 'x'), `${randomUUID()}${'🔒'.repeat(119)}`]) {
        expect(Buffer.byteLength(name)).toBe(512)
        const lock = await locks.acquire(name)
        expect(await locks.inspect(name)).toMatchObject({
          resource: name,
          owner: lock.owner,
          token: lock.token,
        })
        expect(await lock.release()).toBe(true)
      }
    })
  })

  describe('tokens', () => {
    it('rise with every grant, across managers', async () => {
      const managers = [manager(), manager()]
      const resource = unique()
      let last = 0n
      for (let round = 0; round < 20; round++) {
        const lock = await managers[round % 2]!.acquire(resource)
        expect(lock.token).toBeGreaterThan(last)
        last = lock.token
        await lock.release()
      }
      // Tokens follow the clock in microseconds, so a backend that lost its tokens continues above them.
      expect(Number(last)).toBeGreaterThan((Date.now() - 60_000) * 1000)
    })

    it('are above the minToken that the caller passes', async () => {
      const locks = manager()
      const resource = unique()
      const minToken = BigInt(Date.now() + 3_600_000) * 1000n
      const lock = await locks.acquire(resource, { minToken })
      expect(lock.token).toBe(minToken + 1n)
      await lock.release()
      const next = await locks.acquire(resource)
      expect(next.token).toBe(minToken + 2n)
    })

    it('are strings in JSON', async () => {
      const locks = manager()
      const lock = await locks.acquire(unique())
      const json = JSON.parse(JSON.stringify(lock))
      expect(json).toMatchObject({
        resource: lock.resource,
        resources: [lock.resource],
        owner: lock.owner,
        token: String(lock.token),
        held: true,
      })
      const info = await locks.inspect(lock.resource)
      expect(JSON.parse(JSON.stringify(info))).toMatchObject({
        token: String(lock.token),
        strategy: subject().strategy,
      })
    })
  })

  describe('several resources', () => {
    it('are locked together, with one token above the last token of each', async () => {
      const [one, two] = [manager(), manager()]
      const [a, b, c] = [unique('a'), unique('b'), unique('c')]
      const high = await one.acquire(b, { minToken: BigInt(Date.now() + 3_600_000) * 1000n })
      await high.release()
      const lock = await one.acquire([c, a, b], { ttlMs: 10_000 })
      expect(lock).toMatchObject({ resource: c, resources: [c, a, b] })
      expect(lock.token).toBe(high.token + 1n)
      for (const name of [a, b, c]) {
        expect(await two.tryAcquire(name)).toBeNull()
        expect((await two.inspect(name))!.token).toBe(lock.token)
      }
      await lock.extend(20_000)
      for (const name of [a, b, c]) expect((await two.inspect(name))!.remainingMs).toBeGreaterThan(15_000)
      expect(await lock.release()).toBe(true)
      for (const name of [a, b, c]) expect(await two.inspect(name)).toBeNull()
    })

    it('can be up to 1,000', async () => {
      const names = Array.from({ length: 1_000 }, (_, index) => unique(String(index)))
      const locks = manager()
      const lock = await locks.acquire(names)
      expect(lock.resources).toEqual(names)
      expect(await locks.tryAcquire(names.at(-1)!)).toBeNull()
      expect(await lock.release()).toBe(true)
    })

    it('are not locked at all if one of them is held', async () => {
      const locks = manager()
      const [a, b, c] = [unique('a'), unique('b'), unique('c')]
      const lock = await locks.acquire(b)
      expect(await locks.tryAcquire([a, b, c])).toBeNull()
      expect(await locks.inspect(a)).toBeNull()
      expect(await locks.inspect(c)).toBeNull()
      expect((await locks.inspect(b))!.token).toBe(lock.token)
    })

    it('are lost if one of them is lost', async () => {
      const locks = manager()
      const [a, b] = [unique('a'), unique('b')]
      const lock = await locks.acquire([a, b])
      await locks.forceRelease(b)
      const thief = await locks.acquire(b)
      expect(await rejection(lock.extend())).toMatchObject({ code: 'LOCK_LOST' })
      expect(lock.held).toBe(false)
      expect(await lock.release()).toBe(false)
      expect(await locks.inspect(b)).toMatchObject({ owner: thief.owner })
    })
  })

  describe('inspecting and forcing', () => {
    it('inspects a lease, and releases it by force', async () => {
      const locks = manager()
      const resource = unique()
      expect(await locks.inspect(resource)).toBeNull()
      expect(await locks.forceRelease(resource)).toBe(false)
      const lock = await locks.acquire(resource, { ttlMs: 60_000 })
      const info = await locks.inspect(resource)
      expect(info).toMatchObject({
        resource,
        strategy: subject().strategy,
        owner: lock.owner,
        token: lock.token,
      })
      expect(info!.remainingMs).toBeGreaterThan(50_000)
      expect(info!.remainingMs).toBeLessThanOrEqual(60_000)
      expect(await locks.forceRelease(resource)).toBe(true)
      expect(await locks.inspect(resource)).toBeNull()
      expect(await lock.release()).toBe(false)
    })

    it('counts its operations', async () => {
      const locks = manager()
      const resource = unique()
      const lock = await locks.acquire(resource)
      await locks.tryAcquire(resource)
      expect(locks.stats()).toMatchObject({ granted: 1, busy: 1, held: 1, pending: 0, released: 0 })
      await lock.release()
      expect(locks.stats()).toMatchObject({ held: 0, released: 1, lost: 0, unknown: 0, failed: 0 })
    })

    it('describes itself', async () => {
      const guarantee = await manager().describe()
      expect(guarantee.strategy).toBe(subject().strategy)
      expect(guarantee.summary.length).toBeGreaterThan(40)
      expect(guarantee.warnings).toBeInstanceOf(Array)
    })
  })
}
