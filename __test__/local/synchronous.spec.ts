/** Local locks on the calling thread: the synchronous calls, and how they mix with asynchronous ones. */
import { LockManager } from 'fencelock'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'

import { closing, unique } from '../fixtures/locks'
import { tempDir } from '../fixtures/temp'

const manager = (local: string): LockManager => closing(new LockManager({ local }))

describe('on the calling thread', () => {
  it('acquires and releases', async () => {
    const path = join(tempDir(), 'locks.sqlite')
    const [one, two] = [manager(path), manager(path)]
    const resource = unique()
    const lock = one.tryAcquireLocalSync(resource, { ttlMs: 5_000 })!
    expect(lock).toMatchObject({ resource, resources: [resource], strategy: 'local', held: true, acks: null })
    expect(lock.owner).toMatch(/^[0-9a-f]{32}$/)
    expect(two.tryAcquireLocalSync(resource)).toBeNull()
    expect(await two.tryAcquireLocal(resource)).toBeNull()
    expect(await two.inspect(resource)).toMatchObject({ owner: lock.owner, token: lock.token })
    await lock.extend(20_000)
    expect(lock.remainingMs).toBeGreaterThan(15_000)
    expect(lock.releaseSync()).toBe(true)
    expect(lock.held).toBe(false)
    expect(lock.releaseSync()).toBe(false)
    expect(await lock.release()).toBe(true)
    const next = two.tryAcquireLocalSync([resource, unique()])!
    expect(next.token).toBeGreaterThan(lock.token)
    expect(await next.release()).toBe(true)
    expect(next.releaseSync()).toBe(false)
  })

  it('disposes', () => {
    const locks = manager(join(tempDir(), 'locks.sqlite'))
    const lock = locks.tryAcquireLocalSync('x')!
    lock[Symbol.dispose]()
    lock[Symbol.dispose]()
    expect(locks.tryAcquireLocalSync('x')).not.toBeNull()
  })

  it('throws what the asynchronous calls reject with', async () => {
    const locks = manager(join(tempDir(), 'missing', 'locks.sqlite'))
    expect(() => locks.tryAcquireLocalSync('x')).toThrow(
      expect.objectContaining({ code: 'BACKEND_UNAVAILABLE', resource: 'x', strategy: 'local' }),
    )
    expect(() => locks.tryAcquireLocalSync('')).toThrow(RangeError)
    const reason = new Error('no')
    expect(() => locks.tryAcquireLocalSync('x', { signal: AbortSignal.abort(reason) })).toThrow(reason)
    await locks.close()
    expect(() => locks.tryAcquireLocalSync('x')).toThrow(expect.objectContaining({ code: 'CLOSED' }))
  })

  it('mixes with asynchronous calls in flight', async () => {
    const locks = manager(join(tempDir(), 'locks.sqlite'))
    const calls = Array.from({ length: 100 }, (_, index) => locks.tryAcquireLocal(`r${index}`))
    const sync = Array.from({ length: 100 }, (_, index) => locks.tryAcquireLocalSync(`r${index}`))
    const async = await Promise.all(calls)
    for (let index = 0; index < 100; index++)
      expect([sync[index], async[index]].filter((lock) => lock !== null)).toHaveLength(1)
  })
})
