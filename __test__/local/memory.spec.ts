/** Local locks in memory: what is specific to them. The contract suite has the rest. */
import { LockManager, type LocalOptions } from 'fencelock'
import { existsSync, readdirSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { Worker } from 'node:worker_threads'
import { describe, expect, it } from 'vitest'

import { onCleanup } from '../fixtures/cleanup'
import { closing, unique } from '../fixtures/locks'
import { eventually, root, tempDir } from '../fixtures/temp'

const manager = (local: string | LocalOptions = ':memory:'): LockManager =>
  closing(new LockManager({ local }))

/** Until the end of the test. */
function changeDirectory(): string {
  const [before, folder] = [process.cwd(), tempDir()]
  process.chdir(folder)
  onCleanup(() => process.chdir(before))
  return folder
}

describe('in memory', () => {
  it('makes no file, and tells what is only here', async () => {
    const folder = changeDirectory()
    for (const local of [':memory:', { path: ':memory:' }, { path: ':memory:', durability: undefined }]) {
      const locks = manager(local)
      await locks.connect()
      await (await locks.acquire('r')).release()
      const guarantee = await locks.describe()
      expect(guarantee).toMatchObject({ strategy: 'local', file: null, server: null, replicas: null })
      expect(guarantee.summary).toContain('No other manager, worker or process sees them')
      expect(guarantee.warnings).toEqual([expect.stringContaining('path of a file')])
    }
    expect(readdirSync(folder)).toEqual([])
  })

  it('is seen by no other manager and no worker, and ends with its own', async () => {
    const [one, two] = [manager(), manager()]
    const resource = unique()
    const lock = await one.acquire(resource, { ttlMs: 60_000 })
    expect(await two.inspect(resource)).toBeNull()
    expect(await two.tryAcquire(resource)).not.toBeNull()
    const code = `
      const { parentPort, workerData } = require('node:worker_threads')
      const { LockManager } = require(workerData.root)
      const locks = new LockManager({ local: ':memory:' })
      parentPort.postMessage(locks.tryAcquireLocalSync(workerData.resource) !== null)
    `
    const worker = new Worker(code, { eval: true, workerData: { root, resource } })
    expect(await new Promise((seen) => worker.once('message', seen))).toBe(true)
    await worker.terminate()
    expect(lock.held).toBe(true)
    const { signal } = lock
    await one.close({ drainMs: 0 })
    expect(signal.reason).toMatchObject({ code: 'LOCK_LOST' })
  })

  it('leaves a file of that name to those who spell it as a path', async () => {
    const folder = changeDirectory()
    if (process.platform === 'win32') return
    const [one, two] = [manager('./:memory:'), manager(resolve(folder, ':memory:'))]
    await one.acquire('r')
    expect(await two.tryAcquire('r')).toBeNull()
    expect(existsSync(join(folder, ':memory:'))).toBe(true)
  })

  it('acquires and releases on the calling thread', async () => {
    const locks = manager()
    const resource = unique()
    const lock = locks.tryAcquireLocalSync(resource)!
    expect(lock).toMatchObject({ strategy: 'local', held: true, acks: null })
    expect(locks.tryAcquireLocalSync([unique(), resource])).toBeNull()
    const waiting = locks.acquire(resource, { waitMs: 10_000 })
    await eventually('it waits', () => locks.stats().waiting === 1)
    expect(lock.releaseSync()).toBe(true)
    const next = await waiting
    expect(next.token).toBeGreaterThan(lock.token)
    expect(lock.releaseSync()).toBe(false)
    expect(await next.release()).toBe(true)
  })

  it('gets a lock while the process exits', async () => {
    const { spawnSync } = await import('node:child_process')
    const code = `
      const { LockManager } = require(${JSON.stringify(root)})
      const locks = new LockManager({ local: ':memory:' })
      locks.acquire('held').then(() => process.exit())
      process.on('exit', () => console.log(locks.tryAcquireLocalSync('r')?.held))
    `
    const { stdout, stderr, status } = spawnSync(process.execPath, ['-e', code], { encoding: 'utf8' })
    expect({ stdout, stderr, status }).toEqual({ stdout: 'true\n', stderr: '', status: 0 })
  })
})
