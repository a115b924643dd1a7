/** The guard of MySQL and MariaDB, with each of its clients, against MariaDB. */
import { fencedUpdate, mysqlGuard } from 'fencelock/guard'
import { beforeAll, describe, expect, it } from 'vitest'

import drivers from '../../scripts/sql-clients/drivers.mjs'
import { onCleanup } from '../fixtures/cleanup'
import { rejection, unique } from '../fixtures/locks'
import { onBun } from '../fixtures/processes/runtimes'
import { hasMariadb, startMariadb, type SqlServer } from '../fixtures/servers/sql-servers'
import { eventually, sleep } from '../fixtures/temp'
import {
  brokenSuite,
  exampleSuite,
  guardSuite,
  open,
  ownerSuite,
  prepare,
  poolSuite,
  raceTokens,
  roundTrips,
  row,
  setTo,
  singleSuite,
  storySuite,
  valueOf,
} from './suite'

if (!hasMariadb) console.warn('SKIPPED: MariaDB is not installed (apt install mariadb-server)')

const pools = ['mysql2', 'mariadb', ...(onBun ? ['Bun.sql (MySQL)'] : [])]
const connections = ['mysql2 connection', 'mariadb connection']
/** Answers do not contain the word COMMIT. The server executes a statement that has arrived completely. */
const committed = { text: 'COMMIT', in: 'toServer', deliver: 'through' } as const
/** innodb_trx is a cache: for this long after it was last read, it shows the same. */
const STALE_MS = 150

describe.skipIf(!hasMariadb)('MariaDB', () => {
  let running: SqlServer
  beforeAll(async () => {
    running = await startMariadb()
  }, 60_000)
  const server = (): SqlServer => running

  describe.each([...pools, 'mysql2 with callbacks', ...connections])('with %s', (client) => {
    guardSuite({ client, server })
    describe('owners of equal tokens', () => {
      ownerSuite({ client, server })
    })
  })
  describe.each(connections)('one %s', (client) => {
    singleSuite({ client, server })
  })
  describe.each(pools)('pool of %s', (client) => {
    poolSuite({ client, server })
  })
  describe('several processes', () => {
    storySuite({ client: 'mysql2', server }, 10_000)
  })
  describe.each(pools)('broken connections of %s', (client) => {
    brokenSuite({ client, server }, committed)
  })

  describe.each(['read uncommitted', 'read committed', 'repeatable read', 'serializable'])(
    'isolation: %s',
    (isolation) => {
      it.each(pools.slice(0, 2))('%s: tokens only rise, and commits are in their order', async (client) => {
        const { client: opened } = await prepare({ client, server })
        await raceTokens(opened, { isolation })
      })

      it.each(pools.slice(0, 2))('%s: has that level, for this transaction only', async (client) => {
        const opened = await open({ client, server })
        await opened.guard().migrate()
        const level = async (tx: any) => {
          await sleep(STALE_MS)
          return opened.rows(
            tx,
            'SELECT trx_isolation_level AS level FROM information_schema.innodb_trx WHERE trx_mysql_thread_id = CONNECTION_ID()',
          )
        }
        const run = (options: object) => opened.guard(options).run({ resource: unique(), token: 1n }, level)
        expect((await run({ isolation }))[0]).toEqual({ level: isolation.toUpperCase() })
        expect((await run({}))[0]).toEqual({ level: 'REPEATABLE READ' })
      })
    },
  )

  it.each(pools)('%s: a deadlock at the fence is retried', async (client) => {
    const { client: opened, guard } = await prepare({ client, server })
    const [a, b] = [unique('a'), unique('b')]
    await guard.advance({ resources: [a, b], token: 1n })
    const id = await row(opened)
    const fenceOf = (name: string): string =>
      `UPDATE fencelock_fences SET token = token WHERE resource = X'${Buffer.from(name).toString('hex')}'`
    let calls = 0
    let other: Promise<unknown> | undefined
    // Ours holds b and then asks for a; the guard holds a and waits for b: a deadlock. The server ends the
    // transaction that has changed less.
    await guard.run({ resource: unique(), token: 1n }, async (tx: any) => {
      for (let i = 0; i < 50; i++) await opened.rows(tx, `INSERT INTO data VALUES ('${unique()}', ${i})`)
      await opened.rows(tx, fenceOf(b))
      other = guard.run({ resources: [a, b], token: 2n }, (inner: any) => {
        calls++
        return opened.rows(inner, setTo(id, 2))
      })
      await eventually('it waits', async () => {
        await sleep(STALE_MS)
        const waiting = await opened.direct(
          "SELECT 1 AS found FROM information_schema.innodb_trx WHERE trx_state = 'LOCK WAIT'",
        )
        return waiting.length > 0
      })
      await opened.rows(tx, fenceOf(a))
    })
    await other
    expect(calls).toBe(1)
    expect(await valueOf(opened, id)).toBe(2)
    const [{ Value: deadlocks }] = await opened.direct("SHOW GLOBAL STATUS LIKE 'Innodb_deadlocks'")
    expect(Number(deadlocks)).toBeGreaterThan(0)
  })

  it.each(
    [...pools, ...connections].flatMap((client) => [[client, 'caught'] as const, [client, 'threw'] as const]),
  )(
    '%s: reports a deadlock whose error the callback %s: something may have been written only if it was caught',
    async (client, did) => {
      const { client: opened, guard } = await prepare({ client, server })
      const other = await open({ client: 'mysql2', server })
      const [a, b] = [await row(opened), await row(opened)]
      let caught: any
      let begin = () => {}
      const begun = new Promise<void>((resolve) => (begin = resolve))
      const error = await rejection(
        guard.run({ resource: a, token: 1n }, async (tx: any) => {
          await opened.rows(tx, setTo(a, 1))
          // It has changed more, so the server ends ours.
          const circle = other.transaction(async (theirs) => {
            for (let i = 0; i < 50; i++)
              await other.rows(theirs, `INSERT INTO data VALUES ('${unique()}', ${i})`)
            await other.rows(theirs, setTo(b, 7))
            const waiting = other.rows(theirs, setTo(a, 7))
            begin()
            await waiting
          })
          await begun
          await sleep(100)
          await opened.rows(tx, setTo(b, 1)).catch((thrown: unknown) => (caught = thrown))
          await circle
          if (did === 'threw') throw caught
          await opened.rows(tx, setTo(b, 2))
        }),
      )
      expect(caught.message).toContain('Deadlock')
      expect(await guard.highWater(a)).toBe(null)
      if (did === 'threw') return expect(error).toBe(caught)
      expect(error).toMatchObject({
        code: 'OUTCOME_UNKNOWN',
        message: expect.stringContaining('a deadlock whose error was caught'),
      })
    },
  )

  it.each([...pools, ...connections])('%s: reports a callback that changes tables', async (client) => {
    const opened = await open({ client, server })
    const guard = opened.guard()
    await guard.migrate()
    const table = unique('t').slice(0, 30)
    const error = await rejection(
      guard.run({ resource: unique(), token: 1n }, (tx: any) =>
        opened.rows(tx, `CREATE TABLE \`${table}\` (a int)`),
      ),
    )
    expect(error).toMatchObject({
      code: 'OUTCOME_UNKNOWN',
      message: expect.stringContaining('a CREATE or ALTER'),
    })
  })

  it('stores tokens of several resources in tables of InnoDB only', async () => {
    const opened = await open({ client: 'mysql2', server })
    await opened.direct("SET GLOBAL default_storage_engine = 'MyISAM'")
    onCleanup(() => opened.direct('SET GLOBAL default_storage_engine = InnoDB'))
    const later = await open({ client: 'mysql2', server })
    const guard = later.guard({ table: 'engine' })
    await guard.migrate()
    const [{ ENGINE: engine }] = await later.direct(
      "SELECT ENGINE FROM information_schema.tables WHERE table_name = 'engine'",
    )
    expect(engine).toBe('InnoDB')
  })

  it('works with rows as arrays, numbers as strings, and other settings of clients', async () => {
    const odd = [
      drivers.mysql.createPool({
        ...server(),
        rowsAsArray: true,
        supportBigNumbers: true,
        bigNumberStrings: true,
      }),
      drivers.mariadb.createPool({
        ...server(),
        rowsAsArray: true,
        insertIdAsNumber: true,
        bigIntAsNumber: true,
      }),
      drivers.mariadb.createPool({ ...server(), pipelining: false, metaAsArray: true }),
    ]
    for (const client of odd) {
      const guard = mysqlGuard({ client: client as any })
      const [a, b] = [unique(), unique()]
      await guard.advance({ resources: [a, b], token: 2n ** 53n + 1n })
      await guard.advance({ resource: a, token: 2n ** 53n + 3n })
      expect(await guard.highWater(a)).toBe(2n ** 53n + 3n)
      expect(await rejection(guard.advance({ resource: a, token: 2n ** 53n + 2n }))).toMatchObject({
        code: 'STALE_TOKEN',
      })
    }
    await Promise.all(odd.map((client) => client.end()))
  })

  describe('examples', () => {
    exampleSuite('mysql', {
      client: () => open({ client: 'mysql2', server }),
      url: () => `mysql://${running.user}:${running.password}@127.0.0.1:${running.port}/${running.database}`,
    })
  })

  it.each([
    ['mysql2', () => drivers.mysql.createPool(server()), (result: any) => result[0].affectedRows],
    ['mariadb', () => drivers.mariadb.createPool(server()), (result: any) => result.affectedRows],
  ])(
    '%s: fencedUpdate changes the row of an equal or lower fence, and no other',
    async (_, create: () => any, affected) => {
      const pool = create()
      onCleanup(() => pool.end())
      await pool.query(
        'CREATE OR REPLACE TABLE `odd ``name` (id VARCHAR(9), `a b` TEXT, fence BIGINT NOT NULL DEFAULT 0)',
      )
      await pool.query("INSERT INTO `odd ``name` (id) VALUES ('x'), ('y')")
      const update = async (token: bigint): Promise<number> => {
        const set = { 'a b': String(token) }
        const { text, values } = fencedUpdate('mysql', { table: 'odd `name', set, where: { id: 'x' }, token })
        return affected(await pool.execute(text, values))
      }
      expect([await update(10n), await update(10n), await update(9n)]).toEqual([1, 1, 0])
      expect([await update(2n ** 63n - 1n), await update(2n ** 63n - 2n)]).toEqual([1, 0])
    },
  )

  it('rejects the callback API of mariadb, whose results cannot be awaited', () => {
    expect(() =>
      mysqlGuard({
        client: { query() {}, batch() {}, getConnection() {}, constructor: class PoolCallback {} } as any,
      }),
    ).toThrow('client must be a pool or connection of mysql2 or of mariadb (its promise API), or Bun.sql')
  })

  it.each([
    ['mysql2', 4, 5],
    ['mysql2 connection', 4, 5],
    // A pool opens connections in the background, which would count.
    ['mariadb connection', 3, 3],
    ...(onBun ? [['Bun.sql (MySQL)', 4, 5] as const] : []),
  ] as const)(
    '%s: costs at most one round trip more than the caller’s own transaction, with several resources another one',
    async (client, guarded, ofTwo) => {
      expect(await roundTrips({ client, server })).toEqual({ own: 3, guarded, ofTwo })
    },
  )
})
