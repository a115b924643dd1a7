/** The lock file: shared by managers and processes, unusable, or replaced while it is open. */
import { LockManager } from 'fencelock'
import { once } from 'node:events'
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'

import { closing, rejection } from '../fixtures/locks'
import { runCode } from '../fixtures/processes/processes'
import { sleep, tempDir } from '../fixtures/temp'

const manager = (local: string): LockManager => closing(new LockManager({ local }))

describe('the file', () => {
  it('is shared by managers and processes, whichever path they use', async () => {
    const dir = tempDir()
    const path = join(dir, 'locks.sqlite')
    mkdirSync(join(dir, 'sub'))
    symlinkSync(dir, join(dir, 'link'))
    const lock = await manager(path).acquireLocal('x', { ttlMs: 30_000 })
    for (const other of [join(dir, 'sub', '..', 'locks.sqlite'), join(dir, 'link', 'locks.sqlite')]) {
      const locks = manager(other)
      expect(await locks.tryAcquireLocal('x')).toBeNull()
      expect(await locks.inspect('x')).toMatchObject({ owner: lock.owner })
    }
    const child = await runCode(
      `const { LockManager } = await import('fencelock')
       const locks = new LockManager({ local: ${JSON.stringify(path)} })
       say({ busy: (await locks.tryAcquireLocal('x')) === null, free: (globalThis.kept = await locks.tryAcquireLocal('y')) !== null })
       await locks.close({ drainMs: 0 })`,
    )
    expect(child.stderr).toBe('')
    expect(JSON.parse(child.stdout)).toEqual({ busy: true, free: true })
  })

  it('stays in place when the process changes its directory', async () => {
    const dir = tempDir()
    const child = await runCode(
      `const { LockManager } = await import('fencelock')
       const { mkdirSync } = await import('node:fs')
       process.chdir(${JSON.stringify(dir)})
       const locks = new LockManager()
       mkdirSync('sub'); process.chdir('sub')
       say((globalThis.kept = await locks.acquireLocal('x')).held)
       await locks.close({ drainMs: 0 })`,
    )
    expect(child.stderr).toBe('')
    expect(existsSync(join(dir, 'locks.sqlite'))).toBe(true)
  })

  it('is the only one left after the last manager closed', async () => {
    const dir = tempDir()
    const [one, two] = [manager(join(dir, 'locks.sqlite')), manager(join(dir, 'locks.sqlite'))]
    await Promise.all([one.acquireLocal('a'), two.acquireLocal('b')])
    await one.close({ drainMs: 0 })
    expect(await two.tryAcquireLocal('a')).not.toBeNull()
    await two.close({ drainMs: 0 })
    expect(readdirSync(dir)).toEqual(['locks.sqlite'])
    const again = manager(join(dir, 'locks.sqlite'))
    expect(await again.inspect('b')).toBeNull()
  })

  it('keeps tokens rising after it is closed and opened again', async () => {
    const path = join(tempDir(), 'locks.sqlite')
    const one = manager(path)
    const high = await one.acquireLocal('x', { minToken: BigInt(Date.now() + 3_600_000) * 1000n })
    await one.close({ drainMs: 0 })
    expect((await manager(path).acquireLocal('x')).token).toBe(high.token + 1n)
  })

  it('may be an empty file at first', async () => {
    const path = join(tempDir(), 'locks.sqlite')
    writeFileSync(path, '')
    expect((await manager(path).acquireLocal('x')).held).toBe(true)
  })
})

describe('an unusable file', () => {
  /** `free`: there is no file, so no lock is held, and `inspect` does not fail. */
  async function refusal(path: string, code: string, message: RegExp, free = false): Promise<void> {
    const locks = manager(path)
    if (free) expect(await Promise.all([locks.inspect('x'), rejection(locks.connect())])).toContain(null)
    const calls = [locks.acquireLocal('x'), locks.connect(), locks.tryAcquireLocal('y')]
    for (const error of await Promise.all(
      [...calls, ...(free ? [] : [locks.inspect('x')])].map((call) => rejection(call)),
    )) {
      expect(error).toMatchObject({ code, strategy: 'local' })
      expect(error.message).toMatch(message)
      expect(error.message).toContain(path)
    }
    expect(locks.stats()).toMatchObject({ granted: 0, held: 0 })
  }

  it('is in a missing directory', async () => {
    const dir = tempDir()
    await refusal(join(dir, 'missing', 'locks.sqlite'), 'BACKEND_UNAVAILABLE', /directory/i)
    expect(readdirSync(dir)).toEqual([])
  })

  it('is a directory', async () => {
    const dir = tempDir()
    await refusal(dir, 'BACKEND_UNAVAILABLE', /directory/i)
    expect(readdirSync(dir)).toEqual([])
  })

  it('cannot be written', async () => {
    await refusal('/proc/locks.sqlite', 'BACKEND_UNAVAILABLE', /./, true)
  })

  it('is not a database', async () => {
    const path = join(tempDir(), 'notes.txt')
    const text = 'dear diary, '.repeat(1000)
    writeFileSync(path, text)
    await refusal(path, 'BACKEND_UNAVAILABLE', /not a database|another|SQLite/i)
    expect(readFileSync(path, 'utf8')).toBe(text)
    expect(readdirSync(join(path, '..'))).toEqual(['notes.txt'])
  })

  it('is a damaged lock file', async () => {
    const dir = tempDir()
    const path = join(dir, 'locks.sqlite')
    const locks = manager(path)
    await Promise.all(Array.from({ length: 200 }, (_, index) => locks.acquireLocal(`r${index}`)))
    await locks.close({ drainMs: 0 })
    const bytes = readFileSync(path)
    bytes.fill(0x5a, 512)
    writeFileSync(path, bytes)
    await refusal(path, 'BACKEND_UNAVAILABLE', /damaged|corrupt|malformed/i)
    expect(readFileSync(path).equals(bytes)).toBe(true)
  })
})

describe.skipIf(process.platform === 'win32')('the mode of a new file', () => {
  it.each([undefined, 0o600, 0o660])('is what the umask leaves, or the option says: %s', async (mode) => {
    const dir = tempDir()
    const locks = closing(new LockManager({ local: { path: join(dir, 'locks.sqlite'), mode } }))
    await locks.acquireLocal('x')
    const names = readdirSync(dir)
    expect(names).toHaveLength(4)
    // This one is made as the umask says.
    writeFileSync(join(dir, 'plain'), '')
    const modeOf = (name: string): number => statSync(join(dir, name)).mode & 0o777
    for (const name of names) expect(modeOf(name)).toBe(mode ?? modeOf('plain'))
  })
})

describe('a file that is replaced while it is open', () => {
  it('is noticed while leases are held, without a call', async () => {
    const dir = tempDir()
    const path = join(dir, 'locks.sqlite')
    const locks = manager(path)
    const lock = await locks.acquireLocal('x', { ttlMs: 60_000 })
    const unwatched = await locks.acquireLocal('y', { ttlMs: 60_000 })
    const lost = once(lock.signal, 'abort')
    rmSync(dir, { recursive: true })
    await lost
    expect(lock.signal.reason).toMatchObject({ code: 'LOCK_LOST' })
    expect(String(lock.signal.reason)).toContain('deleted or replaced')
    expect([lock.held, unwatched.held]).toEqual([false, false])
  })

  it('is detected: its leases are lost, and new leases are written to the new file', async () => {
    const dir = tempDir()
    const path = join(dir, 'locks.sqlite')
    const locks = manager(path)
    const lock = await locks.acquireLocal('x', { ttlMs: 30_000 })
    rmSync(path)
    const next = await locks.acquireLocal('x', { ttlMs: 30_000 })
    expect(existsSync(path)).toBe(true)
    expect(await rejection(lock.extend())).toMatchObject({ code: 'LOCK_LOST' })
    expect(await lock.release()).toBe(false)
    expect(next.held).toBe(true)
    const child = await runCode(
      `const { LockManager } = await import('fencelock')
       const locks = new LockManager({ local: ${JSON.stringify(path)} })
       say(await locks.tryAcquireLocal('x'))
       await locks.close({ drainMs: 0 })`,
    )
    expect(JSON.parse(child.stdout)).toBeNull()
    expect(child.stderr).toBe('')
  })

  it('is detected when a backup was restored over it', async () => {
    const dir = tempDir()
    const path = join(dir, 'locks.sqlite')
    const first = manager(path)
    await (await first.acquireLocal('x')).release()
    await first.close({ drainMs: 0 })
    copyFileSync(path, join(dir, 'backup'))
    const locks = manager(path)
    const lock = await locks.acquireLocal('x', { ttlMs: 30_000 })
    for (const suffix of ['', '-wal', '-shm']) rmSync(path + suffix, { force: true })
    copyFileSync(join(dir, 'backup'), path)
    const next = await locks.acquireLocal('x')
    expect(next.token).toBeGreaterThan(lock.token)
    expect(await lock.release()).toBe(false)
    await sleep(10)
    expect(next.held).toBe(true)
  })
})
