/** All guards, without a database: loading, options, and the text of fenced updates. */
import { StaleTokenError } from 'fencelock'
import type { SqlAnswer, SqlGuard } from 'fencelock/guard'
import * as guards from 'fencelock/guard'
import { createRequire } from 'node:module'
import { describe, expect, it } from 'vitest'

import { rejection } from '../fixtures/locks'
import { runCode } from '../fixtures/processes/processes'

const { fencedUpdate, fencingHeaders, mysqlGuard, postgresGuard, redisGuard, sqliteGuard } = guards

describe('the entry point', () => {
  it('works without the addon', async () => {
    const { stdout, stderr } = await runCode(`
      const { createRequire } = await import('node:module')
      const require = createRequire(process.cwd() + '/x.js')
      const guard = require('fencelock/guard')
      const error = await guard.sqliteGuard({ client: { exec() {}, prepare() { return { all: () => [] } } } }).highWater('a')
      say({ error, loaded: Object.keys(require.cache).filter((file) => /native.load\\.js$|\\.node$|manager\\.js$|npm.@?fencelock/.test(file)) })
    `)
    expect(stderr).toBe('')
    expect(JSON.parse(stdout)).toEqual({ error: null, loaded: [] })
  })

  it('is one instance for import and require, with named exports for both', async () => {
    const { stdout, stderr } = await runCode(`
      const { createRequire } = await import('node:module')
      const required = createRequire(process.cwd() + '/x.js')('fencelock/guard')
      const imported = await import('fencelock/guard')
      const main = await import('fencelock')
      say({
        same: Object.keys(required).every((name) => imported[name] === required[name]),
        names: Object.keys(imported).filter((name) => name !== 'default' && name !== 'module.exports').sort(),
        error: main.StaleTokenError === required.StaleTokenError,
      })
    `)
    expect(stderr).toBe('')
    const { same, names, error } = JSON.parse(stdout) as { same: boolean; names: string[]; error: boolean }
    expect({ same, error }).toEqual({ same: true, error: true })
    const cjs = createRequire(import.meta.url)('../../guard/index.js') as object
    expect(names).toEqual(Object.keys(cjs).toSorted())
  })

  it('shares its error classes with the main entry point', () => {
    expect(guards.StaleTokenError).toBe(StaleTokenError)
  })
})

describe('options of a guard', () => {
  // A client that is recognized, and never called.
  const unused = () => {
    throw new Error('was called')
  }
  const client: any = Object.assign(unused, { begin: unused, unsafe: unused })
  const refusals: [string, unknown, string][] = [
    ['TypeError', undefined, 'options must be an object, got undefined'],
    ['TypeError', null, 'options must be an object, got null'],
    ['TypeError', {}, 'a guard takes a client or an adapter'],
    ['TypeError', { client, adapter: {} }, 'a guard takes a client or an adapter'],
    ['TypeError', { adapter: { transaction() {} } }, 'adapter must have the methods transaction and query'],
    [
      'TypeError',
      { adapter: 1 },
      'adapter must have the methods transaction and query, see SqlAdapter, got a number',
    ],
    ['TypeError', { client: 'postgres://user:secret@host' }, 'client must be a '],
    ['TypeError', { client: {} }, 'for another client pass an adapter, see SqlAdapter'],
    ['TypeError', { client: null }, 'got null'],
    ['TypeError', { client, tabel: 'a' }, 'unknown option "tabel" in options; did you mean "table"?'],
    [
      'TypeError',
      { client, nonsense: 1 },
      'known are client, adapter, table, schema, abortOnLoss, isolation',
    ],
    ['TypeError', { client, table: 5 }, 'table must be a string, got a number'],
    ['RangeError', { client, table: '' }, 'table must be the name of a table or schema'],
    ['RangeError', { client, table: 'a\0b' }, 'without NUL'],
    ['RangeError', { client, table: 'x'.repeat(65) }, 'of at most'],
    ['RangeError', { client, schema: '' }, 'schema must be the name'],
    ['TypeError', { client, table: '\uD800' }, 'well-formed Unicode'],
    ['TypeError', { client, abortOnLoss: 1 }, 'abortOnLoss must be true or false, got a number'],
    ['RangeError', { client, isolation: 'serialisable' }, 'did you mean "serializable"?'],
    ['TypeError', { client, isolation: 3 }, 'isolation must be "read uncommitted", '],
  ]

  it.each(refusals)('rejects: %s for %o', (type, options, message) => {
    for (const guard of [postgresGuard, mysqlGuard] as ((given: unknown) => unknown)[]) {
      let error: any
      try {
        guard(options)
      } catch (thrown) {
        error = thrown
      }
      expect(error).toMatchObject({
        name: type,
        code: 'INVALID_OPTION',
        message: expect.stringContaining(message),
      })
      expect(error.message).not.toContain('secret')
    }
  })

  it('says so when the client itself is given for the options', () => {
    const pool = { totalCount: 0, query: unused, connect: unused, _events: {} }
    for (const [name, guard, given] of [
      ['postgresGuard', postgresGuard, pool],
      ['postgresGuard', postgresGuard, client],
      ['mysqlGuard', mysqlGuard, { execute: unused, getConnection: unused, pool: {} }],
      ['sqliteGuard', sqliteGuard, { exec: unused, prepare: unused, name: 'data.sqlite' }],
      ['redisGuard', redisGuard, { evalsha: unused, eval: unused, options: {} }],
      ['redisGuard', redisGuard, { evalSha: unused, eval: unused }],
      ['redisGuard', redisGuard, { send: unused, bufferedAmount: 0 }],
    ] as [string, (options: unknown) => unknown, unknown][]) {
      expect(() => guard(given)).toThrow(
        expect.objectContaining({
          code: 'INVALID_OPTION',
          message: `${name} takes options, not the client itself: ${name}({ client })`,
        }),
      )
    }
  })

  it('are not read from Object.prototype', () => {
    const everywhere = Object.prototype as Record<string, unknown>
    everywhere.table = 'polluted'
    everywhere.prefix = 'polluted'
    everywhere.resources = ['polluted']
    try {
      expect(postgresGuard({ client }).ddl()).toContain('"fencelock_fences"')
      const redis: any = { evalsha: unused, eval: unused }
      expect(redisGuard({ client: redis }).fenceKey('a')).toBe('fencelock:guard{a}:a')
      expect(fencingHeaders({ resource: 'a', token: 1n })['Fencing-Resource']).toBe('a')
    } finally {
      for (const key of ['table', 'prefix', 'resources']) delete everywhere[key]
    }
  })

  it('has no isolation level for SQLite', () => {
    const db: any = { exec: unused, prepare: unused }
    expect(() => sqliteGuard({ client: db, isolation: 'serializable' } as any)).toThrow(
      'unknown option "isolation"',
    )
    expect(() => sqliteGuard({ client } as any)).toThrow(
      'client must be a database of better-sqlite3, node:sqlite or bun:sqlite, got a function',
    )
  })

  it('quotes schema and table', () => {
    expect(postgresGuard({ client, schema: 'a"b', table: 'c.d' }).ddl()).toBe(
      'CREATE TABLE IF NOT EXISTS "a""b"."c.d" (resource bytea PRIMARY KEY, token bigint NOT NULL, owner bigint, owner_token bigint)',
    )
    expect(mysqlGuard({ client, schema: 'a`b', table: 'c.d' }).ddl()).toBe(
      'CREATE TABLE IF NOT EXISTS `a``b`.`c.d` (resource VARBINARY(512) NOT NULL PRIMARY KEY, token BIGINT NOT NULL, owner BIGINT, owner_token BIGINT) ENGINE=InnoDB',
    )
  })
})

describe('an adapter that does not return answers', () => {
  it.each([
    undefined,
    null,
    {},
    { rows: [] },
    { rows: [{ resource: '61', token: '4' }] },
    { rows: [{ resource: '62', token: '5' }] },
  ])('is an error, and the callback is not called: %o', async (answer) => {
    const adapter = {
      transaction: <T>(work: (tx: string) => Promise<T>) => work('tx'),
      query: async () => answer as SqlAnswer,
    }
    for (const guard of [mysqlGuard({ adapter }), postgresGuard({ adapter }), sqliteGuard({ adapter })]) {
      let called = false
      const outcome = guard.run({ resource: 'a', token: 5n }, () => (called = true))
      await expect(outcome).rejects.toThrow('did not advance to 5')
      expect(called).toBe(false)
      if (answer === undefined || answer === null)
        await expect(guard.highWater('a')).rejects.toThrow(
          'the adapter does not return the database’s answer',
        )
    }
  })
})

it('advances several fences in the same order for all callers, so that no two wait for each other', async () => {
  const inserted = async (make: (options: any) => SqlGuard<unknown>, resources: string[]) => {
    const texts: string[] = []
    const adapter = {
      transaction: <T>(work: (tx: string) => Promise<T>) => work('tx'),
      async query(_: string, text: string) {
        texts.push(text)
        return {}
      },
    }
    await make({ adapter })
      .advance({ resources, token: 5n })
      .catch(() => {})
    return texts[0]
  }
  for (const make of [mysqlGuard, postgresGuard, sqliteGuard]) {
    const text = await inserted(make, ['b', 'é', 'a', 'B'])
    expect(text).toMatch(/^INSERT .*'42'.*'61'.*'62'.*'c3a9'/)
    expect(await inserted(make, ['é', 'B', 'b', 'a'])).toBe(text)
  }
})

describe('an answer to COMMIT', () => {
  const endOf = async (error: object) => {
    const adapter = {
      async transaction<T>(work: (tx: string) => Promise<T>): Promise<T> {
        await work('tx')
        throw Object.assign(new Error('at COMMIT'), error)
      },
      query: async () => ({ rows: [{ resource: '61', token: '5' }] }),
    }
    const outcome = postgresGuard({ adapter }).advance({ resource: 'a', token: 5n })
    return rejection<{ code: string } & Error>(outcome)
  }

  // The severity is in the server's language.
  it.each(['23505', '40001', '57014', '25P02'])('that refuses is passed on: %s', async (code) => {
    expect(await endOf({ code, severity: 'FEHLER' })).toMatchObject({ code, message: 'at COMMIT' })
  })

  it.each([
    '08006',
    '53200',
    '57P01',
    '58030',
    'XX000',
    '25P03',
    '25P04',
    '40003',
    'ECONNRESET',
    'P1017',
    undefined,
  ])('that leaves the outcome open is reported as unknown, with what to do: %s', async (code) => {
    const error = await endOf({ code, severity: 'ERROR' })
    expect(error).toMatchObject({
      code: 'OUTCOME_UNKNOWN',
      message: expect.stringContaining('Advance again under the same lock (guard.advance(lock)), then read'),
    })
  })
})

describe('a table without columns for owners', () => {
  const driver = { code: '42703', message: 'column "owner" does not exist' }
  it.each([
    ['of the driver', driver],
    ['in the cause', { message: 'Failed query: INSERT …', cause: driver }],
    [
      'of Prisma',
      {
        code: 'P2010',
        meta: { driverAdapterError: { cause: { originalCode: '42703', originalMessage: '' } } },
      },
    ],
    ['of Sequelize', { name: 'SequelizeDatabaseError', original: driver }],
    ['of TypeORM', { name: 'QueryFailedError', driverError: driver }],
  ])('is recognized by the error %s, and used without owners', async (_, error) => {
    const texts: string[] = []
    const adapter = {
      transaction: <T>(work: (tx: string) => Promise<T>) => work('tx'),
      async query(_tx: string, text: string) {
        texts.push(text)
        if (text.includes('owner')) throw Object.assign(new Error('no such column'), error)
        return { rows: [{ resource: '61', token: '5' }] }
      },
    }
    const guard = postgresGuard({ adapter })
    const lock = { resource: 'a', token: 5n, owner: 'x' }
    let calls = 0
    await guard.run(lock, () => calls++)
    await guard.run(lock, () => calls++)
    expect(calls).toBe(2)
    // Once, and not again for each call.
    expect(texts.map((text) => text.includes('owner'))).toEqual([true, false, false])
    // A callback that fails in the same way is not repeated.
    const own = Object.assign(new Error('mine'), error)
    expect(await rejection(postgresGuard({ adapter }).run(lock, () => Promise.reject(own)))).toBe(own)
  })

  it('is looked at again after five minutes, and at once after a migration', () => {
    const { FenceTable } = createRequire(import.meta.url)('../../guard/sql/fence-table.js')
    let now = 0
    const dialect = { fence: () => '', select: () => '', isMissingColumn: () => true }
    const table = new FenceTable(dialect, () => now)
    const lease = { names: ['a'], token: 5n, owner: 'ffffffffffffffff' }
    const first = table.fence(lease)
    expect(first.hasOwner).toBe(true)
    expect(table.lacksOwners(first, new Error('missing'))).toBe(true)
    const next = table.fence(lease)
    expect(next.hasOwner).toBe(false)
    expect(table.lacksOwners(next, new Error('missing'))).toBe(false)
    now = 299_999
    expect(table.fence(lease).hasOwner).toBe(false)
    now = 300_000
    expect(table.lacksOwners(table.fence(lease), new Error('missing'))).toBe(true)
    expect(table.fence(lease).hasOwner).toBe(false)
    table.migrated()
    expect(table.fence(lease).hasOwner).toBe(true)
  })
})

it('does not block the event loop for long when SQLite is locked', async () => {
  let tries = 0
  const client = {
    exec() {
      tries++
      // Like a driver with a busy timeout.
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 300)
      throw Object.assign(new Error('database is locked'), { code: 'SQLITE_BUSY' })
    },
    prepare() {},
  }
  const guard = sqliteGuard({ client })
  for (const call of [() => guard.advance({ resource: 'a', token: 1n }), () => guard.migrate()]) {
    tries = 0
    expect(await rejection(call())).toMatchObject({ code: 'SQLITE_BUSY' })
    expect(tries).toBeGreaterThan(1)
    // For two seconds.
    expect(tries).toBeLessThan(10)
  }
})

describe('fencedUpdate', () => {
  const update = { table: 't', set: { a: 1, b: null }, where: { id: 7, of: 'x' }, token: 5n }

  it.each([
    [
      'postgres',
      'UPDATE "t" SET "a" = $1, "b" = $2, "fence" = CAST($3 AS bigint) WHERE "id" = $4 AND "of" = $5 AND "fence" <= CAST($6 AS bigint)',
    ],
    [
      'mysql',
      'UPDATE `t` SET `a` = ?, `b` = ?, `fence` = CAST(? AS SIGNED) WHERE `id` = ? AND `of` = ? AND `fence` <= CAST(? AS SIGNED)',
    ],
    [
      'sqlite',
      'UPDATE "t" SET "a" = ?, "b" = ?, "fence" = CAST(? AS INTEGER) WHERE "id" = ? AND "of" = ? AND "fence" <= CAST(? AS INTEGER)',
    ],
  ] as const)('%s', (dialect, text) => {
    expect(fencedUpdate(dialect, update)).toEqual({ text, values: [1, null, '5', 7, 'x', '5'] })
  })

  it('finds a table in another schema', () => {
    expect(fencedUpdate('mysql', { ...update, schema: 'a`b' }).text).toMatch(/^UPDATE `a``b`\.`t` SET /)
    expect(fencedUpdate('sqlite', { ...update, schema: 'other' }).text).toMatch(/^UPDATE "other"\."t" SET /)
  })

  it.each([
    ['oracle', update, 'dialect must be "postgres", "mysql" or "sqlite"'],
    ['postgres', null, 'options must be an object, got null'],
    ['postgres', { ...update, shema: 'a' }, 'did you mean "schema"?'],
    ['postgres', { ...update, where: { id: null } }, 'where.id must be a value, got null'],
    ['postgres', { ...update, schema: '' }, 'schema must be the name'],
    ['postgres', { ...update, token: 5 }, 'token must be a bigint, got a number'],
    [
      'postgres',
      { ...update, token: 0n },
      'token must be from 1n to 9223372036854775807n (2^63 - 1), got 0n',
    ],
    ['postgres', { ...update, set: {} }, 'set must name a column'],
    ['postgres', { ...update, where: {} }, 'where must name a column'],
    ['postgres', { ...update, where: [1] }, 'where must be an object of columns and values, got an array'],
    ['postgres', { ...update, table: '' }, 'table must be the name of a column or table'],
    ['postgres', { ...update, set: { 'a\0': 1 } }, 'without NUL'],
    ['postgres', { ...update, fence: 1 }, 'fence must be a string, got a number'],
  ])('rejects: %s %o', (dialect, options, message) => {
    expect(() => fencedUpdate(dialect as 'mysql', options as typeof update)).toThrow(
      expect.objectContaining({ code: 'INVALID_OPTION', message: expect.stringContaining(message) }) as Error,
    )
  })
})
