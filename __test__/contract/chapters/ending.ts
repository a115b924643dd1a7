/** Disposing of locks, and closing managers. */
import type { LockLostError } from 'fencelock'
import { describe, expect, it } from 'vitest'

import { collectGarbage } from '../../fixtures/leaks'
import { fencelockWarnings, rejection, unique } from '../../fixtures/locks'
import { eventually, sleep } from '../../fixtures/temp'
import type { Chapter } from './subject'

export const endingContract: Chapter = ({ manager, subject, isShared }) => {
  describe('disposing and closing', () => {
    it('releases on disposal, which never rejects', async () => {
      const locks = manager()
      const lock = await locks.acquire(unique())
      await lock[Symbol.asyncDispose]()
      expect(await locks.inspect(lock.resource)).toBeNull()
      await lock[Symbol.asyncDispose]()
    })

    it.runIf(isShared)(
      'releases what it holds when it may not drain, and rejects every later call',
      async () => {
        const [one, two] = [manager(), manager()]
        const names = Array.from({ length: 10 }, () => unique())
        const locks = await Promise.all(names.map((name) => one.acquire(name)))
        const { signal } = locks[0]!
        const closed = one.close({ drainMs: 0 })
        expect(one.close()).toBe(closed)
        await closed
        expect(locks.every((lock) => !lock.held)).toBe(true)
        expect(signal.reason).toMatchObject({ code: 'LOCK_LOST' })
        expect(await locks[0]!.release()).toBe(false)
        for (const name of names) expect(await two.tryAcquire(name)).not.toBeNull()
        const calls: Promise<unknown>[] = [
          one.acquire(unique()),
          one.inspect(unique()),
          one.forceRelease(unique()),
          one.describe(),
          one.connect(),
        ]
        for (const call of calls) expect(await rejection(call)).toMatchObject({ code: 'CLOSED' })
      },
    )

    it('lets holders and routines finish when it closes, and acquires nothing meanwhile', async () => {
      const [own, two] = [subject().manager(), manager()]
      const { closing } = own
      const [renewed, held] = [unique('renewed'), unique('held')]
      const lock = await own.acquire(held, { ttlMs: 60_000 })
      let inside: Promise<Error[]> | undefined
      let end: (() => void) | undefined
      const routine = own.withLock(renewed, { ttlMs: 3_000 }, async ({ signal }) => {
        closing.addEventListener('abort', () => {
          const calls = [own.acquire(unique()), own.tryAcquire(unique()), own.withLock(unique(), () => 1)]
          inside = Promise.all(calls.map((call) => rejection(call)))
        })
        await new Promise<void>((resolve) => (end = resolve))
        return signal.aborted
      })
      await eventually('the routine runs', () => end !== undefined)
      const waiting = own.acquire(held, { waitMs: 60_000 })
      const closed = own.close({ drainMs: Infinity })
      expect(closing).toMatchObject({ aborted: true, reason: { code: 'CLOSED' } })
      expect(own.closing).toBe(closing)
      expect(await rejection(waiting)).toMatchObject({ code: 'CLOSED' })
      for (const error of (await inside)!) expect(error).toMatchObject({ code: 'CLOSED' })
      await lock.extend()
      const { extended } = own.stats()
      await eventually('the lock of the routine is renewed', () => own.stats().extended > extended)
      expect(await own.inspect(renewed)).not.toBeNull()
      expect(await own.describe()).toMatchObject({ strategy: subject().strategy })
      end!()
      expect(await routine).toBe(false)
      expect(await two.tryAcquire(renewed)).not.toBeNull()
      expect(own.stats().held).toBe(1)
      expect(await lock.release()).toBe(true)
      await closed
      expect(await rejection(own.inspect(held))).toMatchObject({ code: 'CLOSED' })
    })

    it('releases and names what is still held when the time to drain is over, which a later call can shorten', async () => {
      const [own, two] = [subject().manager(), manager()]
      const warnings = fencelockWarnings()
      const resource = unique('stuck')
      let runs = false
      const routine = own.withLock(resource, async ({ signal }) => {
        const aborted = new Promise((resolve) => signal.addEventListener('abort', resolve))
        runs = true
        await aborted
        return 'late'
      })
      await eventually('the routine runs', () => runs)
      const closed = own[Symbol.asyncDispose]()
      const began = performance.now()
      void own.close({ drainMs: 100 })
      void own.close({ drainMs: 60_000 })
      const lost = await rejection<LockLostError>(routine)
      await closed
      expect(performance.now() - began).toBeGreaterThan(95)
      expect(performance.now() - began).toBeLessThan(3_900)
      expect(lost).toMatchObject({ code: 'LOCK_LOST', result: 'late', cause: { code: 'LOCK_LOST' } })
      for (const { message } of [lost, lost.cause as Error]) expect(message).toContain('drainMs')
      expect(await two.tryAcquire(resource)).not.toBeNull()
      await own.close({ drainMs: 0 })
      await eventually('the warning', () => warnings.length > 0)
      expect(warnings).toHaveLength(1)
      expect(warnings[0]).toMatchObject({ code: 'FENCELOCK_CLOSED_WHILE_HELD' })
      expect(warnings[0]!.message).toContain(resource)
    })

    it('keeps the reasons of signals that nothing else refers to', async () => {
      const own = subject().manager()
      const locks = await Promise.all(Array.from({ length: 20 }, () => own.acquire(unique())))
      for (const { signal } of locks) expect(signal.aborted).toBe(false)
      expect(own.closing.aborted).toBe(false)
      await own.close({ drainMs: 0 })
      for (let round = 0; round < 3; round++) {
        collectGarbage()
        await sleep(5)
      }
      for (const { signal } of locks) expect(signal.reason).toMatchObject({ code: 'LOCK_LOST' })
      expect(own.closing.reason).toMatchObject({ code: 'CLOSED' })
    })

    it('closes at once when nothing is held, and refuses wrong options without closing', async () => {
      const own = subject().manager()
      await (await own.acquire(unique())).release()
      for (const drainMs of [-1, 0.5, Number.NaN, 86_400_001, '1', null]) {
        expect(await rejection(own.close({ drainMs: drainMs as number }))).toMatchObject({
          code: 'INVALID_OPTION',
        })
      }
      expect(own.closing.aborted).toBe(false)
      // A busy machine may delay four of them.
      let fastest = Infinity
      for (let round = 0; round < 5 && fastest >= 1_000; round++) {
        const idle = round === 0 ? own : subject().manager()
        if (round > 0) await (await idle.acquire(unique())).release()
        const began = performance.now()
        await idle.close({ drainMs: Infinity })
        fastest = Math.min(fastest, performance.now() - began)
      }
      expect(fastest).toBeLessThan(1_000)
      expect(own.closing.reason).toMatchObject({ code: 'CLOSED' })
    })

    it('completes the releases that were requested just before close', async () => {
      const own = subject().manager()
      const locks = await Promise.all(Array.from({ length: 20 }, () => own.acquire(unique())))
      const releases = locks.map((lock) => lock.release())
      await own.close()
      expect(await Promise.all(releases)).toEqual(locks.map(() => true))

      const another = subject().manager()
      const ends: (() => void)[] = []
      const result = another.withLock(unique(), async () => {
        await new Promise<void>((resolve) => ends.push(resolve))
        return 'done'
      })
      await eventually('the routine runs', () => ends.length > 0)
      ends.forEach((end) => end())
      // The routine ends, and requests the release of its lock, in this event-loop turn.
      for (let steps = 0; steps < 20; steps++) await Promise.resolve()
      const closed = another.close()
      expect(await result).toBe('done')
      await closed
    })

    it.runIf(isShared)('releases what is granted while it closes', async () => {
      const [one, two] = [manager(), manager()]
      const names = Array.from({ length: 50 }, () => unique())
      const calls = names.map((name) => one.acquire(name))
      const outcomes = Promise.allSettled(calls)
      await one.close({ drainMs: 0 })
      for (const outcome of await outcomes) {
        if (outcome.status === 'fulfilled') expect(outcome.value.held).toBe(false)
        else expect(outcome.reason).toMatchObject({ code: 'CLOSED' })
      }
      for (const name of names) expect(await two.inspect(name)).toBeNull()
    })
  })
}
