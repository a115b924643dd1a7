/** Waiting for a lock, and cancelling a call. */
import { LockHeldError, type Lock, type LockManager } from 'fencelock'
import { describe, expect, it } from 'vitest'

import { onCleanup } from '../../fixtures/cleanup'
import { rejection, unique } from '../../fixtures/locks'
import { inTime, watchLateness } from '../../fixtures/stalls'
import { eventually, sleep } from '../../fixtures/temp'
import type { Chapter } from './subject'

export const waitingContract: Chapter = ({ manager, isShared }) => {
  describe('cancelling', () => {
    it('rejects with the reason, and releases a late grant', async () => {
      const locks = manager()
      const reason = new Error('changed my mind')
      expect(await rejection(locks.acquire(unique(), { signal: AbortSignal.abort(reason) }))).toBe(reason)
      const resource = unique()
      const controller = new AbortController()
      const call = rejection(locks.acquire(resource, { signal: controller.signal }))
      controller.abort(reason)
      expect(await call).toBe(reason)
      await eventually('it is over', () => locks.stats().pending === 0)
      await eventually('it is released', async () => (await locks.inspect(resource)) === null)
      expect(locks.stats().held).toBe(0)
    })

    it('accepts any object that has the events of a signal', async () => {
      const locks = manager()
      const reason = new Error('an older polyfill')
      const signal = Object.assign(new EventTarget(), { aborted: false, reason }) as unknown as AbortSignal
      const call = rejection(locks.acquire(unique(), { signal }))
      Object.assign(signal, { aborted: true })
      signal.dispatchEvent(new Event('abort'))
      expect(await call).toBe(reason)
      expect(await rejection(locks.acquire(unique(), { signal }))).toBe(reason)
    })

    it('does not touch a lease that was granted', async () => {
      const locks = manager()
      const controller = new AbortController()
      const lock = await locks.acquire(unique(), { signal: controller.signal })
      controller.abort()
      expect(lock.held).toBe(true)
      expect(await lock.release()).toBe(true)
    })
  })

  describe('waiting', () => {
    /** Long enough for a call to be waiting, even on a busy machine. */
    const settle = (): Promise<void> => sleep(150)
    /** Waits until `count` fair calls are queued and subscribed. */
    const queued = async (locks: LockManager, resource: string, count: number): Promise<void> => {
      await settle()
      await eventually('it is queued', async () => (await locks.inspect(resource))?.waiters === count)
    }
    /**
     * Processes that stall for half a second and more may be removed from the queue, and are behind others
     * then. It is done again after that, four times at most.
     */
    const unlessRemoved = async (act: () => Promise<void>): Promise<void> => {
      for (let round = 0; ; round++) {
        const lateness = watchLateness()
        try {
          return await act()
        } catch (error) {
          if (round === 4 || lateness() < 300) throw error
        }
      }
    }
    /** Far longer than any wait here takes, unless it lasts until the end of a lease. */
    const waitMs = 20_000

    it('takes the lock as soon as it is released', async () => {
      const [one, two] = [manager(), manager()]
      const resource = unique()
      const lock = await one.acquire(resource, { ttlMs: 60_000 })
      const calls = [one.acquire(resource, { waitMs }), two.acquire(resource, { waitMs })]
      await settle()
      const pending = [...new Set([one, two])].map((locks) => locks.stats().pending)
      expect(pending.reduce((sum, count) => sum + count)).toBe(2)
      await lock.release()
      const first = await Promise.race(calls)
      expect(first.held).toBe(true)
      expect(first.token).toBeGreaterThan(lock.token)
      await first.release()
      const [a, b] = await Promise.all(calls)
      expect(a!.token).not.toBe(b!.token)
    })

    it('names the one of several resources that is held', async () => {
      const [one, two] = [manager(), manager()]
      const resources = [unique(), unique(), unique()] as const
      const [first, second, third] = resources
      await one.acquire(third, { ttlMs: 60_000 })
      const held = { code: 'LOCK_HELD', resource: third, resources }
      const calls = [{}, { waitMs: 50 }, { waitMs: 50, fair: true }].map((options) =>
        rejection(two.acquire(resources, options)),
      )
      for (const error of await Promise.all(calls)) {
        expect(error).toMatchObject(held)
        expect(String(error)).toContain(JSON.stringify(third))
      }
      await eventually('the queue is empty', () => one.tryAcquire(second, { ttlMs: 20_000 }))
      expect(await rejection(two.acquire(resources))).toMatchObject(held)
      expect(await rejection(two.acquire([first, second]))).toMatchObject({ resource: second })
    })

    it('gives up with LOCK_HELD after waitMs, and leaves nothing behind', async () => {
      const [one, two] = [manager(), manager()]
      for (const fair of [false, true]) {
        const resource = unique()
        const { held } = two.stats()
        const lock = await one.acquire(resource, { ttlMs: 60_000 })
        const began = performance.now()
        const error = await rejection<LockHeldError>(two.acquire(resource, { waitMs: 200, fair }))
        expect(performance.now() - began).toBeGreaterThan(190)
        expect(error).toMatchObject({ code: 'LOCK_HELD', resource })
        await lock.release()
        await expect.poll(() => two.stats(), { timeout: 10_000 }).toMatchObject({ pending: 0, held })
        expect(await one.inspect(resource)).toBeNull()
        // Nor its place in the queue.
        const next = await eventually('the queue is empty', () => one.tryAcquire(resource))
        expect(await next.release()).toBe(true)
      }
    })

    it('waits for as long as it takes if waitMs is Infinity', async () => {
      const [one, two] = [manager(), manager()]
      const resource = unique()
      const lock = await one.acquire(resource, { ttlMs: 60_000 })
      const call = two.acquire(resource, { waitMs: Number.POSITIVE_INFINITY })
      await settle()
      expect(two.stats().pending).toBe(1)
      await lock.release()
      expect((await call).held).toBe(true)
    })

    it('takes the lock when the current lease ends, or is released by force', async () => {
      const [one, two] = [manager(), manager()]
      for (const fair of [false, true]) {
        const forced = unique('forced')
        const ending = await inTime(90, () => one.acquire(unique('short'), { ttlMs: 400 }))
        await one.acquire(forced, { ttlMs: 60_000 })
        const calls = [ending.resource, forced].map((name) => two.acquire(name, { waitMs, fair }))
        await settle()
        expect(await one.forceRelease(forced)).toBe(true)
        const [afterEnd, afterForce] = await Promise.all(calls)
        expect(afterEnd!.token).toBeGreaterThan(ending.token)
        expect(afterEnd!.held && afterForce!.held).toBe(true)
      }
    })

    it('serves the callers of one manager in order of arrival', async () => {
      const locks = manager()
      const resource = unique()
      const lock = await locks.acquire(resource, { ttlMs: 60_000 })
      const served: number[] = []
      const calls = Array.from({ length: 20 }, async (_, index) => {
        const mine = await locks.acquire(resource, { waitMs })
        served.push(index)
        await mine.release()
      })
      await settle()
      await lock.release()
      await Promise.all(calls)
      expect(served).toEqual(Array.from({ length: 20 }, (_, index) => index))
    })

    it('issues a new owner and a higher token for every handoff', async () => {
      const managers = [manager(), manager()]
      const resource = unique()
      const grants: Lock[] = []
      const take = async (index: number): Promise<void> => {
        const lock = await managers[index % 2]!.acquire(resource, { waitMs, ttlMs: 60_000 })
        grants.push(lock)
        await lock.release()
      }
      await Promise.all(Array.from({ length: 20 }, (_, index) => take(index)))
      expect(grants).toHaveLength(20)
      expect(new Set(grants.map((lock) => lock.owner)).size).toBe(20)
      for (let at = 1; at < 20; at++) expect(grants[at]!.token).toBeGreaterThan(grants[at - 1]!.token)
    })

    it('waits for all of several resources', async () => {
      const [one, two] = [manager(), manager()]
      for (const fair of [false, true]) {
        const [a, b, c] = [unique('a'), unique('b'), unique('c')]
        const held = [await one.acquire(a, { ttlMs: 60_000 }), await one.acquire(b, { ttlMs: 60_000 })]
        const call = two.acquire([c, b, a], { waitMs, fair })
        await settle()
        await held[0]!.release()
        await settle()
        expect(two.stats().pending).toBe(1)
        await held[1]!.release()
        expect(await (await call).release()).toBe(true)
      }
    })

    it('is cancelled by its signal, and the next caller is served', async () => {
      const [one, two] = [manager(), manager()]
      for (const fair of [false, true]) {
        const resource = unique()
        const { held } = two.stats()
        const lock = await one.acquire(resource, { ttlMs: 60_000 })
        const [controller, reason] = [new AbortController(), new Error('changed my mind')]
        const first = rejection(two.acquire(resource, { waitMs, fair, signal: controller.signal }))
        await settle()
        const second = two.acquire(resource, { waitMs, fair })
        await settle()
        controller.abort(reason)
        expect(await first).toBe(reason)
        await lock.release()
        expect(await (await second).release()).toBe(true)
        await expect.poll(() => two.stats(), { timeout: 10_000 }).toMatchObject({ pending: 0, held })
        const free = await eventually('the queue is empty', () => one.tryAcquire(resource))
        expect(await free.release()).toBe(true)
      }
    })

    it('can be cancelled at the moment of the grant, which is then released', async () => {
      const [one, two] = [manager(), manager()]
      for (let round = 0; round < 20; round++) {
        const resource = unique()
        const lock = await one.acquire(resource, { ttlMs: 60_000 })
        const controller = new AbortController()
        const call = two
          .acquire(resource, { waitMs, fair: round % 2 === 1, ttlMs: 60_000, signal: controller.signal })
          .then((late) => late.release())
          .catch((error: unknown) => expect(error).toBe(controller.signal.reason))
        await sleep(10)
        await Promise.all([lock.release(), sleep(round % 4).then(() => controller.abort())])
        await call
        expect(
          await eventually('it was released', () => one.tryAcquire(resource, { ttlMs: 60_000 })),
        ).toBeTruthy()
      }
    })

    it('accepts thousands of calls on one signal, and cancels them all', async () => {
      const [one, two] = [manager(), manager()]
      const warnings: Error[] = []
      const warned = (warning: Error): number => warnings.push(warning)
      process.on('warning', warned)
      onCleanup(() => process.off('warning', warned))
      const names = Array.from({ length: 10 }, () => unique())
      const locks = await Promise.all(names.map((name) => one.acquire(name, { ttlMs: 60_000 })))
      const { held } = two.stats()
      const [controller, reason] = [new AbortController(), new Error('enough')]
      const calls = Array.from({ length: 3_000 }, (_, index) =>
        rejection(
          two.acquire(names[index % 10]!, { waitMs, fair: index % 3 === 0, signal: controller.signal }),
        ),
      )
      await settle()
      controller.abort(reason)
      expect(new Set(await Promise.all(calls))).toEqual(new Set([reason]))
      await expect.poll(() => two.stats(), { timeout: 20_000 }).toMatchObject({ pending: 0, held })
      await Promise.all(locks.map((lock) => lock.release()))
      for (const name of names)
        expect(await eventually('the queue is empty', () => one.tryAcquire(name))).toBeTruthy()
      // Not those of locks that other tests have dropped.
      expect(warnings.filter(({ name }) => name !== 'FencelockWarning')).toEqual([])
    })

    it.runIf(isShared)('rejects with CLOSED when its manager closes', async () => {
      const [one, two] = [manager(), manager()]
      const resource = unique()
      const lock = await one.acquire(resource, { ttlMs: 60_000 })
      const calls = [false, true, false, true].map((fair) =>
        rejection(two.acquire(resource, { waitMs, fair })),
      )
      await settle()
      await two.close()
      for (const error of await Promise.all(calls)) expect(error).toMatchObject({ code: 'CLOSED' })
      expect(two.stats()).toMatchObject({ pending: 0, held: 0 })
      await lock.release()
      expect(await eventually('the queue is empty', () => one.tryAcquire(resource))).toBeTruthy()
    })

    it('serves fair callers in order of arrival, across managers', async () => {
      const managers = [manager(), manager(), manager()]
      await unlessRemoved(async () => {
        const resource = unique()
        const lock = await managers[0]!.acquire(resource, { ttlMs: 60_000 })
        const served: number[] = []
        const calls: Promise<void>[] = []
        for (const index of [0, 1, 2, 3, 4, 5, 6, 7, 8]) {
          const call = async (): Promise<void> => {
            const mine = await managers[(index * 2) % 3]!.acquire(resource, { waitMs, fair: true })
            served.push(index)
            await mine.release()
          }
          const pending = call()
          pending.catch(() => undefined)
          calls.push(pending)
          await queued(managers[0]!, resource, index + 1)
        }
        await lock.release()
        await Promise.all(calls)
        expect(served).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8])
      })
    })

    it('lets no call overtake a queued fair call, even when the lock is free', async () => {
      const [one, two, three] = [manager(), manager(), manager()]
      const overtakesNone = async (): Promise<void> => {
        const resource = unique()
        const lock = await one.acquire(resource, { ttlMs: 60_000 })
        const call = two.acquire(resource, { waitMs, fair: true, ttlMs: 60_000 })
        call.catch(() => undefined)
        await queued(one, resource, 1)
        const hurried = three.acquire(resource, { waitMs, ttlMs: 60_000 })
        hurried.catch(() => undefined)
        const released = lock.release()
        const attempts = Array.from({ length: 30 }, (_, index) =>
          [one, three][index % 2]!.tryAcquire(resource),
        )
        expect(await Promise.all(attempts)).toEqual(attempts.map(() => null))
        expect(await released).toBe(true)
        const mine = await call
        await mine.release()
        // No fair call is queued any more.
        expect((await hurried).token).toBeGreaterThan(mine.token)
      }
      for (let round = 0; round < 10; round++) await unlessRemoved(overtakesNone)
    })
  })
}
