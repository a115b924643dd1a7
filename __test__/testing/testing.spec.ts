/** `fencelock/testing`: each of its functions, on the strategies that a program may use. */
import { LockLostError, LockManager, type Lock, type ManagerOptions } from 'fencelock'
import * as testing from 'fencelock/testing'
import { delay, expire, fail, hold, lose } from 'fencelock/testing'
import { createRequire } from 'node:module'
import { afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest'

import { collectGarbage } from '../fixtures/leaks'
import { closing, fencelockWarnings, rejection, unique } from '../fixtures/locks'
import { variants } from '../fixtures/strategies'
import { eventually, sleep } from '../fixtures/temp'

const chosen = variants.filter(({ name }) =>
  ['strong', 'quorum of 3', 'local', 'local, in memory'].includes(name),
)

describe.each(chosen)('losing and holding: $name', ({ strategy, isShared, start }) => {
  let options: ManagerOptions
  beforeAll(async () => {
    options = await start()
  })
  let locks: LockManager
  let other: LockManager
  beforeEach(() => {
    locks = closing(new LockManager(options))
    other = isShared ? closing(new LockManager(options)) : locks
  })

  /** What every holder sees of a loss. */
  async function expectLost(lock: Lock, message: RegExp): Promise<void> {
    expect([lock.held, lock.remainingMs]).toEqual([false, 0])
    expect(lock.signal.aborted).toBe(true)
    expect(lock.signal.reason).toBeInstanceOf(LockLostError)
    expect(lock.signal.reason).toMatchObject({ code: 'LOCK_LOST', resource: lock.resource, strategy })
    expect((lock.signal.reason as Error).message).toMatch(message)
    expect(await rejection(lock.extend())).toMatchObject({ code: 'LOCK_LOST' })
    expect(await lock.release()).toBe(false)
  }

  it.each([false, true])('takes a lease away from its holder, renewed: %s', async (renew) => {
    const [a, b] = [unique('a'), unique('b')]
    for (const names of [a, [a, b]]) {
      const lock = await locks.acquire(names, { ttlMs: 60_000, renew })
      const { signal } = lock
      const lost = lose(lock, 'the server lost its data')
      expect([lock.held, lock.remainingMs]).toEqual([false, 0])
      expect(await lost).toBe(true)
      expect(signal.aborted).toBe(true)
      await expectLost(lock, /is lost: the server lost its data\. Stop working/)
      expect(await lose(lock)).toBe(false)
      const next = await other.acquire([a, b])
      expect(next.token).toBeGreaterThan(lock.token)
      expect(await lose(lock)).toBe(false)
      expect(next.held && (await other.inspect(a))?.owner === next.owner).toBe(true)
      await next.release()
    }
    expect(locks.stats()).toMatchObject({ held: 0 })
  })

  it('tells a holder that reads its signal only then', async () => {
    const lock = await locks.acquire(unique())
    await lose(lock)
    await expectLost(lock, /a test took it away/)
  })

  it('ends a lease as if its time had run out', async () => {
    const [a, b] = [unique('a'), unique('b')]
    const lock = await locks.acquire([a, b], { ttlMs: 60_000, renew: true })
    const { signal } = lock
    expect(await expire(locks, b)).toBe(true)
    expect(signal.aborted).toBe(true)
    expect(await expire(locks, b)).toBe(false)
    await expectLost(lock, /the lease ended \d+ ms before this was reported: it was not renewed in time/)
    const unwatched = await other.acquire([a, b], { ttlMs: 60_000 })
    expect(await expire(other, a, { strategy })).toBe(true)
    await expectLost(
      unwatched,
      /the lease ended \d+ ms before this was reported: it was not extended in time/,
    )
    expect(await other.inspect(b)).toBeNull()
  })

  it.runIf(isShared)('ends a lease of another manager, which finds out by itself', async () => {
    const lock = await other.acquire(unique(), { ttlMs: 60_000 })
    expect(await expire(locks, lock.resource)).toBe(true)
    expect(await locks.inspect(lock.resource)).toBeNull()
    expect(lock.held).toBe(true)
    expect(await rejection(lock.extend())).toMatchObject({ code: 'LOCK_LOST' })
  })

  it('wakes those that wait', async () => {
    for (const fair of [false, true]) {
      for (const end of [lose, (lock: Lock) => expire(locks, lock.resource)]) {
        const lock = await locks.acquire(unique(), { ttlMs: 60_000 })
        const waiting = other.acquire(lock.resource, { waitMs: 20_000, fair })
        await eventually('it waits', () => other.stats().waiting === 1)
        await end(lock)
        expect((await waiting).held).toBe(true)
      }
    }
  })

  it('has withLock and elect act as after any loss', async () => {
    const resource = unique()
    const lost = await rejection<LockLostError>(
      locks.withLock(resource, async (lock) => {
        await lose(lock, 'by the test')
        return 'written'
      }),
    )
    expect(lost).toMatchObject({ code: 'LOCK_LOST', result: 'written' })
    expect(lost.message).toContain('by the test')
    let terms = 0
    await locks.elect(resource, async (lock) => {
      if (++terms === 2) return
      await lose(lock)
      lock.signal.throwIfAborted()
    })
    expect(terms).toBe(2)
  })

  it('holds a resource for another owner until it is released, or its time is over', async () => {
    const [a, b] = [unique('a'), unique('b')]
    const held = await hold(locks, [a, b], { strategy })
    expect(await locks.tryAcquire(a)).toBeNull()
    expect(await rejection(locks.acquire(b))).toMatchObject({ code: 'LOCK_HELD' })
    const waiting = locks.acquire(a, { waitMs: 20_000 })
    await eventually('it waits', () => locks.stats().waiting === 1)
    expect(await held.release()).toBe(true)
    expect((await waiting).held).toBe(true)
    const began = performance.now()
    // Replicas have half of it for their acknowledgements.
    const ttlMs = strategy === 'strong' ? 4_000 : 2_000
    await hold(locks, b, { ttlMs })
    expect((await locks.acquire(b, { waitMs: 20_000 })).held).toBe(true)
    expect(performance.now() - began).toBeGreaterThan(ttlMs - 5)
  })
})

describe('with a manager in memory', () => {
  let locks: LockManager
  beforeEach(() => {
    locks = new LockManager({ local: ':memory:' })
  })
  afterEach(() => locks.close({ drainMs: 0 }))

  it('closes without waiting for another owner, and warns of nothing', async () => {
    const warnings = fencelockWarnings()
    await hold(locks, 'r', { ttlMs: 60_000 })
    collectGarbage()
    await sleep(20)
    collectGarbage()
    const began = performance.now()
    await locks.close()
    // It would wait for four seconds.
    expect(performance.now() - began).toBeLessThan(3_000)
    await sleep(20)
    expect(warnings).toEqual([])
  })

  it.each([
    ['LOCK_HELD', 'LockHeldError'],
    ['INSUFFICIENT_REPLICAS', 'InsufficientReplicasError'],
    ['OUTCOME_UNKNOWN', 'OutcomeUnknownError'],
    ['LOCK_LOST', 'LockLostError'],
    ['BACKEND_UNAVAILABLE', 'BackendUnavailableError'],
    ['UNSUPPORTED', 'UnsupportedError'],
    ['CLOSED', 'ClosedError'],
  ] as const)('has an acquire fail with %s', async (code, name) => {
    fail(locks, 'r', code)
    const fields = { code, name, resource: 'r', strategy: 'local' }
    expect(await rejection(locks.acquire(['a', 'r']))).toMatchObject(fields)
    expect(await locks.inspect('a')).toBeNull()
    expect((await locks.acquire('r')).held).toBe(true)
  })

  it('has acquires fail with an error, as often as is asked for, whatever method is called', async () => {
    const error = new TypeError('from the test')
    const failing = fail(locks, 'r', error, { times: 6 })
    const routine = () => expect.unreachable()
    const calls = [
      () => locks.acquire('r'),
      () => locks.tryAcquire('r'),
      () => locks.acquireLocal('r'),
      () => locks.withLock('r', routine),
      () => locks.elect('r', routine),
    ]
    for (const call of calls) expect(await rejection<unknown>(call())).toBe(error)
    expect((await locks.acquire('other')).held).toBe(true)
    expect(() => locks.tryAcquireLocalSync('r')).toThrow(error)
    expect((await locks.tryAcquire('r'))!.held).toBe(true)
    failing.stop()
    const always = fail(locks, 's', 'LOCK_HELD', { times: Infinity })
    expect(await locks.tryAcquire('s')).toBeNull()
    expect(locks.tryAcquireLocalSync('s')).toBeNull()
    expect(await rejection(locks.acquire('s', { waitMs: 5 }))).toMatchObject({ code: 'LOCK_HELD' })
    always[Symbol.dispose]()
    expect((await locks.tryAcquire('s'))!.held).toBe(true)
  })

  it('has nothing to do with another manager, and leaves its own as it was', async () => {
    const { internalsOf } = createRequire(import.meta.url)('../../lib/lock-manager.js') as {
      internalsOf: (of: LockManager) => { acquirer: object }
    }
    const { acquirer } = internalsOf(locks)
    const another = closing(new LockManager({ local: ':memory:' }))
    const [failing, slow] = [fail(locks, 'r', 'CLOSED'), delay(locks, 5)]
    expect(Object.keys(acquirer)).toEqual(['acquire', 'attemptSync'])
    expect(Object.keys(internalsOf(another).acquirer)).toEqual([])
    expect((await another.acquire('r')).held).toBe(true)
    failing.stop()
    slow.stop()
    expect(Object.keys(acquirer)).toEqual([])
  })

  it('delays acquires, until their signal aborts or the manager closes', async () => {
    const slow = delay(locks, 60)
    const began = performance.now()
    expect((await locks.acquire('r')).held).toBe(true)
    expect(performance.now() - began).toBeGreaterThan(58)
    slow.stop()
    delay(locks, 60_000)
    expect(await rejection(locks.acquire('s', { signal: AbortSignal.timeout(10) }))).toMatchObject({
      name: 'TimeoutError',
    })
    const aborted = AbortSignal.abort()
    expect(await rejection<unknown>(locks.acquire('s', { signal: aborted }))).toBe(aborted.reason)
    const held = await hold(locks, 's')
    await held.release()
    const late = rejection(locks.acquire('s'))
    await locks.close({ drainMs: 0 })
    expect(await late).toMatchObject({ code: 'CLOSED' })
    expect(performance.now() - began).toBeLessThan(10_000)
  })

  it('needs no clock that a test replaces', async () => {
    vi.useFakeTimers()
    try {
      delay(locks, 20)
      const lock = await locks.acquire('r', { ttlMs: 20_000 })
      await vi.advanceTimersByTimeAsync(60_000)
      expect(lock.held).toBe(true)
      await expire(locks, 'r')
      expect(lock.signal.aborted).toBe(true)
    } finally {
      vi.useRealTimers()
    }
  })

  it('works through proxies of managers and locks', async () => {
    const proxy = new Proxy(locks, {})
    const lock = await proxy.acquire('r')
    expect(await lose(new Proxy(lock, {}))).toBe(true)
    const held = await hold(proxy, 'r')
    expect(await expire(proxy, 'r')).toBe(true)
    expect(held.held).toBe(false)
  })

  it('refuses what is no manager, no lock, or no such option', async () => {
    const lock = await locks.acquire('r')
    const refused: [() => unknown, RegExp][] = [
      [() => lose({} as Lock), /lock must be a lock of acquire/],
      [() => lose(null as unknown as Lock), /lock must be/],
      [() => lose(lock, 5 as never), /reason must be a string/],
      [() => expire({} as LockManager, 'r'), /locks must be a LockManager, of the same copy/],
      [() => expire(locks, ''), /resource/],
      [() => expire(locks, 'r', { strategy: 'x' as never }), /strategy/],
      [() => hold(undefined as never, 'r'), /locks must be/],
      [() => hold(locks, 'x', { ttl: 5 } as never), /did you mean "ttlMs"/],
      [() => hold(locks, 'x', { ttlMs: 5 }), /ttlMs/],
      [() => fail(locks, 'r', 'STALE_TOKEN' as never), /problem must be/],
      // LOCK_LOST has nearly the same letters, and is not meant.
      [() => fail(locks, 'r', 'LOCK_BUSY' as never), /got another string/],
      [() => fail(locks, 'r', 'LOCK_HEDL' as never), /did you mean "LOCK_HELD"/],
      [() => fail(locks, 'r', {} as never), /problem must be an error/],
      [() => fail(locks, 'r', 'CLOSED', { times: 0 }), /times/],
      [() => fail(locks, [] as never, 'CLOSED'), /resource/],
      [() => delay(locks, 0), /ms must be/],
      [() => delay({} as LockManager, 5), /locks must be/],
    ]
    for (const [call, message] of refused) {
      const error = await rejection(Promise.resolve().then(call))
      expect(error).toMatchObject({ code: 'INVALID_OPTION', message: expect.stringMatching(message) })
    }
    expect(lock.held).toBe(true)
    expect(await rejection(hold(locks, 'r'))).toMatchObject({ code: 'LOCK_HELD' })
  })

  it('exports nothing else', () => {
    expect(Object.keys(testing).filter((name) => name !== 'default')).toEqual([
      'delay',
      'expire',
      'fail',
      'hold',
      'lose',
    ])
  })
})
