/** What the comparison and the pages about moving state of proper-lockfile, with local locks next to it. */
import { LockManager } from 'fencelock'
import { rmdir, writeFileSync } from 'node:fs'
import fs from 'node:fs'
import { utimes } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, it } from 'vitest'

import { closing, rejection } from '../fixtures/locks'
import { eventually, sleep, tempDir } from '../fixtures/temp'
import { load, startPeer } from './support'

const lockfile = load('proper-lockfile')

/** A file to lock, and a manager whose lock file is next to it. */
function files() {
  const folder = tempDir()
  const file = join(folder, 'data.json')
  writeFileSync(file, '{}')
  return { file, local: join(folder, 'locks.sqlite') }
}

const ours = (local: string) => closing(new LockManager({ local }))
const keeping = (local: string, options: string) => `
  const { LockManager } = await import('fencelock')
  const locks = new LockManager({ local: ${JSON.stringify(local)} })
  const lock = await locks.acquireLocal('x', ${options})`

it('two processes that find a stale lock can both have it', async () => {
  const { file } = files()
  fs.mkdirSync(`${file}.lock`)
  const past = new Date(Date.now() - 60_000)
  await utimes(`${file}.lock`, past, past)
  // The second one is slow between finding it stale and removing it.
  let found = (): void => undefined
  let go = (): void => undefined
  const stale = new Promise<void>((resolve) => (found = resolve))
  const slow = {
    ...fs,
    rmdir: (path: string, done: () => void) => {
      go = () => rmdir(path, done)
      found()
    },
  }
  const options = { onCompromised: () => undefined }
  const second = lockfile.lock(file, { ...options, fs: slow })
  await stale
  const release = await lockfile.lock(file, options)
  go()
  expect(await second).toBeTypeOf('function')
  expect(release).toBeTypeOf('function')
})

it('the lock of a killed process is kept until it is stale; that of fencelock is free at once', async () => {
  const { file, local } = files()
  const theirs = startPeer(
    `const { default: lockfile } = await import('proper-lockfile')
     await lockfile.lock(${JSON.stringify(file)})
     ${keeping(local, '{ ttlMs: 60_000 }')}
     say('held')
     setInterval(() => {}, 1000)`,
    '',
  )
  await theirs.next()
  await theirs.kill()
  expect(await rejection(lockfile.lock(file))).toMatchObject({ code: 'ELOCKED' })
  expect(await ours(local).tryAcquireLocal('x')).not.toBeNull()
})

it('a lock that is lost ends the process by default; with fencelock it does not', async () => {
  const { file } = files()
  const theirs = startPeer(
    `const { default: lockfile } = await import('proper-lockfile')
     await lockfile.lock(${JSON.stringify(file)}, { stale: 2000, update: 1000 })
     say('held')
     setInterval(() => {}, 1000)`,
    '',
  )
  await theirs.next()
  fs.rmdirSync(`${file}.lock`)

  const { local } = files()
  const locks = ours(local)
  const { signal } = await locks.acquireLocal('x', { ttlMs: 3_000, renew: true })
  await locks.forceRelease('x')
  await eventually('the signal aborts', () => signal.aborted)
  expect(signal.reason).toMatchObject({ code: 'LOCK_LOST' })
  expect(await theirs.ended).toMatchObject({ code: 1, stderr: expect.stringContaining('ECOMPROMISED') })
})

it('a blocked event loop makes a lock stale; fencelock renews it', async () => {
  const { file, local } = files()
  const holder = startPeer(
    `const { default: lockfile } = await import('proper-lockfile')
     await lockfile.lock(${JSON.stringify(file)}, { stale: 2000 })
     ${keeping(local, '{ ttlMs: 3000, renew: true }')}
     say('held')
     const end = Date.now() + 10_000
     while (Date.now() < end);
     process.exit()`,
    '',
  )
  await holder.next()
  await sleep(4000)
  const options = { stale: 2000, onCompromised: () => undefined }
  const release = await lockfile.lock(file, options)
  expect(await ours(local).tryAcquireLocal('x')).toBeNull()
  await release()
})
