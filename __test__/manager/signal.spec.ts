/** Signals: those that callers pass, and that of a lock. */
import { LockManager } from 'fencelock'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'

import { closing, unique } from '../fixtures/locks'
import { runCode } from '../fixtures/processes/processes'
import { eventually, tempDir } from '../fixtures/temp'

const manager = (): LockManager => closing(new LockManager({ local: join(tempDir(), 'locks.sqlite') }))

/** A signal of a library, or of an old platform. */
function foreign(members: Partial<Record<keyof AbortSignal, unknown>>): AbortSignal {
  const none = { aborted: false, addEventListener: () => {}, removeEventListener: () => {} }
  return { ...none, ...members } as unknown as AbortSignal
}

const fail = (): never => {
  throw new Error('no listeners today')
}

describe('a signal that cannot be listened to', () => {
  it('rejects the call, and nothing is granted', async () => {
    const locks = manager()
    const resource = unique()
    const call = locks.acquireLocal(resource, { signal: foreign({ addEventListener: fail }), renew: true })
    await expect(call).rejects.toThrow('no listeners today')
    expect(await locks.inspect(resource)).toBeNull()
    expect(locks.stats()).toMatchObject({ held: 0, granted: 0 })
  })

  it('does not make later calls deaf', async () => {
    const locks = manager()
    const lock = await locks.acquireLocal('held')
    const controller = new AbortController()
    const { signal } = controller
    const listen = signal.addEventListener.bind(signal)
    let times = 0
    signal.addEventListener = (...args: Parameters<typeof listen>) =>
      times++ === 0 ? fail() : listen(...args)
    await expect(locks.acquireLocal('held', { signal, waitMs: 60_000 })).rejects.toThrow('no listeners')
    const second = locks.acquireLocal('held', { signal, waitMs: 20_000 }).catch((error: unknown) => error)
    await eventually('it waits', () => locks.stats().waiting === 1)
    const reason = new Error('enough')
    controller.abort(reason)
    expect(await second).toBe(reason)
    await lock.release()
  })

  it('that fails when it is left costs nothing', async () => {
    const locks = manager()
    const calls = ['a', 'b', 'c'].map((name) =>
      locks.acquireLocal(name, { signal: foreign({ removeEventListener: fail }) }),
    )
    expect((await Promise.all(calls)).map((lock) => lock.held)).toEqual([true, true, true])
  })
})

describe('a signal without a reason', () => {
  const AbortError = { name: 'AbortError', code: 20 }

  it('that has aborted rejects with an AbortError', async () => {
    const locks = manager()
    const signal = foreign({ aborted: true })
    await expect(locks.acquireLocal('a', { signal })).rejects.toMatchObject(AbortError)
    await expect(locks.withLock('a', { signal }, () => {})).rejects.toMatchObject(AbortError)
    expect(() => locks.tryAcquireLocalSync('a', { signal })).toThrow(expect.objectContaining(AbortError))
  })

  it('that aborts during the wait rejects with an AbortError', async () => {
    const locks = manager()
    const lock = await locks.acquireLocal('a')
    let abort: () => void = fail
    const signal = foreign({ addEventListener: (_: string, listener: () => void) => (abort = listener) })
    const call = locks.acquireLocal('a', { signal, waitMs: 60_000 }).catch((error: unknown) => error)
    await eventually('it waits', () => locks.stats().waiting === 1)
    abort()
    const error = await call
    expect(error).toBeInstanceOf(DOMException)
    expect(error).toMatchObject(AbortError)
    await lock.release()
  })

  it('that aborts while it is asked to report that is heard', async () => {
    const locks = manager()
    const signal = foreign({ addEventListener: (_: string, listener: () => void) => listener() })
    const resource = unique()
    await expect(locks.acquireLocal(resource, { signal })).rejects.toMatchObject(AbortError)
    expect(await locks.inspect(resource)).toBeNull()
  })

  it('is not one with a reason that is null', async () => {
    const signal = AbortSignal.abort(null)
    expect(
      await manager()
        .acquireLocal('a', { signal })
        .catch((error: unknown) => error),
    ).toBeNull()
  })
})

it('little stack leaves no lease without a holder', async () => {
  const path = join(tempDir(), 'locks.sqlite')
  const ending = await runCode(
    `const { LockManager } = await import('fencelock')
     const locks = new LockManager({ local: ${JSON.stringify(path)} })
     await (await locks.acquireLocal('warm')).release()
     const controller = new AbortController()
     const calls = []
     // So deep, \`then\` itself may fail, and leaves a rejected promise alone. Bun 1.2 ends with it.
     process.on('unhandledRejection', (error) => {
       if (!(error instanceof RangeError)) throw error
     })
     let asked = 0
     const down = () => {
       try { down() } catch {}
       if (asked === 200) return
       try {
         const call = locks.acquireLocal('x' + asked++, { signal: controller.signal, ttlMs: 400, renew: true })
         calls.push(call.then((lock) => lock.release(), () => {}))
       } catch {}
     }
     down()
     await Promise.all(calls)
     await new Promise((resolve) => setTimeout(resolve, 700))
     const held = []
     for (let i = 0; i < asked; i++) if (await locks.inspect('x' + i)) held.push(i)
     globalThis.kept = await locks.acquireLocal('held', { ttlMs: 60_000 })
     const second = locks.acquireLocal('held', { signal: controller.signal, waitMs: 20_000 }).catch((error) => error)
     await new Promise((resolve) => setTimeout(resolve, 20))
     controller.abort('enough')
     say({ asked, held, heard: await second })
     await locks.close({ drainMs: 0 })`,
  )
  expect(ending).toMatchObject({ code: 0, signal: null })
  expect(JSON.parse(ending.stdout)).toEqual({ asked: 200, held: [], heard: 'enough' })
})

it('listeners of a lock’s signal run in the context in which it was read', async () => {
  const path = join(tempDir(), 'locks.sqlite')
  const ending = await runCode(
    `const { AsyncLocalStorage } = await import('node:async_hooks')
     const { LockManager } = await import('fencelock')
     const storage = new AsyncLocalStorage()
     let locks
     const first = (store) => storage.run(store, async () => {
       locks = new LockManager({ local: ${JSON.stringify(path)} })
       await (await locks.acquireLocal('warm')).release()
     })
     const second = (name) => storage.run({ name }, async () => {
       const lock = await locks.acquireLocal(name, { ttlMs: 60_000 })
       const seen = new Promise((resolve) => lock.signal.addEventListener('abort', () => resolve(storage.getStore()?.name)))
       return { seen, lock }
     })
     await first({ name: 'alice' })
     const bob = await second('bob')
     const carol = await second('carol')
     await locks.forceRelease('bob')
     await locks.forceRelease('carol')
     await bob.lock.extend().catch(() => {})
     await carol.lock.extend().catch(() => {})
     say([await bob.seen, await carol.seen])
     await locks.close()`,
  )
  expect(ending).toMatchObject({ code: 0, signal: null, stderr: '' })
  expect(JSON.parse(ending.stdout)).toEqual(['bob', 'carol'])
})

it('the context of the first call is not kept', async () => {
  const path = join(tempDir(), 'locks.sqlite')
  const ending = await runCode(
    `const { AsyncLocalStorage } = await import('node:async_hooks')
     const { LockManager } = await import('fencelock')
     const storage = new AsyncLocalStorage()
     let locks
     const first = async () => {
       const store = { name: 'first' }
       await storage.run(store, async () => {
         locks = new LockManager({ local: ${JSON.stringify(path)} })
         await (await locks.acquireLocal('a')).release()
       })
       return new WeakRef(store)
     }
     const store = await first()
     await (await locks.acquireLocal('b')).release()
     for (let round = 0; round < 50 && store.deref(); round++) {
       await new Promise((resolve) => setTimeout(resolve, 2))
       globalThis.Bun ? Bun.gc(true) : gc()
     }
     say(store.deref() === undefined)
     await locks.close()`,
    { nodeArgs: ['--expose-gc'] },
  )
  expect(ending).toMatchObject({ code: 0, signal: null, stderr: '' })
  expect(JSON.parse(ending.stdout)).toBe(true)
})
