/** Who holds the locks of a file that older versions use, too. */
import { LockManager } from 'fencelock'
import { execFileSync } from 'node:child_process'
import { join } from 'node:path'
import { expect, it } from 'vitest'

import { closing, unique } from '../fixtures/locks'
import { runCode, startCode } from '../fixtures/processes/processes'
import { eventually, sleep, tempDir } from '../fixtures/temp'

const managerOf = (local: string, holderName: string): LockManager =>
  closing(new LockManager({ local, holderName }))

/** Another program's copy of SQLite. Returns what `code` prints. */
function python(path: string, code: string): string {
  const program = `import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); ${code}; c.commit(); c.close()`
  return execFileSync('python3', ['-c', program, path], { encoding: 'utf8' }).trim()
}

/** A lock file as it was before there were holders. */
async function olderFile(): Promise<string> {
  const path = join(tempDir(), 'locks.sqlite')
  const first = new LockManager({ local: path })
  await first.connect()
  await first.close()
  python(path, 'c.execute("DROP TABLE holders")')
  return path
}

it('an older file gets the table beside the first lock, and keeps its version', async () => {
  const path = await olderFile()
  const [one, two] = [managerOf(path, 'one'), managerOf(path, 'two')]
  // Without the table nothing is known.
  expect(await two.inspect(unique())).toBeNull()
  const lock = one.tryAcquireLocalSync(unique(), { ttlMs: 60_000 })!
  const holder = async () => (await two.inspect(lock.resource))!.holder
  await eventually('it is known', async () => (await holder()) !== null)
  expect(await holder()).toMatchObject({ name: 'one', pid: process.pid })
  expect(python(path, 'print(c.execute("PRAGMA user_version").fetchone()[0])')).toBe('1')
  expect(lock.releaseSync()).toBe(true)
})

it('another program’s table of that name does no harm', async () => {
  const path = await olderFile()
  python(path, 'c.execute("CREATE TABLE holders (x)"); c.execute("INSERT INTO holders VALUES (1)")')
  const [one, two] = [managerOf(path, 'one'), managerOf(path, 'two')]
  const lock = await one.acquireLocal(unique(), { ttlMs: 60_000 })
  for (let index = 0; index < 50; index++) await (await one.acquireLocal(unique())).release()
  await sleep(100)
  expect(await two.inspect(lock.resource)).toMatchObject({ owner: lock.owner, holder: null })
  for await (const { resource, holder } of two.list())
    expect([resource, holder]).toEqual([lock.resource, null])
  expect(await lock.release()).toBe(true)
  expect(python(path, 'print(c.execute("SELECT x FROM holders").fetchall())')).toBe('[(1,)]')
})

it('rows that are over are removed', async () => {
  const path = join(tempDir(), 'locks.sqlite')
  const one = managerOf(path, 'one')
  await one.connect()
  const insert = "INSERT INTO holders VALUES (randomblob(6), 'old', 'host', 1, 2, 3)"
  python(path, `[c.execute("${insert}") for _ in range(10)]`)
  const rows = () => python(path, 'print(c.execute("SELECT name FROM holders").fetchall())')
  expect(rows()).toContain('old')
  await one.acquireLocal(unique(), { ttlMs: 60_000 })
  await eventually('only one is left', () => rows() === "[('one',)]")
})

it('names the process that holds a lock, also in another one', async () => {
  const path = join(tempDir(), 'locks.sqlite')
  const child = startCode(
    `const { LockManager } = await import('fencelock')
     const locks = new LockManager({ local: ${JSON.stringify(path)}, holderName: 'a child' })
     globalThis.kept = [locks, await locks.acquireLocal('theirs', { ttlMs: 60_000 })]
     say('held')
     setInterval(() => {}, 1000)`,
  )
  const locks = managerOf(path, 'parent')
  const info = () => locks.inspect('theirs')
  await eventually('it is known', async () => ((await info())?.holder ?? null) !== null)
  const { holder } = (await info())!
  expect(holder!.name).toBe('a child')
  expect(holder!.pid).not.toBe(process.pid)
  for await (const found of locks.list()) expect(found).toMatchObject({ resource: 'theirs', holder })
  await child.kill()
})

it('the default name has the process id, however long the name of the host is', async () => {
  const ending = await runCode(
    `const os = (await import('node:os')).default
     os.hostname = () => 'h'.repeat(63)
     const { LockManager } = await import('fencelock')
     const locks = new LockManager({ local: ':memory:' })
     globalThis.kept = await locks.acquireLocal('a')
     say([process.pid, (await locks.inspect('a')).holder])`,
  )
  expect(ending).toMatchObject({ code: 0, stderr: '' })
  const host = 'h'.repeat(63)
  const [pid, holder] = JSON.parse(ending.stdout) as [number, object]
  expect(holder).toMatchObject({ name: `${host}:${pid}`, host, pid })
})
