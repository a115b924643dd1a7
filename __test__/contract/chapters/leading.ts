import type { Lock } from 'fencelock'
/** Electing a leader. */
import { setTimeout as abortableSleep } from 'node:timers/promises'
import { describe, expect, it } from 'vitest'

import { fencelockWarnings, rejection, unique } from '../../fixtures/locks'
import { eventually, sleep } from '../../fixtures/temp'
import type { Chapter } from './subject'

/** Resolves when the signal aborts. */
function aborted(signal: AbortSignal): Promise<unknown> {
  if (signal.aborted) return Promise.resolve()
  return new Promise((resolve) => signal.addEventListener('abort', resolve, { once: true }))
}

export const leadingContract: Chapter = ({ manager, subject, isShared }) => {
  describe('electing', () => {
    it('has one leader at a time, each with a higher token, and resolves when the routine returns', async () => {
      const candidates = Array.from({ length: 4 }, () => manager())
      const resource = unique('leader')
      const tokens: bigint[] = []
      let leading = 0
      const elections = candidates.map((locks) =>
        locks.elect(resource, async (lock) => {
          expect(++leading).toBe(1)
          expect(lock.held).toBe(true)
          tokens.push(lock.token)
          await sleep(20)
          leading--
          return 'not passed on'
        }),
      )
      expect(await Promise.all(elections)).toEqual([undefined, undefined, undefined, undefined])
      expect(tokens).toEqual(tokens.toSorted((a, b) => (a < b ? -1 : 1)))
      expect(new Set(tokens).size).toBe(4)
      expect(await manager().inspect(resource)).toBeNull()
    })

    it('keeps the lease of the leader beyond its TTL', async () => {
      const [locks, other] = [manager(), manager()]
      const resource = unique('leader')
      await locks.elect(resource, { ttlMs: 2_400 }, async (lock) => {
        await sleep(2_500)
        expect(lock.held).toBe(true)
        expect(await other.tryAcquire(resource)).toBeNull()
      })
    })

    it('rejects with what the routine throws, and releases', async () => {
      const locks = manager()
      const resource = unique('leader')
      const bug = new Error('a bug')
      const election = locks.elect(resource, () => {
        throw bug
      })
      expect(await rejection(election)).toBe(bug)
      expect(await manager().tryAcquire(resource)).not.toBeNull()
    })

    it('campaigns again when the lock was lost, once the routine has settled', async () => {
      const [locks, other] = [manager(), manager()]
      const resource = unique('leader')
      const led: Lock[] = []
      let running = 0
      const election = locks.elect(resource, { ttlMs: 2_400 }, async (lock) => {
        expect(++running).toBe(1)
        led.push(lock)
        if (led.length === 3) return
        try {
          // Rejects with an AbortError whose cause is the loss, and the second time with the loss itself.
          if (led.length === 1) await abortableSleep(20_000, undefined, { signal: lock.signal })
          await aborted(lock.signal)
          await sleep(100)
          lock.signal.throwIfAborted()
        } finally {
          running--
        }
      })
      for (const count of [1, 2]) {
        await eventually('it leads', () => led.length === count)
        expect(await other.forceRelease(resource)).toBe(true)
        await eventually('it leads again', () => led.length === count + 1, 10_000)
        expect(led[count - 1]!.signal.reason).toMatchObject({ code: 'LOCK_LOST' })
        expect(led[count]!.token).toBeGreaterThan(led[count - 1]!.token)
      }
      await election
    })

    it('passes on an error of the routine that is not about the loss', async () => {
      const [locks, other] = [manager(), manager()]
      const resource = unique('leader')
      const bug = new Error('a bug in the clean-up')
      const election = locks.elect(resource, { ttlMs: 2_400 }, async (lock) => {
        await aborted(lock.signal)
        throw bug
      })
      await eventually('it leads', () => other.forceRelease(resource))
      expect(await rejection(election)).toBe(bug)
    })

    it('resigns when its signal aborts, after the routine has settled', async () => {
      const [locks, other] = [manager(), manager()]
      const resource = unique('leader')
      const stop = new AbortController()
      const reason = new Error('deployed')
      let lock: Lock | undefined
      let settles = false
      const election = locks.elect(resource, { signal: stop.signal }, async (leading) => {
        lock = leading
        await aborted(leading.signal)
        await eventually('it may settle', () => settles)
        expect(leading.held).toBe(true)
        leading.signal.throwIfAborted()
      })
      await eventually('it leads', () => lock !== undefined)
      stop.abort(reason)
      expect(lock!.signal.reason).toBe(reason)
      await sleep(50)
      expect(await other.tryAcquire(resource)).toBeNull()
      settles = true
      await election
      expect(await other.tryAcquire(resource)).not.toBeNull()
    })

    it('resolves when its signal aborts while it waits, or has aborted before', async () => {
      const [locks, other] = [manager(), manager()]
      const resource = unique('leader')
      await other.acquire(resource)
      const stop = new AbortController()
      const never = () => expect.unreachable()
      const election = locks.elect(resource, { signal: stop.signal }, never)
      await eventually('it waits', () => locks.stats().waiting === 1)
      stop.abort()
      await election
      await locks.elect(resource, { signal: AbortSignal.abort() }, never)
      await eventually('it waits no longer', () => locks.stats().pending === 0)
    })

    it.runIf(isShared)('ends its campaign when the manager closes, and drains its leadership', async () => {
      const [own, two] = [subject().manager(), manager()]
      const [led, wanted] = [unique('led'), unique('wanted')]
      await two.acquire(wanted)
      const campaigning = own.elect(wanted, () => expect.unreachable())
      let lock: Lock | undefined
      const leading = own.elect(led, { ttlMs: 3_000 }, async (given) => {
        lock = given
        await aborted(own.closing)
        const { extended } = own.stats()
        await eventually('it is renewed', () => own.stats().extended > extended)
        expect(given.held).toBe(true)
      })
      await eventually('it leads', () => lock !== undefined && own.stats().waiting === 1)
      await own.close()
      await Promise.all([campaigning, leading])
      expect(lock!.signal.aborted).toBe(false)
      expect(await two.tryAcquire(led)).not.toBeNull()
      expect(await rejection(own.elect(led, () => expect.unreachable()))).toMatchObject({ code: 'CLOSED' })
    })

    it.runIf(isShared)('resolves when its routine stops with the reason of closing', async () => {
      // The reason itself, and the error of a call that took the signal.
      const stops: ((signal: AbortSignal) => unknown)[] = [
        (signal) => signal.throwIfAborted(),
        (signal) => abortableSleep(60_000, undefined, { signal }),
      ]
      for (const stop of stops) {
        const own = subject().manager()
        let leads = false
        const election = own.elect(unique('led'), async (lock) => {
          leads = true
          await aborted(own.closing)
          await stop(AbortSignal.any([lock.signal, own.closing]))
        })
        await eventually('it leads', () => leads)
        await Promise.all([own.close(), election])
      }
      const own = subject().manager()
      const bug = new Error('a bug in the clean-up')
      let leads = false
      const election = own.elect(unique('led'), async () => {
        leads = true
        await aborted(own.closing)
        throw bug
      })
      await eventually('it leads', () => leads)
      expect(await Promise.all([rejection(election), own.close()])).toEqual([bug, undefined])
    })

    it('checks its arguments', async () => {
      const locks = manager()
      const warnings = fencelockWarnings()
      const refused: [unknown, RegExp][] = [
        [{ waitMs: 5 }, /"waitMs" in options; elect waits until it leads/],
        [{ renew: false }, /renew of elect must be true or an object/],
        [{ ttl: 5 }, /did you mean "ttlMs"/],
        [{ signal: 'stop' }, /signal must be/],
        [{ ttlMs: 5 }, /ttlMs must be an integer/],
      ]
      for (const [options, message] of refused) {
        const election = locks.elect(unique(), options as never, () => expect.unreachable())
        expect(await rejection(election)).toMatchObject({
          code: 'INVALID_OPTION',
          message: expect.stringMatching(message),
        })
      }
      const routine = locks.elect(unique(), {} as never)
      expect(await rejection(routine)).toMatchObject({
        message:
          'the argument fn of elect must be a function, got an object; the order is elect(resource, options, fn)',
      })
      expect(warnings).toEqual([])
    })
  })
}
