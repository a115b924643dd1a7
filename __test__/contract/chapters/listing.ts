/** Who holds a lock, and all locks that are held. */
import { type ListOptions, type LockInfo, type LockManager } from 'fencelock'
import { hostname } from 'node:os'
import { describe, expect, it } from 'vitest'

import { onCleanup } from '../../fixtures/cleanup'
import { rejection, unique } from '../../fixtures/locks'
import { inTime } from '../../fixtures/stalls'
import { eventually } from '../../fixtures/temp'
import type { Chapter } from './subject'

async function all(locks: LockManager, options?: ListOptions): Promise<LockInfo[]> {
  const found = []
  for await (const info of locks.list(options)) found.push(info)
  return found
}

const namesOf = (infos: LockInfo[]): string[] => infos.map(({ resource }) => resource).toSorted()

const ttlMs = 60_000

export const listingContract: Chapter = ({ manager, subject, isShared }) => {
  describe('the holder', () => {
    it('is the host and the process by default, and known at once to its own manager', async () => {
      const locks = manager()
      const before = Date.now()
      const lock = await locks.acquire(unique(), { ttlMs })
      const { holder, waiters } = (await locks.inspect(lock.resource))!
      expect(holder).toMatchObject({ host: hostname(), pid: process.pid })
      expect(holder!.name).toBe(`${hostname()}:${process.pid}`)
      expect(holder!.since).toBeInstanceOf(Date)
      expect(Math.abs(before - holder!.since.getTime())).toBeLessThan(60_000)
      expect(waiters).toBe(0)
    })

    it.runIf(isShared)('is known to other managers by its name', async () => {
      const named = subject().manager({ holderName: 'jobs é 1' })
      onCleanup(() => named.close({ drainMs: 0 }))
      const other = manager()
      const lock = await named.acquire(unique(), { ttlMs })
      const holder = async () => (await other.inspect(lock.resource))!.holder
      await eventually('it is told', async () => (await holder()) !== null)
      expect(await holder()).toMatchObject({ name: 'jobs é 1', host: hostname(), pid: process.pid })
      expect(await all(other, { prefix: lock.resource })).toMatchObject([
        { resource: lock.resource, holder: { name: 'jobs é 1' } },
      ])
      // Not of another manager, although that is in the same process.
      const mine = await other.acquire(unique(), { ttlMs })
      expect((await other.inspect(mine.resource))!.holder!.name).not.toBe('jobs é 1')
    })

    it.runIf(isShared)('stays known when its manager has gone, as long as its leases may last', async () => {
      const [gone, other] = [subject().manager({ holderName: 'gone' }), manager()]
      const lock = await gone.acquire(unique(), { ttlMs })
      const holder = async () => (await other.inspect(lock.resource))?.holder
      await eventually('it is told', async () => (await holder()) !== null)
      const kept = await gone.acquire(unique(), { ttlMs, minHoldMs: 20_000 })
      await gone.close({ drainMs: 0 })
      expect((await other.inspect(kept.resource))!.holder).toMatchObject({ name: 'gone' })
    })

    it('is in JSON, and in what is inspected', async () => {
      const locks = manager()
      const lock = await locks.acquire(unique(), { ttlMs })
      const info = (await locks.inspect(lock.resource))!
      const json = JSON.parse(JSON.stringify(info)) as Record<string, unknown>
      expect(json).toMatchObject({
        resource: lock.resource,
        token: String(lock.token),
        waiters: 0,
        holder: { pid: process.pid, since: info.holder!.since.toISOString() },
      })
    })
  })

  describe('waiters', () => {
    it('are counted while they wait', async () => {
      const [one, two] = [manager(), manager()]
      const lock = await one.acquire(unique(), { ttlMs })
      const waiters = async () => (await one.inspect(lock.resource))!.waiters
      const waiting = [1, 2].map(() => two.acquire(lock.resource, { waitMs: 30_000, fair: true }))
      await eventually('both wait', async () => (await waiters()) === 2)
      const listed = await eventually('both are in the listing', async () => {
        const [info] = await all(one, { prefix: lock.resource })
        return info?.waiters === 2 ? info : undefined
      })
      expect(listed.owner).toBe(lock.owner)
      await lock.release()
      // Which one is first does not matter here: a process that cannot hear of the release yet, because its
      // subscription takes long, loses its places, and is counted again with its next attempts.
      const next = await Promise.race(waiting)
      await eventually('the other one waits', async () => (await waiters()) === 1)
      await next.release()
      for (const each of waiting) await (await each).release()
    })

    it('that are not fair count as one', async () => {
      const locks = manager()
      const lock = await locks.acquire(unique(), { ttlMs })
      const waiting = [1, 2, 3].map(() => locks.acquire(lock.resource, { waitMs: 30_000 }))
      const waiters = async () => (await locks.inspect(lock.resource))!.waiters
      await eventually('they wait', async () => (await waiters()) === 1)
      await lock.release()
      for (const each of waiting) await (await each).release()
    })
  })

  describe('listing', () => {
    it('finds each lock that is held, once, with what inspecting it finds', async () => {
      const [one, two] = [manager(), manager()]
      const prefix = unique()
      const locks = await Promise.all(
        Array.from({ length: 300 }, (_, index) => one.acquire(`${prefix}:${index}`, { ttlMs })),
      )
      const released = locks.splice(0, 20)
      await Promise.all(released.map((lock) => lock.release()))
      const { resource: expired } = await inTime(70, () =>
        one.acquire(unique(`${prefix}:expired`), { ttlMs: 300 }),
      )
      await eventually('it has expired', async () => (await two.inspect(expired)) === null)
      const found = await all(two, { prefix })
      expect(namesOf(found)).toEqual(locks.map(({ resource }) => resource).toSorted())
      for (const info of found.slice(0, 10)) {
        const lock = locks.find(({ resource }) => resource === info.resource)!
        const { resource, owner, token } = lock
        expect(info).toMatchObject({ resource, owner, strategy: subject().strategy, waiters: 0 })
        expect(info.token).toBe(token)
        expect(info.remainingMs).toBeGreaterThan(1_000)
        expect(info.remainingMs).toBeLessThanOrEqual(ttlMs)
      }
      expect(namesOf(await all(two))).toEqual(expect.arrayContaining(namesOf(found)))
      await Promise.all(locks.map((lock) => lock.release()))
      expect(await all(two, { prefix })).toEqual([])
    })

    it('takes its prefix literally', async () => {
      const locks = manager()
      const tag = unique()
      // Whatever has a meaning in a pattern, in a key, or in a table.
      const parts = ['*', '?', '[a]', '[^a]', '\\', '%', '_', '}', '{x}', '}:lock', 'é', '🔒', '\0', "'", 'a']
      const names = parts.flatMap((part) => [`${part}${tag}`, `${tag}${part}`, `${part}${tag}${part}`])
      for (const name of names) await locks.acquire(name, { ttlMs })
      for (const part of parts) {
        for (const prefix of [`${part}${tag}`, `${tag}${part}`]) {
          const expected = names.filter((name) => name.startsWith(prefix)).toSorted()
          expect([prefix, ...namesOf(await all(locks, { prefix }))]).toEqual([prefix, ...expected])
        }
      }
      expect(namesOf(await all(locks, { prefix: `${tag}nothing` }))).toEqual([])
      const held = namesOf(await all(locks)).filter((name) => name.includes(tag))
      expect(held).toEqual(names.toSorted())
    })

    it('leaves out locks that were released since they were found', async () => {
      const locks = manager()
      const prefix = unique()
      const held = await Promise.all(
        Array.from({ length: 600 }, (_, index) => locks.acquire(`${prefix}:${index}`, { ttlMs })),
      )
      const listing = locks.list({ prefix })
      const first = await listing.next()
      expect(first.done).toBe(false)
      const kept = held.filter(({ resource }) => resource === first.value!.resource)
      await Promise.all(held.filter((lock) => !kept.includes(lock)).map((lock) => lock.release()))
      // What was read together with the first is returned.
      const rest = []
      for await (const { resource } of listing) rest.push(resource)
      expect(new Set(rest).size).toBe(rest.length)
      if (isShared) expect(rest.length).toBeLessThan(500)
      expect(namesOf(await all(locks, { prefix }))).toEqual(kept.map(({ resource }) => resource))
    })

    it('ends early without leaving anything behind', async () => {
      const locks = manager()
      const prefix = unique()
      for (const name of ['a', 'b', 'c']) await locks.acquire(`${prefix}:${name}`, { ttlMs })
      let count = 0
      for await (const info of locks.list({ prefix })) {
        expect(info.resource).toContain(prefix)
        count++
        break
      }
      expect(count).toBe(1)
      const listing = locks.list({ prefix })
      await listing.next()
      expect(await listing.return!()).toEqual({ done: true, value: undefined })
      expect(await listing.next()).toEqual({ done: true, value: undefined })
      expect(locks.stats().pending).toBe(0)
      expect(await all(locks, { prefix })).toHaveLength(3)
    })

    it('ends with the reason of its signal', async () => {
      const locks = manager()
      const prefix = unique()
      for (const name of ['a', 'b', 'c']) await locks.acquire(`${prefix}:${name}`, { ttlMs })
      const reason = new Error('seen enough')
      expect(await rejection(all(locks, { signal: AbortSignal.abort(reason) }))).toBe(reason)
      const controller = new AbortController()
      const { signal } = controller
      const waiting = rejection(all(locks, { prefix, signal }))
      controller.abort(reason)
      expect(await waiting).toBe(reason)
      const second = new AbortController()
      const listing = locks.list({ prefix, signal: second.signal })
      expect((await listing.next()).done).toBe(false)
      second.abort(reason)
      expect(await rejection(listing.next())).toBe(reason)
      expect(await listing.next()).toEqual({ done: true, value: undefined })
      expect(await all(locks, { prefix, signal: new AbortController().signal })).toHaveLength(3)
    })

    it('ends with an error when its manager is closed', async () => {
      const one = subject().manager()
      const prefix = unique()
      for (let index = 0; index < 3; index++) await one.acquire(`${prefix}:${index}`, { ttlMs })
      const listing = one.list({ prefix })
      expect((await listing.next()).done).toBe(false)
      await one.close({ drainMs: 0 })
      expect(await rejection(drained(listing))).toMatchObject({ code: 'CLOSED' })
      expect(await rejection(all(one))).toMatchObject({ code: 'CLOSED' })
    })

    it('refuses wrong options with its first step', async () => {
      const locks = manager()
      const wrong: [unknown, string, string][] = [
        [5, 'TypeError', 'options must be an object'],
        [{ strategy: 'weak' }, 'RangeError', 'strategy must be'],
        [{ prefix: 7 }, 'TypeError', 'prefix must be a string'],
        [{ prefix: 'a'.repeat(513) }, 'RangeError', 'prefix must have at most 512 bytes'],
        [{ prefix: '\uD800' }, 'TypeError', 'lone surrogate'],
        [{ signal: {} }, 'TypeError', 'signal must be an AbortSignal'],
        [{ prefx: 'a' }, 'TypeError', 'did you mean "prefix"?'],
        [{ pattern: 'a*' }, 'TypeError', 'unknown option "pattern"'],
      ]
      for (const [options, name, message] of wrong) {
        const error = await rejection(all(locks, options as ListOptions))
        expect(error).toMatchObject({ name, code: 'INVALID_OPTION' })
        expect(error.message).toContain(message)
      }
    })
  })
}

async function drained(listing: AsyncIterable<LockInfo>): Promise<void> {
  for await (const info of listing) expect(info.resource).toBeTypeOf('string')
}
