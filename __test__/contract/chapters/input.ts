/** Invalid input is refused with an error of the stated class, and has no other effect. */
import type { AcquireOptions, TryOptions } from 'fencelock'
import { describe, expect, it } from 'vitest'

import { rejection, unique } from '../../fixtures/locks'
import { sleep } from '../../fixtures/temp'
import type { Chapter } from './subject'

export const inputContract: Chapter = ({ manager }) => {
  describe('invalid input', () => {
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
      ['a number for options', 'x', 5, 'TypeError'],
      ['null for options', 'x', null, 'TypeError'],
      ['a Map for options', 'x', new Map(), 'TypeError'],
      ['a signal for options', 'x', AbortSignal.abort(), 'TypeError'],
      ['an unknown option', 'x', { ttl: 5 }, 'TypeError'],
      ['an unknown option', 'x', { waitFor: 5 }, 'TypeError'],
      ['a negative time for a wait', 'x', { waitMs: -1 }, 'RangeError'],
      ['a number for fair', 'x', { fair: 1 }, 'TypeError'],
      ['an option of a later version', 'x', { permits: 5 }, 'TypeError'],
      ['a negative minimum', 'x', { minHoldMs: -1 }, 'RangeError'],
      ['a minimum of more than a day', 'x', { minHoldMs: 86_400_001 }, 'RangeError'],
      ['a string for a minimum', 'x', { minHoldMs: '5' }, 'TypeError'],
      ['null for an option', 'x', { ttlMs: null }, 'TypeError'],
      ['null for renew', 'x', { renew: null }, 'TypeError'],
      ['a string for renew', 'x', { renew: 'yes' }, 'TypeError'],
      ['an unknown limit', 'x', { renew: { maxHold: 5 } }, 'TypeError'],
      ['a string for a limit', 'x', { renew: { maxHoldMs: '5' } }, 'TypeError'],
      ['a limit of zero', 'x', { renew: { maxHoldMs: 0 } }, 'RangeError'],
      ['a limit that is not a number', 'x', { renew: { maxStallMs: Number.NaN } }, 'RangeError'],
      ['a fraction for a limit', 'x', { renew: { maxStallMs: 1.5 } }, 'RangeError'],
      ['a string for a wait', 'x', { waitMs: '5' }, 'TypeError'],
      ['a negative wait', 'x', { waitMs: -1 }, 'RangeError'],
      ['a fraction for a wait', 'x', { waitMs: 0.5 }, 'RangeError'],
      ['a string for a number', 'x', { ttlMs: '5' }, 'TypeError'],
      ['NaN', 'x', { ttlMs: Number.NaN }, 'RangeError'],
      ['a fraction', 'x', { ttlMs: 10.5 }, 'RangeError'],
      ['a TTL too short', 'x', { ttlMs: 9 }, 'RangeError'],
      ['a TTL too long', 'x', { ttlMs: 86_400_001 }, 'RangeError'],
      ['a negative TTL', 'x', { ttlMs: -1 }, 'RangeError'],
      ['a number for a token', 'x', { minToken: 5 }, 'TypeError'],
      ['a negative token', 'x', { minToken: -1n }, 'RangeError'],
      ['a token too high', 'x', { minToken: 2n ** 53n - 2n ** 40n }, 'RangeError'],
      ['an object that is not a signal', 'x', { signal: {} }, 'TypeError'],
    ]
    it.each(bad)('refuses %s', async (_, resource, options, name) => {
      const locks = manager()
      for (const method of ['acquire', 'tryAcquire'] as const) {
        const error = await rejection(locks[method](resource as string, options as TryOptions))
        expect(error).toMatchObject({ name, code: 'INVALID_OPTION' })
        expect(error instanceof TypeError || error instanceof RangeError).toBe(true)
      }
      expect(locks.stats()).toMatchObject({ granted: 0, failed: 0 })
    })

    it('refuses a wait for a single attempt, which would not wait', async () => {
      const locks = manager()
      const resource = unique()
      const error = await rejection(locks.tryAcquire(resource, { waitMs: 5 } as never))
      expect(error).toMatchObject({ name: 'RangeError', code: 'INVALID_OPTION' })
      expect(error.message).toMatch(/single attempt.*acquire… methods wait/)
      const lock = await locks.tryAcquire(resource, { waitMs: 0 })
      expect(await locks.tryAcquire(resource)).toBeNull()
      await lock?.release()
    })

    it('reads the length of an array once: a Proxy may answer another one each time', async () => {
      const names = Array.from({ length: 1_500 }, (_, index) => `r${index}`)
      let reads = 0
      const liar = new Proxy(names, {
        get: (target, key) => (key === 'length' && reads++ < 2 ? 1 : (Reflect.get(target, key) as unknown)),
      })
      const lock = await manager().acquire(liar)
      expect(lock.resources).toEqual(['r0'])
      await lock.release()
    })

    it('suggests the option that was meant', async () => {
      const locks = manager()
      expect((await rejection(locks.acquire('x', { tllMs: 5 } as AcquireOptions))).message).toContain(
        '"ttlMs"',
      )
      expect((await rejection(locks.acquire('x', { mintoken: 5n } as AcquireOptions))).message).toContain(
        '"minToken"',
      )
    })

    it('refuses an invalid TTL for an extension', async () => {
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
    expect(stack).toContain('acquire.js')
    // Old engines lose the stack at an await, whatever throws: the control shows whether this one does.
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
