/** How the facade handles results that the addon hardly ever returns. */
import { LockLostError, LockManager } from 'fencelock'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { beforeAll, describe, expect, it, vi } from 'vitest'

import { closing, rejection, unique } from '../fixtures/locks'
import { startPrimary, type Deployment } from '../fixtures/servers/redis'
import { tempDir } from '../fixtures/temp'

type Native = Record<'call' | 'watch', (...args: unknown[]) => unknown>
const { prototype: native } = (
  createRequire(import.meta.url)('../../lib/native/load.js') as { NativeManager: { prototype: Native } }
).NativeManager

let redis: Deployment
beforeAll(async () => {
  redis = await startPrimary()
})

const local = (): LockManager => closing(new LockManager({ local: join(tempDir(), 'locks.sqlite') }))
const strong = (options = {}): LockManager => closing(new LockManager({ redis: redis.url, ...options }))

describe('a call that the addon does not accept', () => {
  it('rejects, and no other call is settled instead of it', async () => {
    const locks = local()
    const defect = new Error('no such argument')
    const call = vi.spyOn(native, 'call').mockImplementation(() => {
      throw defect
    })
    const { signal } = new AbortController()
    expect(await rejection(locks.acquireLocal(unique()))).toBe(defect)
    expect(await rejection(locks.acquireLocal(unique(), { signal }))).toBe(defect)
    call.mockRestore()
    const names = Array.from({ length: 5 }, () => unique())
    const held = await Promise.all(names.map((name) => locks.acquireLocal(name, { signal })))
    expect(held.map((lock) => lock.resource)).toEqual(names)
  })

  it('is the only one to reject if the calls before it can be handed over later', async () => {
    const locks = local()
    const defect = new Error('not now')
    const refuse = () => {
      throw defect
    }
    // The first is handed over at once or with the others; 17 are one more than a batch.
    const call = vi.spyOn(native, 'call').mockImplementationOnce(refuse).mockImplementationOnce(refuse)
    const names = Array.from({ length: 17 }, () => unique())
    const outcomes = await Promise.allSettled(names.map((name) => locks.acquireLocal(name)))
    call.mockRestore()
    expect(outcomes.pop()).toEqual({ status: 'rejected', reason: defect })
    expect(outcomes.map(({ status }) => status)).toEqual(Array.from({ length: 16 }, () => 'fulfilled'))
  })

  it('rejects although the addon settles it after all, and no other call is settled instead of it', async () => {
    const locks = local()
    const defect = new Error('panicked')
    const { call } = native
    const spy = vi.spyOn(native, 'call').mockImplementation(function (this: unknown, ...args) {
      call.apply(this, args)
      throw defect
    })
    const lost = rejection(locks.acquireLocal(unique()))
    await lost
    spy.mockRestore()
    const resource = unique()
    const lock = await locks.acquireLocal(resource)
    expect(await locks.inspect(resource)).toMatchObject({ owner: lock.owner, token: lock.token })
    expect(await lost).toBe(defect)
  })
})

describe('calls that are handed over when hardly any stack is left', () => {
  it('are handed over once', async () => {
    const locks = local()
    // The first call of an event-loop turn is not batched.
    const batch = () => [locks.tryAcquireLocal(unique()), locks.tryAcquireLocal(unique())]
    await Promise.all(batch())
    // Frames of different sizes run out of stack in different places.
    for (let size = 0; size < 40; size++) {
      const before = locks.stats().granted
      const calls = batch()
      let reached = false
      const fall = (...frame: number[]): void => {
        try {
          fall(...frame)
        } catch (error) {
          if (reached) throw error
          try {
            locks.stats()
            reached = true
          } catch {
            // Not even that much stack is left.
          }
          throw error
        }
      }
      expect(() => fall(...Array.from({ length: size }, () => 0))).toThrow(RangeError)
      await Promise.all(calls)
      expect(reached).toBe(true)
      // Another call, so that calls handed over with it have ended, too.
      await locks.inspect(unique())
      expect(locks.stats().granted).toBe(before + 2)
    }
  })
})

describe('the signal of a lease that cannot be watched', () => {
  it('has aborted, and gives the reason', async () => {
    const lock = await local().acquireLocal(unique(), { ttlMs: 60_000 })
    vi.spyOn(native, 'watch').mockReturnValue({
      code: 'BACKEND_UNAVAILABLE',
      message: 'no thread could be started; raise the limit of threads',
      cause: 'EAGAIN',
    })
    const { reason } = lock.signal as { reason: LockLostError }
    expect(lock.signal.aborted).toBe(true)
    expect(reason).toBeInstanceOf(LockLostError)
    expect(reason.message).toContain('no thread could be started')
    expect(reason.message).not.toContain('has ended')
    expect(reason.cause).toMatchObject({ message: 'EAGAIN' })
    expect(lock.held).toBe(true)
    expect(await lock.release()).toBe(true)
  })
})

it('reports a lock without a TTL as one without an end', async () => {
  const locks = strong()
  const resource = unique()
  await redis.primary.cmd('SET', `fencelock:{${resource}}:lock`, 'a stranger')
  const info = await locks.inspect(resource)
  expect(info).toMatchObject({ owner: 'a stranger', token: 0n, remainingMs: Infinity })
  expect(JSON.parse(JSON.stringify(info))).toMatchObject({ remainingMs: null })
})

it('warns of a manager whose acquires request no acknowledgements', async () => {
  const { acks, warnings } = await strong({ defaults: { acks: 0 } }).describe()
  expect(acks).toBe(0)
  expect(warnings.join()).toMatch(/without proof by default.*2 declared.*acks: 'all'/)
  const proven = await strong({ defaults: { acks: 1 } }).describe()
  expect(proven.warnings.join()).not.toContain('without proof')
  const development = strong({ redis: { url: redis.url, replicas: 0 } })
  expect((await development.describe()).warnings.join()).not.toContain('without proof')
})
