/** Keeping a lease beyond its TTL, and reporting its end to the holder. */
import { LockLostError } from 'fencelock'
import { describe, expect, it } from 'vitest'

import { rejection, unique } from '../../fixtures/locks'
import { block, inTime, watchLateness } from '../../fixtures/stalls'
import { eventually, sleep } from '../../fixtures/temp'
import type { Chapter } from './subject'

export const keepingContract: Chapter = ({ manager, subject }) => {
  describe('extending', () => {
    it('moves the end of the lease', async () => {
      const [one, two] = [manager(), manager()]
      const lock = await inTime(70, async () => {
        const short = await one.acquire(unique(), { ttlMs: 300 })
        await short.extend(60_000)
        return short
      })
      expect(lock.remainingMs).toBeGreaterThan(50_000)
      await sleep(350)
      expect(lock.held).toBe(true)
      expect(await two.tryAcquire(lock.resource)).toBeNull()
      expect((await two.inspect(lock.resource))!.remainingMs).toBeGreaterThan(50_000)
    })

    it('uses the granted TTL by default, and never shortens the lease', async () => {
      const locks = manager()
      const lock = await locks.acquire(unique(), { ttlMs: 5_000 })
      await lock.extend(60_000)
      const before = lock.remainingMs
      await lock.extend()
      await lock.extend(4_000)
      expect(lock.remainingMs).toBeGreaterThan(before - 5_000)
      expect((await locks.inspect(lock.resource))!.remainingMs).toBeGreaterThan(50_000)
    })

    it('succeeds each time when called many times at once', async () => {
      const locks = manager()
      const lock = await locks.acquire(unique(), { ttlMs: 10_000 })
      await Promise.all(Array.from({ length: 20 }, () => lock.extend()))
      expect(lock.held).toBe(true)
      expect(locks.stats().extended).toBe(20)
    })

    it('is refused after a forced release, and the signal reports the loss', async () => {
      const [one, two] = [manager(), manager()]
      const resource = unique()
      const lock = await one.acquire(resource, { ttlMs: 10_000 })
      const { signal } = lock
      expect(await two.forceRelease(resource)).toBe(true)
      const thief = await two.acquire(resource)
      expect(thief.token).toBeGreaterThan(lock.token)
      expect(await rejection(lock.extend())).toBeInstanceOf(LockLostError)
      expect(lock.held).toBe(false)
      expect(signal.aborted).toBe(true)
      expect(signal.reason).toBeInstanceOf(LockLostError)
      expect(await lock.release()).toBe(false)
      expect(thief.held).toBe(true)
      expect(await one.tryAcquire(resource)).toBeNull()
    })

    it('is refused after the release', async () => {
      const locks = manager()
      const lock = await locks.acquire(unique())
      await lock.release()
      expect(await rejection(lock.extend())).toMatchObject({ code: 'LOCK_LOST' })
      expect(await locks.inspect(lock.resource)).toBeNull()
    })
  })

  describe('renewing', () => {
    it('keeps a lease beyond its TTL, but only if that was requested', async () => {
      const [one, two] = [manager(), manager()]
      const kept = unique('kept')
      const lock = await one.acquire(kept, { ttlMs: 3_000, renew: true })
      const other = await inTime(450, () => one.acquire(unique('left'), { ttlMs: 2_000 }))
      const { signal } = lock
      await sleep(3_100)
      expect(lock.held).toBe(true)
      expect(signal.aborted).toBe(false)
      expect(await two.tryAcquire(kept)).toBeNull()
      expect(other.held).toBe(false)
      await eventually('the other one has ended', () => two.tryAcquire(other.resource))
      expect(await lock.release()).toBe(true)
      const { extended } = one.stats()
      expect(extended).toBeGreaterThan(0)
      expect(await two.tryAcquire(kept)).not.toBeNull()
      await sleep(1_100)
      expect(one.stats().extended).toBe(extended)
    })

    it('stops after maxHoldMs, and the signal aborts before the lease ends', async () => {
      const [one, two] = [manager(), manager()]
      const resource = unique()
      const lateness = watchLateness()
      const began = performance.now()
      const lock = await one.acquire(resource, { ttlMs: 3_000, renew: { maxHoldMs: 1_600 } })
      const granted = performance.now()
      const heldOnAbort = await new Promise<boolean>((resolve) => {
        lock.signal.addEventListener('abort', () => resolve(lock.held), { once: true })
      })
      // By a tenth of the TTL.
      expect(heldOnAbort || lateness() > 250).toBe(true)
      // The only renewal was after 1 s.
      expect(performance.now() - began).toBeGreaterThan(lateness() > 150 ? 2_500 : 3_000)
      expect(performance.now() - granted).toBeLessThan(4_700 + lateness())
      expect((lock.signal.reason as Error).message).toContain('maxHoldMs (1600)')
      await eventually('it has ended', () => two.tryAcquire(resource))
      expect(lock.held).toBe(false)
    })

    it('reports at once that another owner took the lock, and never holds it again', async () => {
      const [one, two] = [manager(), manager()]
      const resource = unique()
      const lock = await one.acquire(resource, { ttlMs: 6_000, renew: true })
      const { signal } = lock
      await two.forceRelease(resource)
      const thief = await two.acquire(resource, { ttlMs: 60_000 })
      await eventually('the signal aborts', () => signal.aborted, 5_000)
      // Found by the first renewal, long before the margin.
      expect((signal.reason as Error).message).toContain('another owner took it')
      expect(lock.held).toBe(false)
      await two.forceRelease(resource)
      // Longer than until the next renewal.
      await sleep(2_100)
      expect(lock.held).toBe(false)
      expect(await lock.release()).toBe(false)
      expect(thief.token).toBeGreaterThan(lock.token)
    })

    it('hands out a lease that was renewed while the event loop was blocked', async () => {
      const [one, two] = [manager(), manager()]
      await one.connect()
      const resource = unique()
      const call = one.acquire(resource, { ttlMs: 2_000, renew: true })
      await new Promise((resolve) => process.nextTick(resolve))
      block(2_600)
      expect((await call).held).toBe(true)
      expect(await two.tryAcquire(resource)).toBeNull()
    })
  })

  describe('withLock', () => {
    it('acquires the lock, keeps it while the routine runs, and releases it', async () => {
      const [one, two] = [manager(), manager()]
      const resource = unique()
      const seen = await one.withLock(resource, { ttlMs: 2_500 }, async (lock) => {
        await sleep(2_600)
        return [lock.held, lock.signal.aborted, await two.tryAcquire(resource), lock.resource] as const
      })
      expect(seen).toEqual([true, false, null, resource])
      expect(await two.inspect(resource)).toBeNull()
    })

    it('works without options, with several resources, and with a synchronous routine', async () => {
      const locks = manager()
      const [a, b] = [unique('a'), unique('b')]
      expect(await locks.withLock(a, (lock) => lock.held)).toBe(true)
      expect(await locks.withLock([a, b], undefined, (lock) => lock.resources)).toEqual([a, b])
      expect(await locks.withLock(a, { renew: false }, () => undefined)).toBeUndefined()
      expect(await locks.inspect(a)).toBeNull()
      expect(locks.stats()).toMatchObject({ granted: 3, released: 3, held: 0 })
    })

    it('rejects with what the routine threw, whatever happened to the lock', async () => {
      const locks = manager()
      const reason = new Error('the routine’s own')
      for (const lose of [false, true]) {
        const resource = unique()
        const routine = async (): Promise<never> => {
          if (lose) await locks.forceRelease(resource)
          throw reason
        }
        expect(await rejection(locks.withLock(resource, routine))).toBe(reason)
        expect(await locks.inspect(resource)).toBeNull()
      }
      const synchronous = (): never => {
        throw reason
      }
      expect(await rejection(locks.withLock(unique(), synchronous))).toBe(reason)
      expect(locks.stats().held).toBe(0)
    })

    it('rejects with the result attached if the lock was lost meanwhile', async () => {
      const locks = manager()
      const resource = unique()
      const forced = rejection<LockLostError>(
        locks.withLock(resource, async () => {
          await locks.forceRelease(resource)
          return { huge: 1n }
        }),
      )
      const ended = rejection<LockLostError>(
        locks.withLock(unique(), { ttlMs: 1_500, renew: false }, async (lock) => {
          await eventually('it has ended', () => !lock.held)
          return 'late'
        }),
      )
      let reason: unknown
      const noticed = rejection(
        locks.withLock(unique(), { ttlMs: 1_500, renew: false }, async (lock) => {
          await new Promise((resolve) => lock.signal.addEventListener('abort', resolve))
          reason = lock.signal.reason
          await eventually('it has ended', () => !lock.held)
        }),
      )
      const error = await forced
      expect(error).toBeInstanceOf(LockLostError)
      expect(error).toMatchObject({ code: 'LOCK_LOST', resource, strategy: subject().strategy })
      expect(error.result).toEqual({ huge: 1n })
      expect(error.cause).toBeInstanceOf(LockLostError)
      expect(error.message).toContain('it was released by force')
      expect(JSON.parse(JSON.stringify(error))).not.toHaveProperty('result')
      expect((await ended).result).toBe('late')
      expect((await ended).message).toMatch(/ended \d+ ms before this was reported: it was not extended/)
      // The function is over, so it is not told to stop.
      expect((await ended).message.match(/fence it/g)).toHaveLength(1)
      expect((await ended).cause).toMatchObject({
        code: 'LOCK_LOST',
        message: expect.stringMatching(/Stop working on what it protects, or fence it$/),
      })
      expect((await noticed).cause).toBe(reason)
      const own = subject().manager()
      const closed = own.withLock(unique(), async () => {
        await own.close({ drainMs: 0 })
        return 'closed'
      })
      expect((await rejection<LockLostError>(closed)).result).toBe('closed')
    })

    it('accepts a release by the routine itself', async () => {
      const locks = manager()
      const resource = unique()
      const value = await locks.withLock(resource, async (lock) => {
        await lock.release()
        return 5
      })
      expect(value).toBe(5)
    })

    it('does not run the routine without the lock', async () => {
      const locks = manager()
      const resource = unique()
      await locks.acquire(resource)
      let ran = 0
      const routine = (): number => ran++
      expect(await rejection(locks.withLock(resource, { waitMs: 0 }, routine))).toMatchObject({
        code: 'LOCK_HELD',
      })
      const reason = new Error('changed my mind')
      const signal = AbortSignal.abort(reason)
      expect(await rejection(locks.withLock(unique(), { signal }, routine))).toBe(reason)
      expect(await rejection(locks.withLock(unique(), { ttlMs: 5 }, routine))).toMatchObject({
        code: 'INVALID_OPTION',
      })
      expect(ran).toBe(0)
    })

    it('can be cancelled while it waits, but not while the routine runs', async () => {
      const locks = manager()
      const controller = new AbortController()
      const value = await locks.withLock(unique(), { signal: controller.signal }, (lock) => {
        controller.abort()
        return lock.held && !lock.signal.aborted
      })
      expect(value).toBe(true)
    })

    it('refuses a routine that is not a function, and does not acquire the lock', async () => {
      const locks = manager()
      const wrong: unknown[][] = [
        [],
        [undefined],
        [{}],
        [{}, {}],
        [{}, 'f'],
        [() => 1, {}],
        [undefined, Promise.resolve()],
      ]
      for (const rest of wrong) {
        const call = (locks.withLock as (...args: unknown[]) => Promise<unknown>)(unique(), ...rest)
        expect(await rejection(call)).toMatchObject({ name: 'TypeError', code: 'INVALID_OPTION' })
      }
      expect(locks.stats()).toMatchObject({ granted: 0, failed: 0, pending: 0 })
    })
  })

  describe('the signal', () => {
    it('aborts before the lease ends, with the reason', async () => {
      const locks = manager()
      const lateness = watchLateness()
      const lock = await locks.acquire(unique(), { ttlMs: 3_000 })
      expect(lock.signal).toBe(lock.signal)
      expect(lock.signal.aborted).toBe(false)
      const heldOnAbort = await new Promise<boolean>((resolve) => {
        lock.signal.addEventListener('abort', () => resolve(lock.held), { once: true })
      })
      // By a tenth of the TTL.
      expect(heldOnAbort || lateness() > 250).toBe(true)
      expect(lock.signal.reason).toMatchObject({ code: 'LOCK_LOST', resource: lock.resource })
    })

    it('does not abort at the former end of an extended lease', async () => {
      const locks = manager()
      const lock = await inTime(140, async () => {
        const short = await locks.acquire(unique(), { ttlMs: 600 })
        expect(short.signal.aborted).toBe(false)
        await short.extend(10_000)
        expect(short.signal.aborted).toBe(false)
        return short
      })
      await sleep(800)
      expect(lock.signal.aborted).toBe(false)
      expect(lock.held).toBe(true)
    })

    it('has already aborted when first read after the lease ended, and never aborts after a release', async () => {
      const locks = manager()
      const late = await inTime(70, () => locks.acquire(unique(), { ttlMs: 300 }))
      const signal = await inTime(70, async () => {
        const released = await locks.acquire(unique(), { ttlMs: 300 })
        const read = released.signal
        expect(await released.release()).toBe(true)
        expect(read.aborted).toBe(false)
        return read
      })
      const readAfterwards = await inTime(70, async () => {
        const lock = await locks.acquire(unique(), { ttlMs: 300 })
        expect(await lock.release()).toBe(true)
        return lock
      })
      await sleep(400)
      await eventually('it has ended', () => !late.held)
      expect(late.signal.aborted).toBe(true)
      expect(late.signal.reason).toMatchObject({ code: 'LOCK_LOST' })
      expect((late.signal.reason as Error).message).toMatch(
        /ended \d+ ms before this was reported.*Stop working/,
      )
      expect(signal.aborted).toBe(false)
      expect(readAfterwards.signal.aborted).toBe(false)
    })

    it('uses the TTL of the extension', async () => {
      const locks = manager()
      const lateness = watchLateness()
      const lock = await inTime(45, async () => {
        const short = await locks.acquire(unique(), { ttlMs: 200 })
        await short.extend(4_000)
        return short
      })
      const left = await new Promise<number>((resolve) => {
        lock.signal.addEventListener('abort', () => resolve(lock.remainingMs), { once: true })
      })
      // A tenth of the extension's TTL, not of the one it was granted with, which would be 20 ms.
      expect(left > 100 || lateness() > 250).toBe(true)
    })
  })
}
