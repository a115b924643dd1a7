/** `minHoldMs`: what stays of a lock that is released early. */
import type { Lock } from 'fencelock'
import { describe, expect, it } from 'vitest'

import { rejection, unique } from '../../fixtures/locks'
import { block, inTime } from '../../fixtures/stalls'
import { eventually, sleep } from '../../fixtures/temp'
import type { Chapter } from './subject'

/** How much later a test may notice something, on a busy machine; far sooner than the lease would end. */
const LATE_MS = 9_000

export const minimumContract: Chapter = ({ manager, subject, isShared }) => {
  describe('a minimum', () => {
    it('stays when the lock is released, and ends then', async () => {
      const [one, two] = [manager(), manager()]
      let asked = 0
      let granted = 0
      const lock = await inTime(1_500, async () => {
        const resource = unique('job')
        asked = performance.now()
        const released = await one.acquire(resource, { ttlMs: 60_000, minHoldMs: 1_500 })
        granted = performance.now()
        expect(await released.release()).toBe(true)
        expect([released.held, released.remainingMs]).toEqual([false, 0])
        expect(await one.tryAcquire(resource)).toBeNull()
        expect(await two.tryAcquire(resource)).toBeNull()
        const info = (await two.inspect(resource))!
        expect(info).toMatchObject({ owner: released.owner, token: released.token })
        expect(info.remainingMs).toBeLessThanOrEqual(1_500)
        expect(info.remainingMs).toBeGreaterThan(0)
        const busy = await rejection<Error & { remainingMs: number }>(two.acquire(resource))
        expect(busy).toMatchObject({ code: 'LOCK_HELD' })
        expect(busy.remainingMs).toBeLessThanOrEqual(1_600)
        return released
      })
      const next = await eventually('it has ended', () => two.tryAcquire(lock.resource))
      expect(performance.now() - asked).toBeGreaterThanOrEqual(1_499)
      expect(performance.now() - granted).toBeLessThan(1_500 + LATE_MS)
      expect(next.token).toBeGreaterThan(lock.token)
    })

    it.each([
      ['longer than the TTL', 500, 1_500],
      ['shorter than the TTL', 60_000, 1_500],
    ])(
      'of a lock that is not released ends the stored lease only if it is longer (%s)',
      async (_, ttlMs, min) => {
        const [one, two] = [manager(), manager()]
        let asked = 0
        const lock = await inTime(110, async () => {
          asked = performance.now()
          const granted = await one.acquire(unique('job'), { ttlMs, minHoldMs: min })
          expect(granted.remainingMs).toBeLessThanOrEqual(ttlMs)
          const longest = Math.max(ttlMs, min)
          const { remainingMs } = (await two.inspect(granted.resource))!
          expect(remainingMs).toBeLessThanOrEqual(longest)
          expect(remainingMs).toBeGreaterThan(longest - 1_000)
          return granted
        })
        if (ttlMs > min) return
        await eventually('its minimum is over', () => two.tryAcquire(lock.resource))
        expect(performance.now() - asked).toBeGreaterThan(min - 1)
        expect(lock.held).toBe(false)
      },
    )

    it('is all that a release leaves, also if the lock was about to be extended', async () => {
      const [one, two] = [manager(), manager()]
      for (let round = 0; round < 10; round++) {
        const resource = unique('job')
        const lock = await one.acquire(resource, { ttlMs: 10_000, minHoldMs: 5_000 })
        const extensions = [lock.extend(60_000), lock.extend(50_000)].map((call) => call.catch(() => {}))
        expect(await lock.release()).toBe(true)
        await Promise.all(extensions)
        const { remainingMs } = (await two.inspect(resource))!
        expect(remainingMs).toBeLessThanOrEqual(5_000)
      }
    })

    it('wakes those that wait when it ends, not when the lock is released', async () => {
      const [one, two] = [manager(), manager()]
      const resource = unique('job')
      for (const fair of [false, true]) {
        const asked = performance.now()
        const lock = await one.acquire(resource, { ttlMs: 60_000, minHoldMs: 1_500, waitMs: 5_000 })
        const granted = performance.now()
        const waiting = two.acquire(resource, { waitMs: 30_000, fair })
        await eventually('it waits', () => two.stats().waiting === 1)
        await sleep(50)
        expect(await lock.release()).toBe(true)
        const next = await waiting
        expect(performance.now() - asked).toBeGreaterThanOrEqual(1_499)
        expect(performance.now() - granted).toBeLessThan(1_500 + LATE_MS)
        await next.release()
      }
    })

    it('stays whatever the routine does, and is that of the grant', async () => {
      const [one, two] = [manager(), manager()]
      const [returns, throws] = [unique('job'), unique('job')]
      const bug = new Error('a bug')
      expect(await one.withLock(returns, { minHoldMs: 20_000 }, () => 7)).toBe(7)
      const failing = one.withLock(throws, { minHoldMs: 20_000 }, () => {
        throw bug
      })
      expect(await rejection(failing)).toBe(bug)
      for (const resource of [returns, throws]) {
        expect(await two.tryAcquire(resource)).toBeNull()
        expect((await two.inspect(resource))!.remainingMs).toBeLessThanOrEqual(20_000)
        // That of the first grant is no part of the next.
        expect(await two.forceRelease(resource)).toBe(true)
        const plain = await two.acquire(resource)
        await plain.release()
        expect(await one.inspect(resource)).toBeNull()
      }
    })

    it.runIf(isShared)('stays when the lock is extended, disposed of, or its manager closed', async () => {
      const [own, two] = [subject().manager(), manager()]
      const names = ['extended', 'disposed', 'closed'].map((name) => unique(name))
      const locks: Lock[] = []
      for (const name of names) locks.push(await own.acquire(name, { ttlMs: 30_000, minHoldMs: 20_000 }))
      await locks[0]!.extend(40_000)
      await locks[0]!.release()
      await locks[1]![Symbol.asyncDispose]()
      await own.close({ drainMs: 0 })
      for (const name of names) {
        expect(await two.tryAcquire(name)).toBeNull()
        expect((await two.inspect(name))!.remainingMs).toBeLessThanOrEqual(20_000)
      }
    })

    it('covers all resources of a lock', async () => {
      const [one, two] = [manager(), manager()]
      const [a, b] = [`{${unique()}}:a`, unique()]
      const names = [a, `${a.slice(0, a.indexOf('}') + 1)}:${b}`]
      const lock = await one.acquire(names, { minHoldMs: 20_000 })
      expect(await lock.release()).toBe(true)
      for (const name of names) expect(await two.tryAcquire(name)).toBeNull()
    })

    it('is ended by a forced release', async () => {
      const [one, two] = [manager(), manager()]
      const resource = unique('job')
      const lock = await one.acquire(resource, { minHoldMs: 60_000 })
      expect(await lock.release()).toBe(true)
      expect(await two.forceRelease(resource)).toBe(true)
      expect(await two.inspect(resource)).toBeNull()
      const held = await one.acquire(resource, { minHoldMs: 60_000 })
      expect(await two.forceRelease(resource)).toBe(true)
      const next = await two.tryAcquire(resource)
      expect(next).not.toBeNull()
      expect(await held.release()).toBe(false)
      expect(next!.held).toBe(true)
      expect(await one.tryAcquire(resource)).toBeNull()
    })

    it('is not that of a grant which no caller got', async () => {
      const [one, two] = [manager(), manager()]
      const resource = unique('job')
      const stop = new AbortController()
      const aborted = one.acquire(resource, { ttlMs: 60_000, minHoldMs: 60_000, signal: stop.signal })
      stop.abort()
      expect(await rejection(aborted)).toBe(stop.signal.reason)
      await eventually('it is free', () => two.tryAcquire(resource))

      const late = unique('job')
      const blocked = one.tryAcquire(late, { ttlMs: 800, minHoldMs: 60_000 })
      // The call leaves at the end of the turn; its answer is not looked at before the next one.
      for (let reaction = 0; reaction < 20; reaction++) await Promise.resolve()
      block(2_000)
      expect(await rejection(blocked)).toMatchObject({ code: 'LOCK_LOST' })
      await eventually('it is free', () => two.tryAcquire(late))
    })

    it('is checked', async () => {
      const locks = manager()
      const refused: [unknown, string][] = [
        [-1, 'minHoldMs must be an integer from 0 to 86400000'],
        [1.5, 'minHoldMs must be an integer from 0 to 86400000'],
        [86_400_001, 'minHoldMs must be an integer from 0 to 86400000'],
        ['5', 'minHoldMs must be a number'],
      ]
      for (const [minHoldMs, message] of refused) {
        const call = locks.acquire(unique(), { minHoldMs: minHoldMs as number })
        expect(await rejection(call)).toMatchObject({
          code: 'INVALID_OPTION',
          message: expect.stringContaining(message),
        })
      }
      const none = await locks.acquire(unique(), { minHoldMs: 0 })
      await none.release()
      expect(await locks.inspect(none.resource)).toBeNull()
      const election = locks.elect(unique(), { minHoldMs: 5 } as never, () => expect.unreachable())
      expect(await rejection(election)).toMatchObject({
        code: 'INVALID_OPTION',
        message: expect.stringContaining('"minHoldMs"'),
      })
      const { LockManager } = await import('fencelock')
      expect(() => new LockManager({ local: 'unused', defaults: { minHoldMs: 5 } as never })).toThrow(
        '"minHoldMs" in defaults',
      )
      if (subject().strategy !== 'quorum') return
      const call = locks.acquire(unique(), { minHoldMs: 86_400_000 })
      expect(await rejection(call)).toMatchObject({
        code: 'INVALID_OPTION',
        message: expect.stringMatching(/minHoldMs .* quorum\.maxTtlMs/),
      })
    })
  })
}
