/** Local locks in a SQLite file: synchronous calls; files that are shared, unusable, foreign, or replaced. */
import { LockManager, type LocalOptions } from 'fencelock'
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
import { isBuiltin } from 'node:module'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'

import { closing, rejection, unique } from '../fixtures/locks'
import { posixLocks, runCode, startCode } from '../fixtures/processes/processes'
import { findRuntime, onBun } from '../fixtures/processes/runtimes'
import { sleep, tempDir } from '../fixtures/temp'

/** A runtime with a built-in SQLite: this one, or another installed one. */
const withSqlite: string | undefined =
  onBun || isBuiltin('node:sqlite') ? process.execPath : findRuntime('node-newest')?.path

const manager = (local: string | LocalOptions): LockManager => closing(new LockManager({ local }))

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
       await locks.close()`,
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
       await locks.close()`,
    )
    expect(child.stderr).toBe('')
    expect(existsSync(join(dir, 'locks.sqlite'))).toBe(true)
  })

  it('is the only one left after the last manager closed', async () => {
    const dir = tempDir()
    const [one, two] = [manager(join(dir, 'locks.sqlite')), manager(join(dir, 'locks.sqlite'))]
    await Promise.all([one.acquireLocal('a'), two.acquireLocal('b')])
    await one.close()
    expect(await two.tryAcquireLocal('a')).not.toBeNull()
    await two.close()
    expect(readdirSync(dir)).toEqual(['locks.sqlite'])
    const again = manager(join(dir, 'locks.sqlite'))
    expect(await again.inspect('b')).toBeNull()
  })

  it('keeps tokens rising after it is closed and opened again', async () => {
    const path = join(tempDir(), 'locks.sqlite')
    const one = manager(path)
    const high = await one.acquireLocal('x', { minToken: BigInt(Date.now() + 3_600_000) * 1000n })
    await one.close()
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
    await refusal(dir, 'BACKEND_UNAVAILABLE', /folder/i)
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
    await locks.close()
    const bytes = readFileSync(path)
    bytes.fill(0x5a, 512)
    writeFileSync(path, bytes)
    await refusal(path, 'BACKEND_UNAVAILABLE', /damaged|corrupt|malformed/i)
    expect(readFileSync(path).equals(bytes)).toBe(true)
  })
})

describe('another application’s database', () => {
  /** Runs Python's SQLite: another copy of SQLite, in another process. */
  const python = (dir: string, code: string): Promise<void> =>
    import('node:child_process').then(
      ({ execFileSync }) => void execFileSync('python3', ['-c', code], { cwd: dir, stdio: 'pipe' }),
    )

  it.each([
    ['with a rollback journal', ''],
    ['with a write-ahead log', 'c.execute("pragma journal_mode=wal");'],
    [
      'whose log is full of commits',
      'c.execute("pragma journal_mode=wal"); c.execute("pragma wal_autocheckpoint=0");',
      true,
    ],
  ])('is refused and not written to: %s', async (_, pragmas, crash = false) => {
    const dir = tempDir()
    const path = join(dir, 'app.sqlite')
    await python(
      dir,
      `import sqlite3, os
c = sqlite3.connect("app.sqlite"); ${pragmas}
c.execute("create table invoice (id integer primary key, total integer)")
c.executemany("insert into invoice (total) values (?)", [(i,) for i in range(500)]); c.commit()
${crash ? 'os._exit(0)' : 'c.close()'}`,
    )
    const names = readdirSync(dir).filter((name) => !name.endsWith('-shm'))
    if (crash) expect(names).toContain('app.sqlite-wal')
    const before = names.map(
      (name) => [name, readFileSync(join(dir, name)), statSync(join(dir, name)).mtimeMs] as const,
    )
    const locks = manager(path)
    const error = await rejection(locks.acquireLocal('x'))
    expect((error as { code?: string }).code).toMatch(/^(BACKEND_UNAVAILABLE|UNSUPPORTED)$/)
    expect(error.message).toContain(path)
    expect(error.message).toMatch(/another application/i)
    await locks.close()
    for (const [name, bytes, mtime] of before) {
      expect(readFileSync(join(dir, name)).equals(bytes)).toBe(true)
      expect(statSync(join(dir, name)).mtimeMs).toBe(mtime)
    }
    expect(readdirSync(dir).filter((name) => !/-(shm|wal)$/.test(name))).toEqual(['app.sqlite'])
    await python(
      dir,
      'import sqlite3; assert sqlite3.connect("app.sqlite").execute("select count(*) from invoice").fetchone()[0] == 500',
    )
  })

  it.skipIf(withSqlite === undefined).each([
    ['with a rollback journal', 'delete'],
    ['with a write-ahead log', 'wal'],
  ])('keeps the POSIX locks that this process has on it: %s', async (_, journal) => {
    const dir = tempDir()
    const path = join(dir, 'app.sqlite')
    // node:sqlite warns that it is experimental.
    const options = { program: withSqlite, env: { NODE_NO_WARNINGS: '1' } }
    const open = `
      const sqlite = await import('${onBun ? 'bun' : 'node'}:sqlite')
      const database = new (sqlite.Database ?? sqlite.DatabaseSync)(${JSON.stringify(path)})`
    // The application: its own SQLite, and two managers, one of which has the wrong file.
    const application = startCode(
      `${open}
       const { LockManager } = await import('fencelock')
       const good = new LockManager({ local: ${JSON.stringify(join(dir, 'locks.sqlite'))} })
       const lock = await good.acquireLocal('x', { ttlMs: 60_000 })
       database.exec('pragma journal_mode = ${journal}; create table t (a)')
       database.exec('begin immediate; insert into t values (1)')
       say('begun')
       const commands = {
         async refuse() {
           const codes = []
           for (let round = 0; round < 3; round++) {
             const bad = new LockManager({ local: ${JSON.stringify(path)} })
             codes.push(await bad.acquireLocal('x').catch((error) => error.code))
             try { bad.tryAcquireLocalSync('x') } catch (error) { codes.push(error.code) }
             await bad.close()
           }
           return codes
         },
         async commit() {
           database.exec('commit')
           await lock.extend()
           return (await good.tryAcquireLocal('x')) === null && lock.held
         },
       }
       for await (const command of hear()) say(await commands[command]())
       await good.close()`,
      options,
    )
    const others = async (code: string): Promise<unknown> => {
      const ending = await runCode(
        `${open}
         try { ${code} } catch (error) { say(error.message) }
         database.close()`,
        options,
      )
      expect(ending.stderr).toBe('')
      return JSON.parse(ending.stdout)
    }
    const write = `database.exec('begin immediate'); say('free')`
    expect(await application.next()).toBe('begun')
    const before = posixLocks(application.pid)
    expect(await others(write)).toBe('database is locked')
    application.tell('refuse')
    expect(await application.next()).toEqual(Array.from({ length: 6 }, () => 'UNSUPPORTED'))
    // A dropped POSIX lock would let others write in the middle of the transaction; or a process that takes
    // itself for the last one to close the file would remove the log, and with it what is committed next.
    expect(posixLocks(application.pid)).toEqual(before)
    expect(await others(write)).toBe('database is locked')
    application.tell('commit')
    expect(await application.next()).toBe(true)
    expect(await others(`say(database.prepare('select a from t').all())`)).toEqual([{ a: 1 }])
    application.hangUp()
    expect(await application.ended).toMatchObject({ code: 0, signal: null, stderr: '' })
  })
})

describe('a file that is replaced while it is open', () => {
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
       await locks.close()`,
    )
    expect(JSON.parse(child.stdout)).toBeNull()
    expect(child.stderr).toBe('')
  })

  it('is detected when a backup was restored over it', async () => {
    const dir = tempDir()
    const path = join(dir, 'locks.sqlite')
    const first = manager(path)
    await (await first.acquireLocal('x')).release()
    await first.close()
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
