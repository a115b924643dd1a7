/** docs/reference/file-format.md describes the lock file: its files, tables, columns and pragmas. */
import { LockManager } from 'fencelock'
import { execFileSync } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'

import { blocksOf } from '../fixtures/examples/markdown'
import { closing } from '../fixtures/locks'
import { eventually, root, tempDir } from '../fixtures/temp'

const page = readFileSync(join(root, 'docs/reference/file-format.md'), 'utf8')

/** The rows of the section's table: the cells of each, without the marks of code. */
function rowsOf(section: string): string[][] {
  const text = page.split(/^## /m).find((part) => part.startsWith(`${section}\n`))!
  const [, , ...rows] = text.match(/^\| .*\|$/gm)!
  return rows.map((row) =>
    row
      .slice(1, -1)
      .split('|')
      .map((cell) => cell.trim().replace(/^`(.*)`$/, '$1')),
  )
}

/** Python's SQLite, because two copies of SQLite in one process harm each other. */
const PROGRAM = `
import json, sqlite3, sys
db = sqlite3.connect(f"file:{sys.argv[1]}?mode=ro", uri=True)
db.row_factory = sqlite3.Row
rows = db.execute(sys.argv[2]).fetchall()
print(json.dumps([dict(row) for row in rows]))
db.close()
`

/** What a statement returns. */
function query(path: string, statement: string): Record<string, unknown>[] {
  return JSON.parse(execFileSync('python3', ['-c', PROGRAM, path, statement], { encoding: 'utf8' }))
}

/** A file that is in use, by locks of all kinds and by a waiter. */
async function used(): Promise<{ path: string; locks: LockManager }> {
  const path = join(tempDir(), 'locks.sqlite')
  const locks = closing(new LockManager({ local: path }))
  const { resource } = await locks.acquire('held', { ttlMs: 60_000 })
  void locks.acquire(resource, { waitMs: 60_000, fair: true }).catch(() => undefined)
  await (await locks.acquire('for a while', { minHoldMs: 60_000 })).release()
  await (await locks.acquire('given', { ttlMs: 60_000 })).handOver()
  await (await locks.acquire('free')).release()
  await eventually('a fair waiter is queued', async () => query(path, 'SELECT * FROM queue').length === 1)
  return { path, locks }
}

describe('docs/reference/file-format.md', () => {
  it('has every table and column', async () => {
    const { path } = await used()
    const tables = [...page.matchAll(/^## Table `(\w+)`$/gm)].map(([, name]) => name!)
    const schema = query(path, "SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name")
    expect(schema.map(({ name }) => name)).toEqual(tables.toSorted())
    for (const table of tables) {
      const columns = query(path, `SELECT name, type FROM pragma_table_info('${table}')`)
      const described = rowsOf(`Table \`${table}\``).map(([name, type]) => ({ name, type }))
      expect(described).toEqual(columns)
    }
  })

  it('has the pragmas', async () => {
    const { path } = await used()
    for (const [name, value] of rowsOf('Pragmas')) {
      const rows = query(path, `SELECT * FROM pragma_${name}`)
      expect(Object.values(rows[0]!).map(String)).toEqual([value!.split(' ')[0]])
    }
    // The page has it as a number and, in brackets, as text.
    const id = rowsOf('Pragmas').find(([name]) => name === 'application_id')![1]
    const [, number, letters] = /^(\d+) \(`(\w+)`\)$/.exec(id!)!
    expect(Buffer.from(letters!).readInt32BE()).toBe(Number(number))
  })

  it('has every file', async () => {
    const { path } = await used()
    const patterns = rowsOf('The files').map(([name, , when]) => ({
      name: name!,
      // What is there for a moment, or elsewhere only, may be missing here.
      isUsual: !/moment|network/.test(when!),
      pattern: new RegExp(
        `^${name!.replaceAll('.', '\\.').replace('<nonce>', '[0-9a-f]{16}').replaceAll(/<\w+>/g, '\\d+')}$`,
      ),
    }))
    const files = readdirSync(join(path, '..'))
    const unknown = files.filter((file) => patterns.filter(({ pattern }) => pattern.test(file)).length !== 1)
    expect(unknown).toEqual([])
    const missing = patterns.filter(
      ({ pattern, isUsual }) => isUsual && !files.some((file) => pattern.test(file)),
    )
    expect(missing.map(({ name }) => name)).toEqual([])
  })

  it('has the parts of a holder', async () => {
    const { path } = await used()
    const ranges = rowsOf('Holder').map(([bytes]) => bytes!.split(' to ').map(Number))
    // Without a gap, from the first byte.
    ranges.forEach(([from], index) => expect(from).toBe(index === 0 ? 0 : ranges[index - 1]![1]! + 1))
    const [withMinimum, without] = [ranges.at(-1)![1]! + 1, ranges.at(-2)![1]! + 1]
    const rows = query(path, 'SELECT resource, length(holder) AS bytes FROM leases ORDER BY resource')
    expect(rows).toEqual([
      { resource: 'for a while', bytes: withMinimum },
      { resource: 'free', bytes: null },
      { resource: 'given', bytes: without },
      { resource: 'held', bytes: without },
    ])
  })

  it('shows a statement that works', async () => {
    const { path, locks } = await used()
    const block = blocksOf('docs/reference/file-format.md').find(({ language }) => language === 'sql')
    const before = (await locks.inspect('held'))!
    const rows = query(path, block!.code)
    const info = (await locks.inspect('held'))!
    const row = rows.find(({ resource }) => resource === 'held')!
    expect(row).toMatchObject({ owner: info.owner, token: Number(info.token) })
    expect(Number(row.remaining_ms)).toBeLessThanOrEqual(before.remainingMs + 100)
    expect(Number(row.remaining_ms)).toBeGreaterThanOrEqual(info.remainingMs - 100)
    expect(rows.map(({ resource }) => resource)).not.toContain('free')
  })
})
