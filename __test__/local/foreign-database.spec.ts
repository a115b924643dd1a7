/** The path of a lock file that is another application's SQLite database: it is refused and not harmed. */
import { LockManager } from 'fencelock'
import { execFileSync } from 'node:child_process'
import { readdirSync, readFileSync, statSync } from 'node:fs'
import { isBuiltin } from 'node:module'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'

import { closing, rejection } from '../fixtures/locks'
import { keepsLocks, lastingLocks, runCode, startCode } from '../fixtures/processes/processes'
import { findRuntime, onBun } from '../fixtures/processes/runtimes'
import { tempDir } from '../fixtures/temp'

/** A runtime with a built-in SQLite: this one, or another installed one. */
const withSqlite: string | undefined =
  onBun || isBuiltin('node:sqlite') ? process.execPath : findRuntime('node-newest')?.path

const manager = (local: string): LockManager => closing(new LockManager({ local }))

describe('another application’s database', () => {
  /** Runs Python's SQLite: another copy of SQLite, in another process. */
  const python = (dir: string, code: string): void => {
    execFileSync('python3', ['-c', code], { cwd: dir, stdio: 'pipe' })
  }

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
    python(
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
    python(
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
    const before = await lastingLocks(application.pid)
    if (process.platform === 'linux') expect(before).not.toEqual([])
    expect(await others(write)).toBe('database is locked')
    application.tell('refuse')
    expect(await application.next()).toEqual(Array.from({ length: 6 }, () => 'UNSUPPORTED'))
    // A dropped POSIX lock would let others write in the middle of the transaction; or a process that takes
    // itself for the last one to close the file would remove the log, and with it what is committed next.
    expect(await keepsLocks(application.pid, before)).toBe(true)
    expect(await others(write)).toBe('database is locked')
    application.tell('commit')
    expect(await application.next()).toBe(true)
    expect(await others(`say(database.prepare('select a from t').all())`)).toEqual([{ a: 1 }])
    application.hangUp()
    expect(await application.ended).toMatchObject({ code: 0, signal: null, stderr: '' })
  })
})
