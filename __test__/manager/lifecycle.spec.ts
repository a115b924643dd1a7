/** Processes and workers that end, orderly or not; memory; threads. */
import { LockManager } from 'fencelock'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { beforeAll, describe, expect, it } from 'vitest'

import { collectUntil, memory } from '../fixtures/leaks'
import { closing, unique } from '../fixtures/locks'
import { leavesNothing, runCode, startCode } from '../fixtures/processes/processes'
import { onBun } from '../fixtures/processes/runtimes'
import { startPrimary, startRedis, type Deployment } from '../fixtures/servers/redis'
import { eventually, root, sleep, tempDir } from '../fixtures/temp'

let redis: Deployment
let path: string
beforeAll(async () => {
  redis = await startPrimary()
  path = join(tempDir(), 'locks.sqlite')
})

/**
 * Options for both kinds of lock, in the code of a child. Generous, because these tests are not about the
 * speed of replicas.
 */
const options = (): string =>
  JSON.stringify({ redis: redis.url, local: path, defaults: { ttlMs: 60_000, ackTimeoutMs: 2_000 } })
/** Whether it is released soon, and not only at the end of its lease. A server may be slow. */
async function isReleased(resource: string): Promise<boolean> {
  const locks = closing(new LockManager({ redis: redis.url, local: path }))
  const isFree = async (): Promise<boolean> =>
    (await locks.inspect(resource)) === null &&
    (await locks.inspect(resource, { strategy: 'local' })) === null
  return eventually('it is free', isFree, 3_000).catch(() => false)
}

describe('a process', () => {
  it.each([
    ['that only loads the module', ''],
    ['with a manager that was never used', 'new LockManager(options)'],
    ['with an idle manager', `const locks = new LockManager(options); await locks.connect()`],
    [
      'that released its locks',
      `const locks = new LockManager(options); await (await locks.acquireStrong(name)).release(); await (await locks.acquireLocal(name)).release()`,
    ],
    [
      'that still holds locks',
      `const locks = new LockManager(options); globalThis.held = [await locks.acquireStrong(name), await locks.acquireLocal(name), locks.tryAcquireLocalSync(name + '2')]`,
    ],
    [
      'that still holds locks which were renewed for a while',
      `const locks = new LockManager(options); globalThis.held = [await locks.acquireStrong(name, { ttlMs: 9_000, renew: true }), await locks.acquireLocal(name, { ttlMs: 9_000, renew: true })]; for (const lock of held) lock.signal; while (locks.stats().extended < 2 && held.every((lock) => lock.held)) await new Promise((resolve) => setTimeout(resolve, 50)); if (!held.every((lock) => lock.held)) say('lost')`,
    ],
    [
      'with a signal that was read',
      `const locks = new LockManager(options); globalThis.signal = (await locks.acquireLocal(name)).signal`,
    ],
    [
      'that closed its manager',
      `const locks = new LockManager(options); globalThis.held = await locks.acquireStrong(name); await locks.close({ drainMs: 0 })`,
    ],
    [
      'with a call in flight that is not awaited',
      `const locks = new LockManager(options); globalThis.calls = [locks.acquireStrong(name), locks.acquireLocal(name)]`,
    ],
  ])('%s exits without help, and holds nothing afterwards', { timeout: 90_000 }, async (_, code) => {
    const run = async (): Promise<boolean> => {
      const resource = unique()
      // It is killed long before the leases would end.
      const ending = await runCode(
        `const { LockManager } = await import('fencelock'); const options = ${options()}; const name = ${JSON.stringify(resource)}; ${code}`,
        { limitMs: 20_000 },
      )
      expect(ending).toMatchObject({ code: 0, signal: null, stderr: '', stdout: '' })
      return isReleased(resource)
    }
    expect(await leavesNothing(run)).toBe(true)
  })

  it('that calls process.exit in mid-call does not crash, and releases what it held', async () => {
    for (let delay = 0; delay < 5; delay++) {
      const run = async (): Promise<boolean> => {
        const resource = unique()
        const ending = await runCode(
          `const { LockManager } = await import('fencelock')
           const locks = new LockManager(${options()})
           const lock = await locks.acquireStrong(${JSON.stringify(resource)}, { ttlMs: 60_000 })
           lock.signal
           const calls = globalThis.calls = [lock, await locks.acquireLocal(${JSON.stringify(resource)}, { ttlMs: 60_000 })]
           for (let i = 0; i < 200; i++) calls.push(locks.tryAcquireStrong(${JSON.stringify(resource)} + i), locks.tryAcquireLocal(${JSON.stringify(resource)} + i))
           setTimeout(() => process.exit(7), ${delay})`,
        )
        expect(ending).toMatchObject({ code: 7, signal: null, stderr: '' })
        return isReleased(resource)
      }
      expect(await leavesNothing(run)).toBe(true)
    }
  })

  it('that is blocked for longer than its lease is notified as soon as it continues', async () => {
    const ending = await runCode(
      `const { LockManager } = await import('fencelock')
       const locks = new LockManager(${options()})
       const ttlMs = 2_000
       const lock = await locks.acquireStrong(${JSON.stringify(unique())}, { ttlMs, acks: 0 })
       const { signal } = lock
       const end = performance.now() + ttlMs + 300; while (performance.now() < end);
       const held = lock.held
       const continued = performance.now()
       await new Promise((resolve) => signal.aborted ? resolve() : signal.addEventListener('abort', resolve))
       const soon = performance.now() - continued < ttlMs
       say({ held, soon, code: signal.reason?.code, released: await lock.release() })`,
    )
    expect(ending.stderr).toBe('')
    expect(JSON.parse(ending.stdout)).toEqual({ held: false, soon: true, code: 'LOCK_LOST', released: false })
  })

  it.runIf(process.platform === 'linux')('has at most three more threads for an idle manager', async () => {
    const ending = await runCode(
      `const { readdirSync } = await import('node:fs')
       const threads = () => readdirSync('/proc/self/task').length
       const { LockManager } = await import('fencelock')
       const before = threads()
       const locks = new LockManager(${options()})
       await locks.connect()
       await (await locks.acquireStrong('x')).release()
       await (await locks.acquireLocal('x')).release()
       say(threads() - before)
       await locks.close()`,
    )
    expect(ending.stderr).toBe('')
    expect(JSON.parse(ending.stdout)).toBeLessThanOrEqual(3)
  })
})

describe('workers', () => {
  /** Code that can start workers. */
  const workers = (): string => `
    const { Worker } = await import('node:worker_threads')
    const { LockManager } = await import('fencelock')
    const options = ${options()}
    const start = (workerData) => {
      const worker = new Worker(${JSON.stringify(fileURLToPath(new URL('../fixtures/processes/worker.cjs', import.meta.url)))}, { workerData: { options, ...workerData } })
      worker.on('error', (error) => say({ error: String(error) }))
      return worker
    }
    const event = (worker, name) => new Promise((resolve) => worker.once(name, resolve))
  `

  it('that are terminated in mid-call do not crash the process', { timeout: 120_000 }, async () => {
    const run = async (): Promise<void> => {
      const script = startCode(
        `${workers()}
         for (let round = 0; round < 30; round++) {
           const worker = start({ action: 'busy' })
           await event(worker, 'message')
           await new Promise((resolve) => setTimeout(resolve, Math.random() * 20))
           await worker.terminate()
         }
         const locks = new LockManager(options)
         await (await locks.acquireStrong(${JSON.stringify(unique())})).release()
         await locks.close()
         say('done')`,
        { limitMs: 60_000 },
      )
      expect(await script.ended).toMatchObject({ code: 0, signal: null, stderr: '' })
      expect(script.said).toEqual(['done'])
    }
    // A crash is a matter of luck: ten processes, two at a time, with thirty terminations each.
    for (let pair = 0; pair < 5; pair++) await Promise.all([run(), run()])
  })

  it('that are terminated long before their calls return do not crash the process', async () => {
    const alone = await startRedis()
    const ending = await runCode(
      `${workers()}
       for (let round = 0; round < 5; round++) {
         const worker = start({ action: 'call', options: { redis: ${JSON.stringify(alone.url)} } })
         await event(worker, 'message')
         await new Promise((resolve) => setTimeout(resolve, 100))
         await worker.terminate()
       }
       await new Promise((resolve) => setTimeout(resolve, 2_000))
       say('done')`,
    )
    expect(ending).toMatchObject({ code: 0, signal: null, stderr: '' })
    expect(JSON.parse(ending.stdout)).toBe('done')
  })

  it('load the addon fifty times in turn, and each releases what it held', { timeout: 90_000 }, async () => {
    const resource = unique()
    const script = startCode(
      `${workers()}
       for (let round = 0; round < 50; round++) {
         await event(start({ action: 'hold', resource: ${JSON.stringify(resource)} + round }), 'exit')
       }
       say('done')
       // Released in the background by this process, which has to live for that.
       for await (const line of hear()) {}`,
      { limitMs: 80_000 },
    )
    expect(await script.next(80_000)).toBe('done')
    const locks = closing(new LockManager({ redis: redis.url, local: path }))
    for (let round = 0; round < 50; round++) {
      await eventually(
        'the strong lock is free',
        async () => (await locks.inspect(resource + round)) === null,
      )
      await eventually(
        'the local lock is free',
        async () => (await locks.inspect(resource + round, { strategy: 'local' })) === null,
      )
    }
    script.hangUp()
    expect(await script.ended).toMatchObject({ code: 0, signal: null, stderr: '' })
  })

  it('share the lock file with each other and the main thread', async () => {
    const ending = await runCode(
      `${workers()}
       const locks = new LockManager(options)
       const lock = await locks.acquireLocal('shared', { ttlMs: 60_000 })
       say(await Promise.all([1, 2, 3].map(() => event(start({ action: 'look', resource: 'shared' }), 'message'))))
       await lock.release()
       await locks.close({ drainMs: 0 })`,
    )
    expect(ending).toMatchObject({ code: 0, stderr: '' })
    expect(JSON.parse(ending.stdout)).toEqual([null, null, null])
  })
})

describe('memory', () => {
  it('does not grow with the locks that were acquired and released', { timeout: 120_000 }, async () => {
    const locks = closing(new LockManager({ redis: redis.url, local: path }))
    const wave = async (): Promise<void> => {
      const acquired = await Promise.all(
        Array.from({ length: 250 }, (_, index) => [
          locks.acquireStrong(`leak-${index}`, { ackTimeoutMs: 2_000 }),
          locks.acquireLocal(`leak-${index}`),
        ]).flat(),
      )
      for (const [index, lock] of acquired.entries()) if (index % 10 === 0) void lock.signal
      await Promise.all(acquired.map((lock) => lock.release()))
    }
    // The engines grow their young generations for a while: 150,000 locks to warm up, 50,000 measured.
    for (let round = 0; round < 300; round++) await wave()
    // A leaked lease has 100 bytes or more: 5 MB and up, and its handle as much again. JavaScriptCore
    // releases memory late, so its limit is higher. An engine may still grow once in between, so there are
    // several attempts: a leak grows each time.
    const limit = onBun ? 12_000_000 : 4_000_000
    const growth: { heap: number; resident: number }[] = []
    while (growth.length < 4 && !growth.some(({ heap, resident }) => heap < 1_000_000 && resident < limit)) {
      const before = await memory()
      for (let round = 0; round < 100; round++) await wave()
      const after = await memory()
      growth.push({ heap: after.heap - before.heap, resident: after.resident - before.resident })
    }
    expect(growth.at(-1)!.heap).toBeLessThan(1_000_000)
    expect(growth.at(-1)!.resident).toBeLessThan(limit)
    expect(locks.stats()).toMatchObject({ held: 0, pending: 0 })
  })

  it('is freed for handles that were dropped, and a warning names the resource', async () => {
    const locks = closing(new LockManager({ local: path }))
    const warnings: Error[] = []
    const listener = (warning: Error): void => void warnings.push(warning)
    process.on('warning', listener)
    const resource = unique('dropped')
    const short = [await locks.acquireLocal(unique('short'), { ttlMs: 200 })]
    await sleep(300)
    short.length = 0 // its lease has ended: no warning
    const token = await (async () => (await locks.acquireLocal(resource, { ttlMs: 20_000 })).token)()
    expect(await collectUntil(() => locks.stats().held === 0)).toBe(true)
    await eventually('the warning', () => warnings.length > 0)
    process.off('warning', listener)
    expect(warnings).toHaveLength(1)
    expect(warnings[0]!.message).toContain(resource)
    // Not released: its holder may have kept the token.
    expect(await locks.inspect(resource)).toMatchObject({ token })
  })

  it('is freed, with a warning, for handles that were dropped together with their manager', async () => {
    const warnings: Error[] = []
    const listener = (warning: Error): void => void warnings.push(warning)
    process.on('warning', listener)
    const resource = unique('dropped')
    await (async () => new LockManager({ local: path }).acquireLocal(resource, { ttlMs: 20_000 }))()
    const ours = (): Error | undefined => warnings.find((warning) => warning.message.includes(resource))
    await collectUntil(() => ours() !== undefined)
    process.off('warning', listener)
    expect(ours()).toMatchObject({ name: 'FencelockWarning', code: 'FENCELOCK_LOCK_DROPPED' })
  })

  it('keeps a lock whose signal was read until its lease ends', async () => {
    const locks = closing(new LockManager({ local: path }))
    let aborted = false
    await (async () => {
      const lock = await locks.acquireLocal(unique(), { ttlMs: 3_000 })
      lock.signal.addEventListener('abort', () => (aborted = true))
    })()
    await collectUntil(() => false, 300)
    expect([locks.stats().held, aborted]).toEqual([1, false])
    await eventually('the signal aborts', () => aborted)
    expect(await collectUntil(() => locks.stats().held === 0)).toBe(true)
  })
})

it('causes no unhandled rejection and no listener warning', async () => {
  const ending = await runCode(
    `const { LockManager } = await import('fencelock')
     process.on('unhandledRejection', (error) => say({ unhandled: String(error) }))
     process.on('warning', (warning) => say({ warning: String(warning) }))
     const locks = new LockManager({ redis: { url: 'redis://127.0.0.1:1', connectTimeoutMs: 200 }, local: ${JSON.stringify(join(tempDir(), 'x', 'y'))} })
     const { signal } = new AbortController()
     const calls = []
     for (let i = 0; i < 1000; i++) calls.push(locks.acquireStrong('x', { signal }).catch((error) => error.code))
     calls.push(locks.acquireLocal('x').catch((error) => error.code))
     say([...new Set(await Promise.all(calls))])
     await locks.close()
     await new Promise((resolve) => setTimeout(resolve, 100))`,
  )
  expect(ending).toMatchObject({ code: 0, stderr: '' })
  expect(ending.stdout.trim()).toBe('["BACKEND_UNAVAILABLE"]')
})

it('can be loaded again many times without a warning, as test runners do', async () => {
  const ending = await runCode(
    `const { createRequire } = await import('node:module')
     const require = createRequire(import.meta.url)
     process.on('warning', (warning) => say({ warning: String(warning) }))
     const path = ${JSON.stringify(join(tempDir(), 'l.sqlite'))}
     const held = []
     for (let i = 0; i < 12; i++) {
       for (const name of Object.keys(require.cache)) if (!name.endsWith('.node')) delete require.cache[name]
       const { LockManager } = require('fencelock')
       held.push(await new LockManager({ local: path }).acquireLocal('r' + i, { ttlMs: 60_000 }))
     }
     await new Promise((resolve) => setTimeout(resolve, 50))
     say(held.length)`,
  )
  expect(ending).toMatchObject({ code: 0, stderr: '' })
  expect(ending.stdout.trim()).toBe('12')
})

it('is loaded within 30 ms', async () => {
  // It takes 13 to 18 ms on a slow machine, of which the addon is 1 ms.
  const limitMs = 30
  let best = Infinity
  // Disturbances of a round say nothing about the module, so the best round counts.
  for (let round = 0; round < 100 && best >= limitMs; round++) {
    const ending = await runCode(
      `const { createRequire } = await import('node:module')
       const require = createRequire(${JSON.stringify(join(root, 'x.js'))})
       for (const own of ['worker_threads', 'path', 'fs']) require('node:' + own) // built-in modules, which are slow on Bun
       const began = performance.now(); require('fencelock'); say(performance.now() - began)`,
    )
    expect(ending.stderr).toBe('')
    best = Math.min(best, JSON.parse(ending.stdout) as number)
  }
  expect(best).toBeLessThan(limitMs)
})
