import {
  LockHeldError,
  LockLostError,
  LockManager,
  type AcquireOptions,
  type Lock,
  type Strategy,
} from 'fencelock'
/**
 * What every strategy must keep, whatever it is built on. Each strategy's spec runs this suite.
 */
import { randomUUID } from 'node:crypto'
import { describe, expect, it } from 'vitest'

import { onCleanup } from './fixtures/cleanup'
import { eventually, sleep } from './fixtures/temp'

/** What the suite needs to know of a strategy. */
export interface Subject {
  strategy: Strategy
  /** A new manager on the same store as every other one of this subject. */
  manager(): LockManager
}

/** A name no other test uses. */
export function unique(name = 'resource'): string {
  return `${name}-${randomUUID()}`
}

/** A manager that is closed after the test. */
export function closing(manager: LockManager): LockManager {
  onCleanup(() => manager.close())
  return manager
}

/** Resolves with what the promise rejects with. */
export async function rejection<E = Error>(promise: Promise<unknown>): Promise<E> {
  const outcome = await promise.then(
    (value) => ({ value }),
    (error: E) => ({ error }),
  )
  if ('error' in outcome) return outcome.error
  throw new Error(`should have rejected, but resolved with ${String(outcome.value)}`)
}

/** Runs the suite; `subject` is asked once, in the first test's hook. */
export function contract(subject: () => Subject): void {
  const manager = (): LockManager => closing(subject().manager())

  describe('holding', () => {
    it('grants a free resource, and to nobody else while it is held', async () => {
      const [one, two] = [manager(), manager()]
      const resource = unique()
      const lock = await one.acquire(resource, { ttlMs: 5_000 })
      expect(lock).toMatchObject({
        resource,
        resources: [resource],
        strategy: subject().strategy,
        held: true,
      })
      expect(lock.owner).toMatch(/^[0-9a-f]{32}$/)
      expect(lock.remainingMs).toBeGreaterThan(4_000)
      expect(lock.remainingMs).toBeLessThan(5_000)
      expect(await two.tryAcquire(resource)).toBeNull()
      expect(await one.tryAcquire(resource)).toBeNull()
      const error = await rejection<LockHeldError>(two.acquire(resource))
      expect(error).toBeInstanceOf(LockHeldError)
      expect(error).toMatchObject({ code: 'LOCK_HELD', resource, strategy: subject().strategy })
      expect(error.remainingMs).toBeGreaterThan(3_000)
      expect(error.remainingMs).toBeLessThanOrEqual(5_000)
      expect(error.message).toMatch(/nothing was granted.*try again/)
      expect(lock.held).toBe(true)
    })

    it('lets the next one in after a release, once', async () => {
      const [one, two] = [manager(), manager()]
      const resource = unique()
      const lock = await one.acquire(resource)
      const released = lock.release()
      expect(lock.held).toBe(false)
      expect(lock.remainingMs).toBe(0)
      expect(lock.release()).toBe(released)
      expect(await released).toBe(true)
      const next = await two.acquire(resource)
      expect(await lock.release()).toBe(true) // the first one's answer, and no second release
      expect(next.held).toBe(true)
      expect(await one.tryAcquire(resource)).toBeNull()
    })

    it('lets the next one in after the lease ended, and tells the first one', async () => {
      const [one, two] = [manager(), manager()]
      const resource = unique()
      const lock = await one.acquire(resource, { ttlMs: 1_000 })
      await sleep(1_050)
      expect(lock.held).toBe(false)
      expect(lock.remainingMs).toBe(0)
      const next = await two.acquire(resource)
      expect(await rejection(lock.extend())).toMatchObject({ code: 'LOCK_LOST', resource })
      expect(await lock.release()).toBe(false)
      expect(lock.held).toBe(false)
      expect(next.held).toBe(true)
      expect(await one.tryAcquire(resource)).toBeNull()
    })

    it('hands out no lease that ended while the event loop was blocked', async () => {
      const locks = manager()
      await locks.connect()
      const resource = unique()
      const call = rejection(locks.acquire(resource, { ttlMs: 300 }))
      // It is sent when this turn of the event loop ends.
      await new Promise((resolve) => process.nextTick(resolve))
      for (const end = performance.now() + 900; performance.now() < end;);
      expect(await call).toMatchObject({ code: 'LOCK_LOST', resource })
      await expect.poll(() => locks.stats().held).toBe(0)
      expect(await locks.tryAcquire(resource)).not.toBeNull()
    })

    it('takes one of many contenders', async () => {
      const managers = [manager(), manager(), manager()]
      const resource = unique()
      const attempts = Array.from({ length: 60 }, (_, index) => managers[index % 3]!.tryAcquire(resource))
      const locks = (await Promise.all(attempts)).filter((lock) => lock !== null)
      expect(locks).toHaveLength(1)
      expect(locks[0]!.held).toBe(true)
    })

    it('keeps resources apart, however they are named', async () => {
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

    it('takes names of up to 512 bytes', async () => {
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
      // The clock in microseconds: whatever forgets its tokens continues above them.
      expect(Number(last)).toBeGreaterThan((Date.now() - 60_000) * 1000)
    })

    it('are above the high-water mark that the caller knows', async () => {
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

  describe('extending', () => {
    it('moves the end of the lease', async () => {
      const [one, two] = [manager(), manager()]
      const resource = unique()
      const lock = await one.acquire(resource, { ttlMs: 300 })
      await lock.extend(10_000)
      expect(lock.remainingMs).toBeGreaterThan(8_000)
      await sleep(350)
      expect(lock.held).toBe(true)
      expect(await two.tryAcquire(resource)).toBeNull()
      expect((await two.inspect(resource))!.remainingMs).toBeGreaterThan(8_000)
    })

    it('goes by the granted TTL unless told otherwise, and never shortens', async () => {
      const locks = manager()
      const lock = await locks.acquire(unique(), { ttlMs: 5_000 })
      await lock.extend(60_000)
      const before = lock.remainingMs
      await lock.extend()
      await lock.extend(10)
      expect(lock.remainingMs).toBeGreaterThan(before - 5_000)
      expect((await locks.inspect(lock.resource))!.remainingMs).toBeGreaterThan(50_000)
    })

    it('takes its turn when called many times at once', async () => {
      const locks = manager()
      const lock = await locks.acquire(unique(), { ttlMs: 2_000 })
      await Promise.all(Array.from({ length: 20 }, () => lock.extend()))
      expect(lock.held).toBe(true)
      expect(locks.stats().extended).toBe(20)
    })

    it('is refused after the lease was taken by force, and the signal says so', async () => {
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
    it('keeps a lease beyond its TTL, and only one that asked for it', async () => {
      const [one, two] = [manager(), manager()]
      const [kept, left] = [unique('kept'), unique('left')]
      const lock = await one.acquire(kept, { ttlMs: 1_000, renew: true })
      const other = await one.acquire(left, { ttlMs: 1_000 })
      const { signal } = lock
      await sleep(2_500)
      expect(lock.held).toBe(true)
      expect(signal.aborted).toBe(false)
      expect(await two.tryAcquire(kept)).toBeNull()
      expect(other.held).toBe(false)
      expect(await two.tryAcquire(left)).not.toBeNull()
      expect(await lock.release()).toBe(true)
      const { extended } = one.stats()
      expect(extended).toBeGreaterThanOrEqual(4)
      expect(await two.tryAcquire(kept)).not.toBeNull()
      await sleep(700)
      expect(one.stats().extended).toBe(extended)
    })

    it('ends after maxHoldMs, and the signal says so before the lease does', async () => {
      const [one, two] = [manager(), manager()]
      const resource = unique()
      const began = performance.now()
      const lock = await one.acquire(resource, { ttlMs: 2_000, renew: { maxHoldMs: 2_500 } })
      const heldWhenTold = await new Promise<boolean>((resolve) => {
        lock.signal.addEventListener('abort', () => resolve(lock.held), { once: true })
      })
      expect(heldWhenTold).toBe(true)
      // The last renewal was before 2.5 s.
      expect(performance.now() - began).toBeGreaterThan(2_500)
      expect(performance.now() - began).toBeLessThan(4_900)
      expect((lock.signal.reason as Error).message).toContain('maxHoldMs (2500)')
      await expect.poll(() => two.tryAcquire(resource), { timeout: 5_000 }).not.toBeNull()
      expect(lock.held).toBe(false)
    })

    it('tells at once when somebody else has it, and never has it again', async () => {
      const [one, two] = [manager(), manager()]
      const resource = unique()
      const lock = await one.acquire(resource, { ttlMs: 3_000, renew: true })
      const { signal } = lock
      await two.forceRelease(resource)
      const thief = await two.acquire(resource, { ttlMs: 60_000 })
      await expect.poll(() => signal.aborted, { timeout: 2_500 }).toBe(true)
      // Found by the first renewal, long before the margin.
      expect((signal.reason as Error).message).toContain('somebody else took it')
      expect(lock.held).toBe(false)
      await two.forceRelease(resource)
      await sleep(1_500)
      expect(lock.held).toBe(false)
      expect(await lock.release()).toBe(false)
      expect(thief.token).toBeGreaterThan(lock.token)
    })

    it('hands out a lease that was renewed while the event loop was blocked', async () => {
      const [one, two] = [manager(), manager()]
      await one.connect()
      const resource = unique()
      const call = one.acquire(resource, { ttlMs: 600, renew: true })
      await new Promise((resolve) => process.nextTick(resolve))
      for (const end = performance.now() + 1_800; performance.now() < end;);
      expect((await call).held).toBe(true)
      expect(await two.tryAcquire(resource)).toBeNull()
    })
  })

  describe('withLock', () => {
    it('takes the lock, keeps it while the routine runs, and gives it back', async () => {
      const [one, two] = [manager(), manager()]
      const resource = unique()
      const seen = await one.withLock(resource, { ttlMs: 1_000 }, async (lock) => {
        await sleep(2_500)
        return [lock.held, lock.signal.aborted, await two.tryAcquire(resource), lock.resource] as const
      })
      expect(seen).toEqual([true, false, null, resource])
      expect(await two.inspect(resource)).toBeNull()
    })

    it('takes no options, several resources, and a routine that is not asynchronous', async () => {
      const locks = manager()
      const [a, b] = [unique('a'), unique('b')]
      expect(await locks.withLock(a, (lock) => lock.held)).toBe(true)
      expect(await locks.withLock([a, b], undefined, (lock) => lock.resources)).toEqual([a, b])
      expect(await locks.withLock(a, { renew: false }, () => undefined)).toBeUndefined()
      expect(await locks.inspect(a)).toBeNull()
      expect(locks.stats()).toMatchObject({ granted: 3, released: 3, held: 0 })
    })

    it('rejects with what the routine threw, whatever became of the lock', async () => {
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

    it('rejects with the result if the lock was lost meanwhile', async () => {
      const locks = manager()
      const resource = unique()
      const forced = locks.withLock(resource, async () => {
        await locks.forceRelease(resource)
        return { huge: 1n }
      })
      const ended = locks.withLock(unique(), { ttlMs: 300, renew: false }, async () => {
        await sleep(400)
        return 'late'
      })
      const error = await rejection<LockLostError>(forced)
      expect(error).toBeInstanceOf(LockLostError)
      expect(error).toMatchObject({ code: 'LOCK_LOST', resource, strategy: subject().strategy })
      expect(error.result).toEqual({ huge: 1n })
      expect(JSON.parse(JSON.stringify(error))).not.toHaveProperty('result')
      expect((await rejection<LockLostError>(ended)).result).toBe('late')
      const own = subject().manager()
      const closed = own.withLock(unique(), async () => {
        await own.close()
        return 'closed'
      })
      expect((await rejection<LockLostError>(closed)).result).toBe('closed')
    })

    it('minds no release by the routine itself', async () => {
      const locks = manager()
      const resource = unique()
      const value = await locks.withLock(resource, async (lock) => {
        await lock.release()
        return 5
      })
      expect(value).toBe(5)
    })

    it('runs nothing without a lock', async () => {
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

    it('is cancelled while it waits, not while the routine runs', async () => {
      const locks = manager()
      const controller = new AbortController()
      const value = await locks.withLock(unique(), { signal: controller.signal }, (lock) => {
        controller.abort()
        return lock.held && !lock.signal.aborted
      })
      expect(value).toBe(true)
    })

    it('refuses what is no function, and takes no lock then', async () => {
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
      const lock = await locks.acquire(unique(), { ttlMs: 3_000 })
      expect(lock.signal).toBe(lock.signal)
      expect(lock.signal.aborted).toBe(false)
      const heldWhenTold = await new Promise<boolean>((resolve) => {
        lock.signal.addEventListener('abort', () => resolve(lock.held), { once: true })
      })
      expect(heldWhenTold).toBe(true)
      expect(lock.signal.reason).toMatchObject({ code: 'LOCK_LOST', resource: lock.resource })
    })

    it('waits when the lease was extended', async () => {
      const locks = manager()
      const lock = await locks.acquire(unique(), { ttlMs: 300 })
      const { signal } = lock
      await lock.extend(5_000)
      await sleep(500)
      expect(signal.aborted).toBe(false)
      expect(lock.held).toBe(true)
    })

    it('has aborted when it is first read too late, and stays still after a release', async () => {
      const locks = manager()
      const late = await locks.acquire(unique(), { ttlMs: 300 })
      const released = await locks.acquire(unique(), { ttlMs: 300 })
      const { signal } = released
      await released.release()
      const readAfterwards = await locks.acquire(unique(), { ttlMs: 300 })
      await readAfterwards.release()
      await sleep(400)
      expect(late.signal.aborted).toBe(true)
      expect(late.signal.reason).toMatchObject({ code: 'LOCK_LOST' })
      expect((late.signal.reason as Error).message).toMatch(/has ended.*stop working/)
      expect(signal.aborted).toBe(false)
      expect(readAfterwards.signal.aborted).toBe(false)
    })

    it('goes by the TTL of the extension', async () => {
      const lock = await manager().acquire(unique(), { ttlMs: 200 })
      await lock.extend(4_000)
      const { signal } = lock
      await expect.poll(() => signal.aborted, { timeout: 6_000, interval: 5 }).toBe(true)
      // A tenth of the extension's TTL, not of the one it was granted with, which would be 20 ms.
      expect(lock.remainingMs).toBeGreaterThan(100)
    })
  })

  describe('several resources', () => {
    it('are locked all together, with one token above each of theirs', async () => {
      const [one, two] = [manager(), manager()]
      const [a, b, c] = [unique('a'), unique('b'), unique('c')]
      const high = await one.acquire(b, { minToken: BigInt(Date.now() + 3_600_000) * 1000n })
      await high.release()
      const lock = await one.acquire([c, a, b], { ttlMs: 5_000 })
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

    it('are up to 1,000', async () => {
      const names = Array.from({ length: 1_000 }, (_, index) => unique(String(index)))
      const locks = manager()
      const lock = await locks.acquire(names)
      expect(lock.resources).toEqual(names)
      expect(await locks.tryAcquire(names.at(-1)!)).toBeNull()
      expect(await lock.release()).toBe(true)
    })

    it('are locked not at all if one of them is held', async () => {
      const locks = manager()
      const [a, b, c] = [unique('a'), unique('b'), unique('c')]
      const lock = await locks.acquire(b)
      expect(await locks.tryAcquire([a, b, c])).toBeNull()
      expect(await locks.inspect(a)).toBeNull()
      expect(await locks.inspect(c)).toBeNull()
      expect((await locks.inspect(b))!.token).toBe(lock.token)
    })

    it('are lost if one of them is', async () => {
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

  describe('looking and forcing', () => {
    it('inspects and forces', async () => {
      const locks = manager()
      const resource = unique()
      expect(await locks.inspect(resource)).toBeNull()
      expect(await locks.forceRelease(resource)).toBe(false)
      const lock = await locks.acquire(resource, { ttlMs: 10_000 })
      const info = await locks.inspect(resource)
      expect(info).toMatchObject({
        resource,
        strategy: subject().strategy,
        owner: lock.owner,
        token: lock.token,
      })
      expect(info!.remainingMs).toBeGreaterThan(8_000)
      expect(info!.remainingMs).toBeLessThanOrEqual(10_000)
      expect(await locks.forceRelease(resource)).toBe(true)
      expect(await locks.inspect(resource)).toBeNull()
      expect(await lock.release()).toBe(false)
    })

    it('counts what it does', async () => {
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

  describe('cancelling', () => {
    it('rejects with the reason, and gives a late grant back', async () => {
      const locks = manager()
      const reason = new Error('changed my mind')
      expect(await rejection(locks.acquire(unique(), { signal: AbortSignal.abort(reason) }))).toBe(reason)
      const resource = unique()
      const controller = new AbortController()
      const call = rejection(locks.acquire(resource, { signal: controller.signal }))
      controller.abort(reason)
      expect(await call).toBe(reason)
      await expect.poll(() => locks.stats().pending).toBe(0)
      await expect.poll(() => locks.inspect(resource)).toBeNull()
      expect(locks.stats().held).toBe(0)
    })

    it('takes whatever has the events of a signal', async () => {
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
    /** Long enough for a call to have come to wait, on a machine that does other things too. */
    const settle = (): Promise<void> => sleep(150)
    /** Far more than anything here takes, unless it waits for the end of a lease. */
    const waitMs = 20_000

    it('takes the lock as soon as it is released', async () => {
      const [one, two] = [manager(), manager()]
      const resource = unique()
      const lock = await one.acquire(resource, { ttlMs: 60_000 })
      const calls = [one.acquire(resource, { waitMs }), two.acquire(resource, { waitMs })]
      await settle()
      expect(one.stats().pending + two.stats().pending).toBe(2)
      await lock.release()
      const first = await Promise.race(calls)
      expect(first.held).toBe(true)
      expect(first.token).toBeGreaterThan(lock.token)
      await first.release()
      const [a, b] = await Promise.all(calls)
      expect(a!.token).not.toBe(b!.token)
    })

    it('gives up with LOCK_HELD after its time, and leaves nothing behind', async () => {
      const [one, two] = [manager(), manager()]
      for (const fair of [false, true]) {
        const resource = unique()
        const lock = await one.acquire(resource, { ttlMs: 60_000 })
        const began = performance.now()
        const error = await rejection<LockHeldError>(two.acquire(resource, { waitMs: 200, fair }))
        expect(performance.now() - began).toBeGreaterThan(190)
        expect(error).toMatchObject({ code: 'LOCK_HELD', resource })
        await lock.release()
        await expect.poll(() => two.stats()).toMatchObject({ pending: 0, held: 0 })
        expect(await one.inspect(resource)).toBeNull()
        // Nor its place in the line.
        const next = await eventually('the line is empty', () => one.tryAcquire(resource))
        expect(next.held).toBe(true)
      }
    })

    it('waits for as long as it takes', async () => {
      const [one, two] = [manager(), manager()]
      const resource = unique()
      const lock = await one.acquire(resource, { ttlMs: 60_000 })
      const call = two.acquire(resource, { waitMs: Number.POSITIVE_INFINITY })
      await settle()
      expect(two.stats().pending).toBe(1)
      await lock.release()
      expect((await call).held).toBe(true)
    })

    it('takes the lock when the lease in the way ends, or is ended by force', async () => {
      const [one, two] = [manager(), manager()]
      for (const fair of [false, true]) {
        const [short, forced] = [unique('short'), unique('forced')]
        const ending = await one.acquire(short, { ttlMs: 400 })
        await one.acquire(forced, { ttlMs: 60_000 })
        const calls = [short, forced].map((name) => two.acquire(name, { waitMs, fair }))
        await settle()
        expect(await one.forceRelease(forced)).toBe(true)
        const [afterEnd, afterForce] = await Promise.all(calls)
        expect(afterEnd!.token).toBeGreaterThan(ending.token)
        expect(afterEnd!.held && afterForce!.held).toBe(true)
      }
    })

    it('serves the callers of one manager in the order in which they came', async () => {
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

    it('mints a new owner and a higher token for every hand-over', async () => {
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

    it('is cancelled by its signal, and the next one is served', async () => {
      const [one, two] = [manager(), manager()]
      for (const fair of [false, true]) {
        const resource = unique()
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
        await expect.poll(() => two.stats()).toMatchObject({ pending: 0, held: 0 })
        expect(await eventually('nobody is in line', () => one.tryAcquire(resource))).toBeTruthy()
      }
    })

    it('is cancelled in the moment in which it is granted, and gives that back', async () => {
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
          await eventually('it was given back', () => one.tryAcquire(resource, { ttlMs: 60_000 })),
        ).toBeTruthy()
      }
    })

    it('takes thousands of calls on one signal, and drops them all', async () => {
      const [one, two] = [manager(), manager()]
      const warnings: Error[] = []
      const warned = (warning: Error): number => warnings.push(warning)
      process.on('warning', warned)
      onCleanup(() => process.off('warning', warned))
      const names = Array.from({ length: 10 }, () => unique())
      const locks = await Promise.all(names.map((name) => one.acquire(name, { ttlMs: 60_000 })))
      const [controller, reason] = [new AbortController(), new Error('enough')]
      const calls = Array.from({ length: 3_000 }, (_, index) =>
        rejection(
          two.acquire(names[index % 10]!, { waitMs, fair: index % 3 === 0, signal: controller.signal }),
        ),
      )
      await settle()
      controller.abort(reason)
      expect(new Set(await Promise.all(calls))).toEqual(new Set([reason]))
      await expect.poll(() => two.stats(), { timeout: 10_000 }).toMatchObject({ pending: 0, held: 0 })
      await Promise.all(locks.map((lock) => lock.release()))
      for (const name of names)
        expect(await eventually('nobody is in line', () => one.tryAcquire(name))).toBeTruthy()
      // Not those of locks that other tests have dropped.
      expect(warnings.filter(({ name }) => name !== 'FencelockWarning')).toEqual([])
    })

    it('ends with CLOSED when its manager closes', async () => {
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
      expect(await eventually('nobody is in line', () => one.tryAcquire(resource))).toBeTruthy()
    })

    it('serves fair callers in the order in which they came, whoever their manager is', async () => {
      const managers = [manager(), manager(), manager()]
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
        calls.push(call())
        await settle()
      }
      await lock.release()
      await Promise.all(calls)
      expect(served).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8])
    })

    it('lets nobody past a fair caller in line, not even to a free lock', async () => {
      const [one, two, three] = [manager(), manager(), manager()]
      for (let round = 0; round < 10; round++) {
        const resource = unique()
        const lock = await one.acquire(resource, { ttlMs: 60_000 })
        const call = two.acquire(resource, { waitMs, fair: true, ttlMs: 60_000 })
        await settle()
        const hurried = three.acquire(resource, { waitMs, ttlMs: 60_000 })
        const released = lock.release()
        const attempts = Array.from({ length: 30 }, (_, index) =>
          [one, three][index % 2]!.tryAcquire(resource),
        )
        expect(await Promise.all(attempts)).toEqual(attempts.map(() => null))
        expect(await released).toBe(true)
        const mine = await call
        await mine.release()
        // Nobody fair is left in line.
        expect((await hurried).token).toBeGreaterThan(mine.token)
      }
    })
  })

  describe('disposing and closing', () => {
    it('releases on disposal, which never rejects', async () => {
      const locks = manager()
      const lock = await locks.acquire(unique())
      await lock[Symbol.asyncDispose]()
      expect(await locks.inspect(lock.resource)).toBeNull()
      await lock[Symbol.asyncDispose]()
    })

    it('releases what it holds when it closes, and takes nothing more', async () => {
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

    it('carries out the releases that were asked for just before it closes', async () => {
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
      // The routine ends, and asks for the release of its lock, in this turn of the event loop.
      for (let steps = 0; steps < 20; steps++) await Promise.resolve()
      const closed = another.close()
      expect(await result).toBe('done')
      await closed
    })

    it('gives back what is granted while it closes', async () => {
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

  describe('bad input', () => {
    const bad: [string, unknown, unknown, string][] = [
      ['no resource', undefined, undefined, 'TypeError'],
      ['a number', 5, undefined, 'TypeError'],
      ['an empty name', '', undefined, 'RangeError'],
      ['513 bytes', 'x'.repeat(513), undefined, 'RangeError'],
      ['513 bytes of emoji', `x${'🔒'.repeat(128)}`, undefined, 'RangeError'],
      ['a lone surrogate', 'a\uD800b', undefined, 'TypeError'],
      ['no names', [], undefined, 'RangeError'],
      ['a name twice', ['a', 'b', 'a'], undefined, 'RangeError'],
      ['a wrong name among them', ['a', 7], undefined, 'TypeError'],
      // oxlint-disable-next-line no-sparse-arrays
      ['a hole among them', ['a', , 'b'], undefined, 'TypeError'],
      ['1,001 names', Array.from({ length: 1_001 }, (_, index) => `r${index}`), undefined, 'RangeError'],
      ['options that are none', 'x', 5, 'TypeError'],
      ['null for options', 'x', null, 'TypeError'],
      ['a Map for options', 'x', new Map(), 'TypeError'],
      ['a signal for options', 'x', AbortSignal.abort(), 'TypeError'],
      ['an unknown option', 'x', { ttl: 5 }, 'TypeError'],
      ['an unknown option', 'x', { waitFor: 5 }, 'TypeError'],
      ['a negative time to wait', 'x', { waitMs: -1 }, 'RangeError'],
      ['a number for fair', 'x', { fair: 1 }, 'TypeError'],
      ['an option of a later version', 'x', { fsync: true }, 'TypeError'],
      ['null for an option', 'x', { ttlMs: null }, 'TypeError'],
      ['null for renew', 'x', { renew: null }, 'TypeError'],
      ['a string for renew', 'x', { renew: 'yes' }, 'TypeError'],
      ['an unknown limit', 'x', { renew: { maxHold: 5 } }, 'TypeError'],
      ['a string for a limit', 'x', { renew: { maxHoldMs: '5' } }, 'TypeError'],
      ['a limit of nothing', 'x', { renew: { maxHoldMs: 0 } }, 'RangeError'],
      ['a limit that is no number', 'x', { renew: { maxStallMs: Number.NaN } }, 'RangeError'],
      ['a fraction for a limit', 'x', { renew: { maxStallMs: 1.5 } }, 'RangeError'],
      ['a string for a wait', 'x', { waitMs: '5' }, 'TypeError'],
      ['a negative wait', 'x', { waitMs: -1 }, 'RangeError'],
      ['a fraction of a wait', 'x', { waitMs: 0.5 }, 'RangeError'],
      ['a string for a number', 'x', { ttlMs: '5' }, 'TypeError'],
      ['NaN', 'x', { ttlMs: Number.NaN }, 'RangeError'],
      ['a fraction', 'x', { ttlMs: 10.5 }, 'RangeError'],
      ['a TTL too short', 'x', { ttlMs: 9 }, 'RangeError'],
      ['a TTL too long', 'x', { ttlMs: 86_400_001 }, 'RangeError'],
      ['a negative TTL', 'x', { ttlMs: -1 }, 'RangeError'],
      ['a number for a token', 'x', { minToken: 5 }, 'TypeError'],
      ['a negative token', 'x', { minToken: -1n }, 'RangeError'],
      ['a token too high', 'x', { minToken: 2n ** 53n - 2n ** 40n }, 'RangeError'],
      ['no signal', 'x', { signal: {} }, 'TypeError'],
    ]
    it.each(bad)('refuses %s', async (_, resource, options, name) => {
      const locks = manager()
      for (const method of ['acquire', 'tryAcquire'] as const) {
        const error = await rejection(locks[method](resource as string, options as AcquireOptions))
        expect(error).toMatchObject({ name, code: 'INVALID_OPTION' })
        expect(error instanceof TypeError || error instanceof RangeError).toBe(true)
      }
      expect(locks.stats()).toMatchObject({ granted: 0, failed: 0 })
    })

    it('suggests what was meant', async () => {
      const locks = manager()
      expect((await rejection(locks.acquire('x', { tllMs: 5 } as AcquireOptions))).message).toContain(
        '"ttlMs"',
      )
      expect((await rejection(locks.acquire('x', { mintoken: 5n } as AcquireOptions))).message).toContain(
        '"minToken"',
      )
    })

    it('refuses a TTL that no extension can have', async () => {
      const lock = await manager().acquire(unique())
      expect(await rejection(lock.extend(5))).toMatchObject({ code: 'INVALID_OPTION', name: 'RangeError' })
      expect(await rejection(lock.extend('5' as never))).toMatchObject({
        code: 'INVALID_OPTION',
        name: 'TypeError',
      })
      expect(lock.held).toBe(true)
    })
  })

  it('names the caller in the stack of an error', async () => {
    const locks = manager()
    const resource = unique()
    await locks.acquire(resource)
    async function theCaller(): Promise<void> {
      await locks.acquire(resource)
    }
    const { stack } = await rejection(theCaller())
    expect(stack).toContain('manager.js')
    // Old engines keep no stack beyond an await, whoever throws.
    async function control(): Promise<void> {
      await sleep(1)
      throw new Error('control')
    }
    async function callsControl(): Promise<void> {
      await control()
    }
    if ((await rejection(callsControl())).stack!.includes('callsControl'))
      expect(stack).toContain('theCaller')
  })
}
