/** Code under test with timers that a test advances, as docs/guide/testing.md shows it. */
import { LockManager } from 'fencelock'
import { expire } from 'fencelock/testing'
import { afterEach, beforeEach, expect, it, vi } from 'vitest'

let locks: LockManager
beforeEach(() => {
  locks = new LockManager({ local: ':memory:' })
  vi.useFakeTimers()
})
afterEach(async () => {
  vi.useRealTimers()
  await locks.close({ drainMs: 0 })
})

it('timers of the work fire when they are advanced after it has begun', async () => {
  let begin = (): void => {}
  const begun = new Promise<void>((resolve) => (begin = resolve))
  const outcome = locks.withLock('report', async () => {
    const minute = new Promise((resolve) => setTimeout(resolve, 60_000))
    begin()
    await minute
    return 'done'
  })
  // Synchronous, so that the grant cannot come in between: there is no timer yet, and this fires none.
  vi.advanceTimersByTime(60_000)
  await begun
  expect(vi.getTimerCount()).toBe(1)
  await vi.advanceTimersByTimeAsync(60_000)
  expect(await outcome).toBe('done')
})

it('a minimum hold lasts in real time, and is ended between fake ticks', async () => {
  let runs = 0
  let ticked = Promise.resolve()
  const tick = async (): Promise<void> => {
    const lock = await locks.tryAcquire('job', { minHoldMs: 30_000 })
    if (lock === null) return
    runs++
    await lock.release()
  }
  const ticks = setInterval(() => {
    ticked = tick()
  }, 60_000)
  const nextTick = async (): Promise<void> => {
    await vi.advanceTimersByTimeAsync(60_000)
    await ticked
  }
  await nextTick()
  await nextTick()
  expect(runs).toBe(1)
  await expire(locks, 'job')
  await nextTick()
  expect(runs).toBe(2)
  clearInterval(ticks)
})
