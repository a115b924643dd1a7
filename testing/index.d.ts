/**
 * What happens to locks in life, on purpose: tests of how a program copes with a lock that is held, lost,
 * slow or unknown. For vitest, jest, node:test, bun:test and any other runner; it needs no server and no
 * mocks. Use it with `new LockManager({ local: ':memory:' })`, or with any other manager.
 *
 * Nothing here asks a clock that fake timers replace.
 *
 * @packageDocumentation
 */

import type { Lock, LockErrorCode, LockManager, Strategy } from '../index.js'

/**
 * Takes the lease away from its holder, as another owner, a forced release or a backend that lost its data
 * would. The lock is no longer {@link Lock.held} when this returns. When the promise settles,
 * {@link Lock.signal} has aborted, and others can get the lock; `extend` rejects with a `LockLostError`,
 * `release` resolves to `false`, and `withLock` and `elect` act as after any loss.
 *
 * It ends the stored lease by force, whatever the strategy. If that fails, it rejects; the lock is lost all
 * the same.
 * @param reason appears in the message of the `LockLostError`
 * @returns whether the lock was held until now
 * @example
 * const work = locks.withLock('job', async (lock) => {
 *   await lose(lock)
 *   lock.signal.throwIfAborted()
 * })
 * await assert.rejects(work, { code: 'LOCK_LOST' })
 */
export function lose(lock: Lock, reason?: string): Promise<boolean>

/**
 * Ends the lease of a resource now, as if its time to live had run out. A lock of this manager ends as in
 * {@link lose}, with all its resources and the message of a lease that expired. The holder of another manager
 * finds out as after `forceRelease`.
 * @returns whether the resource was held
 * @example
 * const lock = await locks.acquire('job', { ttlMs: 60_000 })
 * await expire(locks, 'job')
 * assert.equal(lock.held, false)
 */
export function expire(
  locks: LockManager,
  resource: string,
  options?: { strategy?: Strategy | undefined },
): Promise<boolean>

/** The options of {@link hold}. */
export interface HoldOptions {
  /** The strategy of the locks. Default: that of the manager. */
  strategy?: Strategy | undefined
  /**
   * After how many milliseconds the lease ends by itself. Without it, it is renewed until it is released.
   * @default renewed
   */
  ttlMs?: number | undefined
}

/**
 * Another owner holds the resource, or all of several, until the lock that this resolves to is released, or
 * the manager is closed, which does not wait for it. Neither {@link fail} nor {@link delay} concerns it, but
 * `locks.stats()` counts it.
 * @example
 * const held = await hold(locks, 'job')
 * assert.equal(await locks.tryAcquire('job'), null)
 * await held.release()
 */
export function hold(
  locks: LockManager,
  resource: string | readonly string[],
  options?: HoldOptions,
): Promise<Lock>

/** The codes that {@link fail} makes an error of: those of acquires. */
export type FailureCode = Exclude<LockErrorCode, 'STALE_TOKEN'>

/** The options of {@link fail}. */
export interface FailOptions {
  /**
   * How many acquires fail: an integer from 1, or `Infinity`.
   * @default 1
   */
  times?: number | undefined
}

/** What {@link fail} and {@link delay} do, until it is stopped. */
export interface Interference extends Disposable {
  /** From now on acquires are as before. Those that are delayed already stay so. */
  stop(): void
}

/**
 * The next acquires of the resource fail, alone or among several, and grant nothing. That goes for
 * every method that acquires, `withLock`, `elect` and the synchronous one among them. With the code
 * `'LOCK_HELD'`, those that try resolve to `null`.
 * @param problem an error, or the code of the one that fencelock itself would make
 * @example
 * fail(locks, 'job', 'OUTCOME_UNKNOWN')
 * await assert.rejects(locks.acquire('job'), { code: 'OUTCOME_UNKNOWN' })
 * await locks.acquire('job')
 */
export function fail(
  locks: LockManager,
  resource: string,
  problem: FailureCode | Error,
  options?: FailOptions,
): Interference

/**
 * All acquires of this manager take that many milliseconds longer, of real time, as with a backend that is
 * slow to answer. The `signal` of a call and `close()` end the delay as they end a wait. The synchronous
 * method is not delayed.
 * @param ms an integer from 1
 * @example
 * const slow = delay(locks, 50)
 * await assert.rejects(locks.acquire('job', { signal: AbortSignal.timeout(10) }), { name: 'TimeoutError' })
 * slow.stop()
 */
export function delay(locks: LockManager, ms: number): Interference
