/** What running routines and closing managers mean for the process, and the reverse. */
import { LockManager } from 'fencelock'
import { join } from 'node:path'
import { beforeAll, describe, expect, it } from 'vitest'

import { closing, fencelockWarnings, rejection, unique } from '../fixtures/locks'
import { leavesNothing, runCode, startCode } from '../fixtures/processes/processes'
import { onBun } from '../fixtures/processes/runtimes'
import { startPrimary, type Deployment } from '../fixtures/servers/redis'
import { eventually, root, sleep, tempDir } from '../fixtures/temp'

let redis: Deployment
let path: string
beforeAll(async () => {
  redis = await startPrimary()
  path = join(tempDir(), 'locks.sqlite')
})

/** A manager in the code of a child. */
const manager = (): string =>
  `const { LockManager } = await import('fencelock')
   const locks = new LockManager({ redis: ${JSON.stringify(redis.url)}, local: ${JSON.stringify(path)}, strategy: 'local' })
   const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms))
  `
const local = (): LockManager => closing(new LockManager({ local: path }))

describe('a process', () => {
  it('is kept alive by a routine that only waits for the end of its lock, until that', async () => {
    const resource = unique('leader')
    const leader = startCode(
      `${manager()}
       const lost = await locks.withLock(${JSON.stringify(resource)}, { ttlMs: 3_000 }, async ({ signal }) => {
         say('leads')
         await new Promise((resolve) => signal.addEventListener('abort', resolve))
         return 'resigned'
       }).catch((error) => error)
       say([lost.code, lost.result, lost.cause.message])`,
    )
    expect(await leader.next()).toBe('leads')
    await sleep(3_500)
    expect(await local().tryAcquire(resource)).toBeNull()
    expect(await local().forceRelease(resource)).toBe(true)
    expect(await leader.next()).toEqual([
      'LOCK_LOST',
      'resigned',
      expect.stringContaining('the lease is lost'),
    ])
    expect(await leader.ended).toMatchObject({ code: 0, signal: null, stderr: '' })
  })

  it('is not kept alive by a routine whose lock has ended', async () => {
    const { code, stdout } = await runCode(
      `${manager()}
       void locks.withLock('ended', { ttlMs: 2_000, renew: false }, () => new Promise(() => {}))
       process.on('exit', () => say('exits'))`,
      { limitMs: 10_000 },
    )
    expect({ code, stdout }).toEqual({ code: 0, stdout: '"exits"\n' })
  })

  it('is not kept alive by a lock that was released while it was extended', async () => {
    const { code, stdout } = await runCode(
      `${manager()}
       const block = (ms) => { for (const end = performance.now() + ms; performance.now() < end; ); }
       const once = () => locks.withLock(${JSON.stringify(unique())}, { ttlMs: 3_000, renew: false }, async (lock) => {
         lock.signal.addEventListener('abort', () => {
           // The release does not leave before the answer to the extension is taken.
           void locks.tryAcquire(${JSON.stringify(unique())})
           void lock.release()
         })
         // Both wait to be taken: that the lease is about to end (300 ms before), and then the answer.
         while (lock.remainingMs > 280);
         const extended = lock.extend(60_000)
         block(50)
         await extended
       })
       // Where the machine stalls in these 280 ms, the lease is lost before it can be extended.
       const orLost = (error) => { if (error.code !== 'LOCK_LOST') throw error; return once().catch(orLost) }
       await once().catch(orLost)
       process.on('exit', () => say('exits'))`,
      { limitMs: 25_000 },
    )
    expect({ code, stdout }).toEqual({ code: 0, stdout: '"exits"\n' })
  })

  it('is kept alive while a manager drains, and ends when it has', async () => {
    const resource = unique()
    const ending = await runCode(
      `${manager()}
       const lock = await locks.acquire(${JSON.stringify(resource)}, { ttlMs: 60_000 })
       void locks.close().then(() => say('closed'))
       setTimeout(() => lock.release().then(say), 700).unref()`,
      { limitMs: 10_000 },
    )
    expect(ending).toMatchObject({ code: 0, stderr: '', stdout: 'true\n"closed"\n' })
  })

  it('that exits while a manager closes or drains leaves no lock behind', async () => {
    for (const drainMs of [0, 60_000]) {
      const run = async (): Promise<boolean> => {
        const prefix = unique()
        const ending = await runCode(
          `${manager()}
           const names = Array.from({ length: 400 }, (_, index) => ${JSON.stringify(prefix)} + index)
           await Promise.all(names.map((name) => locks.acquireStrong(name, { ttlMs: 60_000, ackTimeoutMs: 2_000 })))
           void locks.close({ drainMs: ${drainMs} })
           process.exit(7)`,
        )
        expect(ending).toMatchObject({ code: 7, stderr: '' })
        const strong = closing(new LockManager({ redis: redis.url }))
        const isFree = async (): Promise<boolean> => {
          const names = Array.from({ length: 400 }, (_, index) => prefix + index)
          const held = await Promise.all(names.map((name) => strong.inspect(name)))
          return held.every((info) => info === null)
        }
        return eventually('all are free', isFree, 3_000).catch(() => false)
      }
      expect(await leavesNothing(run)).toBe(true)
    }
  })

  it('can use synchronous locks in its exit listeners, whenever they were registered', async () => {
    const resource = unique()
    const ending = await runCode(
      `${manager()}
       await locks.acquire(${JSON.stringify(resource)}, { ttlMs: 60_000 })
       process.on('exit', () => {
         const lock = locks.tryAcquireLocalSync(${JSON.stringify(resource)})
         say([lock.held, lock.releaseSync()])
         say(locks.tryAcquireLocalSync(${JSON.stringify(resource)}).held)
       })
       process.exit(0)`,
    )
    expect(ending).toMatchObject({ code: 0, stderr: '', stdout: '[true,true]\ntrue\n' })
    // The holder is dead.
    expect(await local().tryAcquire(resource)).not.toBeNull()
    const refused = await runCode(
      `${manager()}
       await locks.connect()
       await locks.close()
       process.on('exit', () => {
         try { locks.tryAcquireLocalSync('x') } catch (error) { say(error.code) }
       })`,
    )
    expect(refused).toMatchObject({ code: 0, stderr: '', stdout: '"CLOSED"\n' })
  })

  it('keeps no password of a manager on its heap', async () => {
    const ending = await runCode(
      `const { LockManager } = await import('fencelock')
       const { getHeapSnapshot } = await import('node:v8')
       const secret = (number) => Buffer.from([0x73, 0x65, 0x63, 0x72, 0x65, 0x74, 0x2d, 0x30 + number]).toString()
       const locks = (() => new LockManager({ redis: { url: 'redis://127.0.0.1:1', password: secret(1) } }))()
       globalThis.kept = { locks, control: secret(2) }
       let heap = ''
       for await (const chunk of getHeapSnapshot()) heap += chunk
       say([1, 2].map((number) => heap.includes(secret(number))))`,
    )
    expect(ending).toMatchObject({ code: 0, stderr: '', stdout: '[false,true]\n' })
  })
})

// Bun cannot query objects.
it.skipIf(onBun)('a manager can be collected although a timer of a routine goes on', async () => {
  const { code, stdout } = await runCode(
    `const { LockManager } = await import('fencelock')
     const { createRequire } = await import('node:module')
     const { queryObjects } = await import('node:v8')
     const { NativeManager } = createRequire(import.meta.url)(${JSON.stringify(join(root, 'lib/native/load.js'))})
     const goOn = () => { setInterval(() => {}, 1e6).unref() }
     const one = async () => {
       const locks = new LockManager({ local: ${JSON.stringify(path)} })
       await locks.withLock(${JSON.stringify(unique())}, goOn)
       await locks.close()
     }
     const left = async () => {
       for (let turn = 0; turn < 5; turn++) await new Promise((resolve) => { gc(); setTimeout(resolve, 10) })
       return queryObjects(NativeManager)
     }
     await one()
     const before = await left()
     for (let count = 0; count < 5; count++) await one()
     say((await left()) - before)`,
    { nodeArgs: ['--expose-gc'] },
  )
  expect({ code, stdout }).toEqual({ code: 0, stdout: '0\n' })
})

describe('a routine that waits for the lock it holds', () => {
  it('is told so after a second, and by the error', async () => {
    const [locks, warnings, resource] = [local(), fencelockWarnings(), unique('own')]
    const outer = locks.withLock(resource, () =>
      // The routine around it holds it, not the innermost one.
      locks.withLock(unique(), async () => {
        await sleep(1)
        return rejection(locks.withLock([unique(), resource], { waitMs: 3_000 }, () => 1))
      }),
    )
    const error = await outer
    expect(error).toMatchObject({ code: 'LOCK_HELD', byCaller: true, resource })
    expect(error.message).toMatch(
      /still held after waiting for 3000 ms: the function that made this call holds it itself, through withLock/,
    )
    expect(warnings).toHaveLength(1)
    expect(warnings[0]).toMatchObject({ code: 'FENCELOCK_WAITS_FOR_ITSELF' })
    expect(warnings[0]!.message).toContain(resource)
  })

  it('is told nothing when it waits rightly', async () => {
    const [locks, other, warnings, resource] = [local(), local(), fencelockWarnings(), unique('own')]
    // Work that the routine starts and does not await gets the lock after it.
    let started: Promise<number> | undefined
    await locks.withLock(resource, async () => {
      started = locks.withLock(resource, () => 1)
      await sleep(50)
    })
    expect(await started).toBe(1)
    // A routine of another context holds it.
    await other.withLock(resource, async () => {
      const error = await rejection(
        locks.withLock(unique(), () => locks.acquire(resource, { waitMs: 1_400 })),
      )
      expect(error).toMatchObject({ code: 'LOCK_HELD', byCaller: false })
      expect(error.message).toContain('held by another owner')
    })
    expect(warnings).toHaveLength(0)
  })
})
