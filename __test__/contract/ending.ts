/** Disposing of locks, and closing managers. */
import { describe, expect, it } from 'vitest'

import { rejection, unique } from '../fixtures/locks'
import { eventually } from '../fixtures/temp'
import type { Chapter } from './subject'

export const endingContract: Chapter = ({ manager, subject }) => {
  describe('disposing and closing', () => {
    it('releases on disposal, which never rejects', async () => {
      const locks = manager()
      const lock = await locks.acquire(unique())
      await lock[Symbol.asyncDispose]()
      expect(await locks.inspect(lock.resource)).toBeNull()
      await lock[Symbol.asyncDispose]()
    })

    it('releases what it holds on close, and rejects every later call', async () => {
      const [one, two] = [manager(), manager()]
      const names = Array.from({ length: 10 }, () => unique())
      const locks = await Promise.all(names.map((name) => one.acquire(name)))
      const { signal } = locks[0]!
      const closed = one.close()
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

    it('releases what is granted while it closes', async () => {
      const [one, two] = [manager(), manager()]
      const names = Array.from({ length: 50 }, () => unique())
      const calls = names.map((name) => one.acquire(name))
      const outcomes = Promise.allSettled(calls)
      await one.close()
      for (const outcome of await outcomes) {
        if (outcome.status === 'fulfilled') expect(outcome.value.held).toBe(false)
        else expect(outcome.reason).toMatchObject({ code: 'CLOSED' })
      }
      for (const name of names) expect(await two.inspect(name)).toBeNull()
    })
  })
}
