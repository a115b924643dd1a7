/** The guard of SQLite, with each of the drivers that this runtime has. */
import { LockManager, type StaleTokenError } from 'fencelock'
import { fencedUpdate, sqliteGuard } from 'fencelock/guard'
import { join } from 'node:path'
import { beforeAll, describe, expect, it } from 'vitest'

import { TABLE, type Client } from '../../scripts/sql-clients/index.mjs'
import { closing, rejection, unique } from '../fixtures/locks'
import { onBun } from '../fixtures/processes/runtimes'
import { sleep, tempDir } from '../fixtures/temp'
import { exampleSuite, guardSuite, open, ownerSuite, row, setTo, storySuite, valueOf } from './suite'

const [major = 0] = process.versions.node.split('.').map(Number)
// better-sqlite3 13 and node:sqlite need Node 22; before it, better-sqlite3 would crash the process.
const drivers = onBun ? ['bun:sqlite'] : major >= 22 ? ['better-sqlite3', 'node:sqlite'] : []

const onBunWithoutNodeSqlite = process.versions.bun?.startsWith('1.2.') ?? false

if (drivers.length === 0)
  console.warn(
    `SKIPPED: no SQLite driver for Node ${process.versions.node}; the newest Node and Bun run these tests`,
  )

describe.skipIf(drivers.length === 0).each(drivers.length > 0 ? drivers : ['none'])(
  'SQLite with %s',
  (driver) => {
    let file: string
    let client: Client
    let guard: any
    beforeAll(async () => {
      file = join(tempDir(), 'data.sqlite')
      client = await open(subject)
      guard = client.guard()
      guard.migrateSync()
      client.direct(TABLE)
    })
    const subject = { client: driver, server: () => file, sync: true }
    const set = (id: string, value: number) => (db: any) => client.rows(db, setTo(id, value))

    guardSuite(subject)
    describe('owners of equal tokens', () => {
      ownerSuite(subject)
    })
    describe('several processes', () => {
      storySuite(subject, 10_000)
    })

    // The oldest Bun has no node:sqlite.
    describe.skipIf(driver === 'better-sqlite3' || onBunWithoutNodeSqlite)('examples', () => {
      exampleSuite('sqlite', {})
    })

    it('fencedUpdate changes only a row with an equal or lower fence', () => {
      // In a column without a type, text and numbers compare by their kind: hence the casts.
      client.direct('CREATE TABLE "odd ""name" (id TEXT, "a b" TEXT, fence NOT NULL DEFAULT 0)')
      client.direct(`INSERT INTO "odd ""name" (id) VALUES ('x'), ('y')`)
      const update = (token: bigint): number => {
        const change = { 'a b': String(token) }
        const { text, values } = fencedUpdate('sqlite', {
          table: 'odd "name',
          set: change,
          where: { id: 'x' },
          token,
        })
        return Number(client.change?.(text, values))
      }
      expect([update(10n), update(10n), update(9n)]).toEqual([1, 1, 0])
      expect([update(2n ** 63n - 1n), update(2n ** 63n - 2n)]).toEqual([1, 0])
    })

    it('does all of it without promises as well', async () => {
      const id = await row(client)
      expect(guard.highWaterSync(id)).toBe(null)
      guard.advanceSync({ resource: id, token: 2n })
      expect(guard.runSync({ resource: id, token: 2n }, (db: any) => (set(id, 2)(db), 'done'))).toBe('done')
      expect(guard.highWaterSync(id)).toBe(2n)
      expect(() => guard.runSync({ resource: id, token: 1n }, set(id, 1))).toThrow(
        expect.objectContaining({ code: 'STALE_TOKEN', token: 1n, current: 2n }) as StaleTokenError,
      )
      expect(await valueOf(client, id)).toBe(2)
    })

    it('rejects an async function before it runs, and rolls back what turned out to be asynchronous', async () => {
      const id = await row(client)
      let called = false
      const expected = { code: 'INVALID_OPTION', message: expect.stringContaining('must be synchronous') }
      const early = guard.run({ resource: id, token: 1n }, async () => {
        called = true
      })
      expect(await rejection(early)).toMatchObject(expected)
      expect(called).toBe(false)
      const late = guard.run({ resource: id, token: 1n }, (db: any) => {
        set(id, 1)(db)
        return Promise.reject(new Error('not reported'))
      })
      expect(await rejection(late)).toMatchObject(expected)
      expect(guard.highWaterSync(id)).toBe(null)
      expect(await valueOf(client, id)).toBe(0)
    })

    it.runIf(driver === 'node:sqlite')('works with a database that returns arrays and bigints', async () => {
      // The type checker knows it only in newer runtimes.
      const { DatabaseSync } = await import(/* @vite-ignore */ driver)
      const db = new DatabaseSync(':memory:', { returnArrays: true, readBigInts: true })
      const arrays = sqliteGuard({ client: db }) as any
      arrays.migrateSync()
      arrays.advanceSync({ resources: ['a', 'b'], token: 7n })
      expect(arrays.highWaterSync('b')).toBe(7n)
      expect(() => arrays.advanceSync({ resource: 'a', token: 6n })).toThrow('the data has seen 7')
      db.close()
    })

    it('rejects a connection that is in a transaction already', () => {
      client.direct('BEGIN')
      const advance = () => guard.advanceSync({ resource: 'a', token: 1n })
      expect(advance).toThrow('in a transaction already')
      client.direct('ROLLBACK')
      advance()
    })

    it('detects the end of the transaction with a client that does not report it', async () => {
      // Like an early node:sqlite.
      const blind = sqliteGuard({
        client: {
          exec: (text: string) => client.direct(text),
          prepare: (text: string) => ({ all: () => client.all?.(text) }),
        },
      })
      const id = await row(client)
      const ends = () => ['COMMIT', setTo(id, 1)].forEach((text) => client.direct(text))
      expect(await rejection(blind.run({ resource: id, token: 1n }, ends))).toMatchObject({
        code: 'OUTCOME_UNKNOWN',
        message: expect.stringContaining('had ended before its callback did'),
      })
      expect(await valueOf(client, id)).toBe(1)
      blind.runSync({ resource: id, token: 2n }, () => client.direct(setTo(id, 2)))
      expect(blind.highWaterSync(id)).toBe(2n)
    })

    it('waits for another connection that has the database locked, and then sees its token', async () => {
      const other = await open(subject)
      client.direct('PRAGMA busy_timeout = 1')
      const id = await row(client)
      other.direct('BEGIN IMMEDIATE')
      const run = guard.run({ resource: id, token: 1n }, set(id, 1))
      await sleep(50)
      other.direct(
        `INSERT INTO fencelock_fences (resource, token) VALUES (X'${Buffer.from(id).toString('hex')}', 5)`,
      )
      other.direct('COMMIT')
      expect(await rejection(run)).toMatchObject({ code: 'STALE_TOKEN', token: 1n, current: 5n })
      other.direct('BEGIN IMMEDIATE')
      expect(() => guard.runSync({ resource: id, token: 5n }, set(id, 1))).toThrow(/locked|busy/i)
      other.direct('COMMIT')
      expect(await valueOf(client, id)).toBe(0)
      client.direct('PRAGMA busy_timeout = 2000')
    })

    it('a COMMIT that SQLite refuses rejects with its error: nothing was written', async () => {
      client.direct('PRAGMA foreign_keys = ON')
      client.direct('CREATE TABLE parent (id INTEGER PRIMARY KEY)')
      client.direct('CREATE TABLE child (of INTEGER REFERENCES parent DEFERRABLE INITIALLY DEFERRED)')
      const resource = unique()
      const error = await rejection(
        guard.run({ resource, token: 1n }, (db: any) => client.rows(db, 'INSERT INTO child VALUES (7)')),
      )
      expect(error.message).toMatch(/FOREIGN KEY/)
      expect(guard.highWaterSync(resource)).toBe(null)
      expect(await client.direct('SELECT * FROM child')).toHaveLength(0)
    })

    it('works with a lock of this package', async () => {
      const locks = closing(new LockManager({ local: join(tempDir(), 'locks.sqlite') }))
      const lock = await locks.acquireLocal(await row(client))
      await guard.run(lock, set(lock.resource, 9))
      expect(await valueOf(client, lock.resource)).toBe(9)
      expect(guard.highWaterSync(lock.resource)).toBe(lock.token)
    })

    it('accepts an asynchronous client through an adapter', async () => {
      const db = await open(subject)
      const adapter = {
        connection: db,
        async transaction<T>(work: (tx: string) => Promise<T>): Promise<T> {
          db.direct('BEGIN IMMEDIATE')
          try {
            const value = await work('tx')
            db.direct('COMMIT')
            return value
          } catch (error) {
            db.direct('ROLLBACK')
            throw error
          }
        },
        async query(tx: string, text: string) {
          expect(tx).toBe('tx')
          return { rows: db.all?.(text) }
        },
      }
      const asynchronous = sqliteGuard({ adapter, table: 'other' })
      await asynchronous.migrate()
      expect(await asynchronous.highWater('a')).toBe(null)
      const order: string[] = []
      const slow = async (tx: string): Promise<void> => {
        order.push(`${tx} begins`)
        await sleep(10)
        order.push('and ends')
      }
      await Promise.all([
        asynchronous.run({ resource: 'a', token: 3n }, slow),
        asynchronous.run({ resources: ['b', 'a'], token: 3n }, slow),
      ])
      expect(order).toEqual(['tx begins', 'and ends', 'tx begins', 'and ends'])
      expect(await rejection(asynchronous.advance({ resource: 'a', token: 2n }))).toMatchObject({
        current: 3n,
      })
    })
  },
)
