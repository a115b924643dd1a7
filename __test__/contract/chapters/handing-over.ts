/** Handing a lease over: the giver's handle, the ticket, and who adopts it. */
import { LockLostError, type Lock } from 'fencelock'
import { inspect } from 'node:util'
import { describe, expect, it } from 'vitest'

import { fencelockWarnings, rejection, unique } from '../../fixtures/locks'
import { inTime } from '../../fixtures/stalls'
import { eventually, sleep } from '../../fixtures/temp'
import type { Chapter } from './subject'

/** A ticket whose content is altered. */
function altered(ticket: string, change: object): string {
  const [kind, version, content] = ticket.split('.')
  const fields = JSON.parse(Buffer.from(content!, 'base64url').toString()) as object
  return `${kind}.${version}.${Buffer.from(JSON.stringify({ ...fields, ...change })).toString('base64url')}`
}

export const handingOverContract: Chapter = ({ isShared, manager, subject }) => {
  describe('handing over', () => {
    it('gives the lease to who adopts it, with a new owner and a higher token, once', async () => {
      const [giver, taker, late] = [manager(), manager(), manager()]
      const resource = unique()
      const given = await giver.acquire(resource, { ttlMs: 30_000 })
      const ticket = await given.handOver()
      expect(ticket).toMatch(/^fencelock-ticket\.1\.[\w-]+$/)
      const lock = await taker.adopt(ticket)
      expect(lock).toMatchObject({ resource, strategy: subject().strategy, held: true })
      expect(lock.token).toBeGreaterThan(given.token)
      expect(lock.owner).not.toBe(given.owner)
      expect(lock.remainingMs).toBeGreaterThan(25_000)
      expect(await late.inspect(resource)).toMatchObject({ owner: lock.owner, token: lock.token })
      expect(await rejection(late.adopt(ticket))).toMatchObject({ code: 'LOCK_LOST', resource })
      expect(await rejection(taker.adopt(ticket))).toBeInstanceOf(LockLostError)
      expect(lock.held).toBe(true)
      await lock.extend()
      expect(await lock.release()).toBe(true)
      expect(await rejection(taker.adopt(ticket))).toMatchObject({ code: 'LOCK_LOST' })
      expect(await giver.tryAcquire(resource)).not.toBeNull()
    })

    it('within one manager, and on from there', async () => {
      const locks = manager()
      let lock: Lock = await locks.acquire(unique(), { ttlMs: 30_000 })
      const tokens = [lock.token]
      for (let round = 0; round < 3; round++) {
        lock = await locks.adopt(await lock.handOver())
        tokens.push(lock.token)
      }
      expect(tokens).toEqual([...new Set(tokens)].toSorted((a, b) => (a < b ? -1 : 1)))
      expect(locks.stats()).toMatchObject({ held: 1, granted: 4, lost: 0 })
      expect(await lock.release()).toBe(true)
    })

    it('ends the handle of the giver, who neither releases nor extends the lease', async () => {
      const [giver, other] = [manager(), manager()]
      const resource = unique()
      const lock = await giver.acquire(resource, { ttlMs: 30_000 })
      const { signal } = lock
      const handingOver = lock.handOver()
      expect(lock.handOver()).toBe(handingOver)
      const ticket = await handingOver
      expect(lock).toMatchObject({ held: false, remainingMs: 0 })
      expect(lock.handOver()).toBe(handingOver)
      const refused = await rejection(lock.extend())
      expect(refused).toMatchObject({ code: 'LOCK_LOST', message: expect.stringContaining('handed over') })
      expect(await lock.release()).toBe(false)
      await lock[Symbol.asyncDispose]()
      expect(giver.stats()).toMatchObject({ held: 0, lost: 0, released: 0 })
      if (isShared) await giver.close()
      expect(signal.aborted).toBe(false)
      expect(lock.signal.aborted).toBe(false)
      expect(await other.tryAcquire(resource)).toBeNull()
      expect((await other.adopt(ticket)).held).toBe(true)
    })

    it('is not undone by a release that was called meanwhile', async () => {
      const [giver, other] = [manager(), manager()]
      const lock = await giver.acquire(unique(), { ttlMs: 30_000 })
      const [ticket, released] = await Promise.all([lock.handOver(), lock.release()])
      expect(released).toBe(false)
      expect((await other.adopt(ticket)).held).toBe(true)
    })

    it('ends renewal: a lease that no one adopts lives for its TTL', async () => {
      const [giver, other] = [manager(), manager()]
      const resource = unique()
      const asked = performance.now()
      const lock = await giver.acquire(resource, { ttlMs: 2_000, renew: true })
      const ticket = await lock.handOver()
      const { extended } = giver.stats()
      await eventually('it has ended', () => other.tryAcquire(resource))
      expect(performance.now() - asked).toBeGreaterThan(1_999)
      expect(giver.stats().extended).toBe(extended)
      expect(await rejection(other.adopt(ticket))).toMatchObject({ code: 'LOCK_LOST' })
    })

    it('renewal goes on with who adopts it, if that asks for it', async () => {
      const [giver, taker, other] = [manager(), manager(), manager()]
      const [kept, left] = [unique('kept'), unique('left')]
      const [first, second] = await Promise.all(
        [kept, left].map((resource) => giver.acquire(resource, { ttlMs: 2_500, renew: true })),
      )
      const lock = await taker.adopt(await first!.handOver(), { renew: true })
      const plain = await taker.adopt(await second!.handOver())
      await sleep(2_600)
      expect(lock.held).toBe(true)
      expect(await other.tryAcquire(kept)).toBeNull()
      expect(plain.held).toBe(false)
      await eventually('the other one has ended', () => other.tryAcquire(left))
      expect(await lock.release()).toBe(true)
    })

    it('has a TTL and a token as they are asked for', async () => {
      const [giver, taker] = [manager(), manager()]
      const ticket = async (): Promise<string> =>
        (await giver.acquire(unique(), { ttlMs: 30_000 })).handOver()
      const long = await taker.adopt(await ticket(), { ttlMs: 120_000 })
      expect(long.remainingMs).toBeGreaterThan(100_000)
      expect((await giver.inspect(long.resource))!.remainingMs).toBeGreaterThan(100_000)
      const short = await taker.adopt(await ticket(), { ttlMs: 8_000 })
      expect((await giver.inspect(short.resource))!.remainingMs).toBeLessThanOrEqual(8_000)
      const minToken = 2n ** 52n
      const above = await taker.adopt(await ticket(), { minToken })
      expect(above.token).toBe(minToken + 1n)
      // The next one, too, even though the clock is behind it.
      expect((await taker.adopt(await above.handOver())).token).toBe(minToken + 2n)
    })

    it('passes on no minimum: who adopts a lease frees it with its release', async () => {
      const [giver, taker, other] = [manager(), manager(), manager()]
      const resource = unique()
      const given = await giver.acquire(resource, { ttlMs: 20_000, minHoldMs: 60_000 })
      const ticket = await given.handOver()
      expect(await rejection(taker.adopt(ticket, { minHoldMs: 1 } as never))).toMatchObject({
        code: 'INVALID_OPTION',
      })
      const lock = await taker.adopt(ticket)
      expect(await other.tryAcquire(resource)).toBeNull()
      expect(await lock.release()).toBe(true)
      expect(await other.tryAcquire(resource)).not.toBeNull()
    })

    it('covers several resources together, or none of them', async () => {
      const [giver, taker] = [manager(), manager()]
      const names = Array.from({ length: 20 }, () => unique())
      const given = await giver.acquire(names, { ttlMs: 30_000, minToken: 2n ** 52n })
      const lock = await taker.adopt(await given.handOver())
      expect(lock.resources).toEqual(names)
      const tokens = await Promise.all(names.map(async (name) => (await giver.inspect(name))!.token))
      expect(new Set(tokens)).toEqual(new Set([lock.token]))
      expect(lock.token).toBeGreaterThan(given.token)

      const ticket = await lock.handOver()
      await giver.forceRelease(names[7]!)
      expect(await rejection(taker.adopt(ticket))).toMatchObject({ code: 'LOCK_LOST' })
      expect(await giver.inspect(names[0]!)).toMatchObject({ owner: lock.owner, token: lock.token })
      expect(await giver.inspect(names[7]!)).toBeNull()
    })

    it('takes a ticket as large as the largest lock', async () => {
      const [giver, taker] = [manager(), manager()]
      const prefix = unique().slice(0, 20)
      const names = Array.from({ length: 1_000 }, (_, index) => `${prefix}${index}`.padEnd(512, '\u0001'))
      const lock = await giver.acquire(names, { ttlMs: 60_000 })
      const adopted = await taker.adopt(await lock.handOver())
      expect(adopted.resources).toEqual(names)
      expect(await adopted.release()).toBe(true)
    })

    it('comes too late after a forced release, and leaves the next holder alone', async () => {
      const [giver, taker, next] = [manager(), manager(), manager()]
      const resource = unique()
      const ticket = await (await giver.acquire(resource, { ttlMs: 30_000 })).handOver()
      expect(await next.forceRelease(resource)).toBe(true)
      expect(await rejection(taker.adopt(ticket))).toMatchObject({ code: 'LOCK_LOST' })
      const lock = await next.acquire(resource)
      expect(await rejection(taker.adopt(ticket))).toMatchObject({ code: 'LOCK_LOST' })
      expect(lock.held).toBe(true)
      await lock.extend()
      expect(taker.stats()).toMatchObject({ held: isShared ? 0 : 1, cleanups: 0 })
    })

    it('leaves waiters where they are, until the lease ends', async () => {
      const [giver, taker, waiter] = [manager(), manager(), manager()]
      const resource = unique()
      const given = await giver.acquire(resource, { ttlMs: 30_000 })
      const waiting = [
        waiter.acquire(resource, { waitMs: 20_000, fair: true }),
        manager().acquire(resource, { waitMs: 20_000 }),
      ]
      let isGranted = false
      for (const each of waiting) void each.then(() => (isGranted = true))
      await sleep(300)
      const adopted = await taker.adopt(await given.handOver())
      await sleep(300)
      expect(isGranted).toBe(false)
      const began = performance.now()
      expect(await adopted.release()).toBe(true)
      const next = await Promise.race(waiting)
      expect(performance.now() - began).toBeLessThan(5_000)
      expect(next.token).toBeGreaterThan(adopted.token)
      await next.release()
      await (await Promise.all(waiting)).find((lock) => lock !== next)!.release()
    })

    it('is refused for a lock that has ended', async () => {
      const locks = manager()
      const [released, forced] = await Promise.all(
        [1, 2].map(() => locks.acquire(unique(), { ttlMs: 30_000 })),
      )
      const expired = await inTime(70, () => locks.acquire(unique(), { ttlMs: 300 }))
      await released!.release()
      await locks.forceRelease(forced!.resource)
      await eventually('it has expired', () => !expired.held)
      for (const lock of [released!, expired]) {
        expect(await rejection(lock.handOver())).toMatchObject({
          code: 'LOCK_LOST',
          resource: lock.resource,
          message: expect.stringContaining('handed over'),
        })
      }
      expect(expired.signal.aborted).toBe(true)
      // A server is asked only when the lease is adopted.
      const ticket = forced!.handOver()
      const adopted = ticket.then((text) => locks.adopt(text))
      expect(await rejection(adopted)).toMatchObject({ code: 'LOCK_LOST' })
    })

    it('in a routine of withLock leaves its result', async () => {
      const [giver, taker] = [manager(), manager()]
      for (const awaited of [true, false]) {
        const resource = unique()
        const [ticket] = await giver.withLock(resource, { ttlMs: 30_000 }, async (lock) => {
          const handingOver = lock.handOver()
          if (awaited) await handingOver
          return [handingOver]
        })
        const lock = await taker.adopt(await ticket)
        expect(lock.resource).toBe(resource)
        expect(await lock.release()).toBe(true)
      }
    })

    it('ends an election, because the leader gave its lock away', async () => {
      const [giver, taker] = [manager(), manager()]
      const resource = unique()
      let ticket = ''
      let terms = 0
      await giver.elect(resource, { ttlMs: 30_000 }, async (lock) => {
        terms++
        ticket = await lock.handOver()
      })
      expect(terms).toBe(1)
      expect((await taker.adopt(ticket)).resource).toBe(resource)
    })

    it('shows the ticket nowhere, and warns of nothing', async () => {
      const warnings = fencelockWarnings()
      const [giver, taker] = [manager(), manager()]
      const lock = await giver.acquire(unique(), { ttlMs: 30_000 })
      const ticket = await lock.handOver()
      const secret = ticket.slice('fencelock-ticket.1.'.length)
      for (const shown of [inspect(lock), JSON.stringify(lock), inspect(giver, { depth: 9 })]) {
        expect(shown).not.toContain(secret)
      }
      if (isShared) await giver.close()
      await (await taker.adopt(ticket)).release()
      const error = await rejection(taker.adopt(ticket))
      expect(inspect(error) + JSON.stringify(error)).not.toContain(secret)
      expect(warnings).toEqual([])
    })

    it('refuses what is no ticket of this manager, without showing it', async () => {
      const locks = manager()
      const lock = await locks.acquire(unique('secret'), { ttlMs: 30_000 })
      const ticket = await lock.handOver()
      const strategy = subject().strategy === 'local' ? 'strong' : 'local'
      const bad: [unknown, string, string?][] = [
        [undefined, 'TypeError', 'must be a string'],
        [lock, 'TypeError'],
        ['', 'TypeError', 'no ticket'],
        ['secret', 'TypeError', 'no ticket'],
        ['x'.repeat(10_000_000), 'TypeError', 'no ticket'],
        [ticket.replace('.1.', '.2.'), 'RangeError', 'another version'],
        [ticket.slice(0, -5), 'TypeError', 'damaged'],
        [altered(ticket, { owner: 'secret' }), 'TypeError', 'damaged'],
        [altered(ticket, { strategy: 'secret' }), 'TypeError', 'damaged'],
        [altered(ticket, { resources: [] }), 'TypeError', 'damaged'],
        [altered(ticket, { resources: ['secret\uD800'] }), 'TypeError', 'damaged'],
        [altered(ticket, { ttlMs: 'secret' }), 'TypeError', 'damaged'],
        [altered(ticket, { prefix: 'secret' }), 'RangeError', 'another prefix'],
        [altered(ticket, { strategy: 'quorum', prefix: 'fencelock' }), 'TypeError', 'quorum'],
        [altered(ticket, { strategy: 'strong', prefix: 'fencelock' }), 'TypeError', 'redis'],
      ]
      for (const [value, name, words = ''] of strategy === 'strong' ? bad : bad.slice(0, -1)) {
        const error = await rejection(locks.adopt(value as string))
        expect(error).toMatchObject({ code: 'INVALID_OPTION', message: expect.stringContaining(words) })
        expect(error.name).toBe(name)
        expect(error.message).not.toContain('secret')
      }
      expect((await locks.adopt(ticket)).held).toBe(true)
    })

    it('takes the options of a single attempt', async () => {
      const locks = manager()
      const ticket = await (await locks.acquire(unique(), { ttlMs: 30_000 })).handOver()
      const none = { waitMs: 0, fair: true, drainMs: 1, ttlMs: 1, renew: 1, minToken: 1, ttlms: 1 }
      for (const [key, value] of Object.entries(none)) {
        expect(await rejection(locks.adopt(ticket, { [key]: value }))).toMatchObject({
          code: 'INVALID_OPTION',
        })
      }
      const stop = new Error('stop')
      expect(await rejection(locks.adopt(ticket, { signal: AbortSignal.abort(stop) }))).toBe(stop)
      expect((await locks.adopt(ticket, { ttlMs: undefined })).remainingMs).toBeGreaterThan(25_000)
    })

    it('releases a lease that arrives after its adoption was aborted', async () => {
      const [locks, other] = [manager(), manager()]
      const lock = await locks.acquire(unique(), { ttlMs: 30_000 })
      const ticket = await lock.handOver()
      const controller = new AbortController()
      const adopting = locks.adopt(ticket, { signal: controller.signal })
      controller.abort()
      expect(await rejection(adopting)).toBe(controller.signal.reason)
      await eventually('it is released', async () => (await other.inspect(lock.resource)) === null)
    })

    it.runIf(isShared)('is refused by a manager that was closed', async () => {
      const [giver, closed, taker] = [manager(), manager(), manager()]
      const lock = await giver.acquire(unique(), { ttlMs: 30_000 })
      const ticket = await lock.handOver()
      await closed.close()
      expect(await rejection(closed.adopt(ticket))).toMatchObject({ code: 'CLOSED' })
      const adopted = await taker.adopt(ticket)
      await taker.close({ drainMs: 0 })
      expect(await rejection(adopted.handOver())).toMatchObject({ code: 'CLOSED' })
      expect(await giver.tryAcquire(lock.resource)).not.toBeNull()
    })
  })
}

/** Of a strategy that does not hand leases over. */
export const keepingOnlyContract: Chapter = ({ manager }) => {
  describe('handing over', () => {
    it('is not supported, and leaves the lock held', async () => {
      const [locks, other] = [manager(), manager()]
      const lock = await locks.acquire(unique(), { ttlMs: 30_000, renew: true })
      for (let time = 0; time < 2; time++) {
        expect(await rejection(lock.handOver())).toMatchObject({
          code: 'UNSUPPORTED',
          resource: lock.resource,
        })
      }
      expect(lock.held).toBe(true)
      expect(lock.signal.aborted).toBe(false)
      await lock.extend()
      expect(await other.tryAcquire(lock.resource)).toBeNull()
      expect(await lock.release()).toBe(true)
    })

    it('that failed does not hide that the lock was lost', async () => {
      const locks = manager()
      const lost = locks.withLock(unique(), async (lock) => {
        await lock.handOver().catch(() => undefined)
        await locks.forceRelease(lock.resource)
      })
      expect(await rejection(lost)).toMatchObject({ code: 'LOCK_LOST' })
    })
  })
}
