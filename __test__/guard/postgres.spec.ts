/** The guard of PostgreSQL, with each of its clients. */
import { StaleTokenError } from 'fencelock'
import { fencedUpdate, postgresGuard } from 'fencelock/guard'
import { beforeAll, describe, expect, it } from 'vitest'

import { onCleanup } from '../fixtures/cleanup'
import { rejection, unique } from '../fixtures/locks'
import { onBun } from '../fixtures/processes/runtimes'
import { hasPostgres, startPostgres, type SqlServer } from '../fixtures/servers/sql-servers'
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

if (!hasPostgres) console.warn('SKIPPED: PostgreSQL is not installed (apt install postgresql)')

const pools = ['pg', 'postgres', ...(onBun ? ['Bun.sql'] : [])]
/** The answer to a COMMIT contains the word. */
const committed = { text: 'COMMIT', in: 'toClient', deliver: 'before' } as const

describe.skipIf(!hasPostgres)('PostgreSQL', () => {
  let running: SqlServer
  beforeAll(async () => {
    running = await startPostgres()
  }, 60_000)
  const server = (): SqlServer => running
  const pg = { client: 'pg', server }

  describe.each([...pools, 'pg.Client'])('with %s', (client) => {
    guardSuite({ client, server })
    describe('owners of equal tokens', () => {
      ownerSuite({ client, server })
    })
  })
  describe('one pg.Client', () => {
    singleSuite({ client: 'pg.Client', server })
  })
  describe.each(pools)('pool of %s', (client) => {
    poolSuite({ client, server })
  })
  describe('several processes', () => {
    storySuite(pg, 10_000)
  })

  describe.each(pools)('broken connections of %s', (client) => {
    brokenSuite({ client, server }, committed)
  })

  describe.each(['read committed', 'repeatable read', 'serializable'])('isolation: %s', (isolation) => {
    it.each(pools)('%s: tokens only rise, and commits are in their order', async (client) => {
      const { client: opened } = await prepare({ client, server })
      await raceTokens(opened, { isolation })
    })

    it.each(pools)('%s: has that level', async (client) => {
      const opened = await open({ client, server })
      const guard = opened.guard({ isolation })
      await guard.migrate()
      const level = await guard.run({ resource: unique(), token: 1n }, (tx: any) =>
        opened.rows(tx, 'SHOW transaction_isolation'),
      )
      expect(level[0]).toEqual({ transaction_isolation: isolation })
    })
  })

  it.each(pools)('%s: a conflict at the fence is retried, never reported as stale', async (client) => {
    const { client: opened, guard } = await prepare({ client, server }, { isolation: 'repeatable read' })
    const resource = await row(opened)
    await guard.advance({ resource, token: 1n })
    let calls = 0
    let begin = () => {}
    // Its statement waits for the row of the first one, then finds it changed since its snapshot: 40001.
    const second = new Promise<void>((resolve) => (begin = resolve)).then(() =>
      guard.run({ resource, token: 3n }, (tx: any) => {
        calls++
        return opened.rows(tx, setTo(resource, 3))
      }),
    )
    await guard.run({ resource, token: 2n }, async () => {
      begin()
      await eventually(
        'it waits',
        async () =>
          (await opened.direct("SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'")).length > 0,
      )
    })
    await second
    expect(calls).toBe(1)
    expect(await valueOf(opened, resource)).toBe(3)
    expect(await guard.highWater(resource)).toBe(3n)
  })

  it.each(pools)('%s: a deadlock at the fence is retried', async (client) => {
    const { client: opened, guard } = await prepare({ client, server })
    const id = await row(opened)
    const [a, b] = [unique('a'), unique('b')]
    await guard.advance({ resources: [a, b], token: 1n })
    const lockFence = (tx: any, name: string) =>
      opened.rows(
        tx,
        `UPDATE fencelock_fences SET token = token WHERE resource = decode('${Buffer.from(name).toString('hex')}', 'hex')`,
      )
    let calls = 0
    let inside: Promise<unknown> | undefined
    // Ours holds b and asks for a; the guard holds a and waits for b. A transaction that has waited for a
    // second checks for a deadlock, and ends. That has to be the guard's, so ours checks later.
    await opened.transaction(async (tx) => {
      await opened.rows(tx, "SET LOCAL deadlock_timeout = '30s'")
      await lockFence(tx, b)
      inside = guard.run({ resources: [a, b], token: 2n }, (inner: any) => {
        calls++
        return opened.rows(inner, setTo(id, 2))
      })
      const waiting = async () =>
        (await opened.direct("SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'")).length > 0
      await eventually('it waits', waiting)
      await lockFence(tx, a)
    })
    await inside
    expect(calls).toBe(1)
    expect(await guard.highWater(b)).toBe(2n)
    const [{ deadlocks }] = await opened.direct(
      'SELECT deadlocks::int FROM pg_stat_database WHERE datname = current_database()',
    )
    expect(deadlocks).toBeGreaterThan(0)
  })

  it('an exhausted pool is an error of the client: nothing was written', async () => {
    const { default: drivers } = await import('../../scripts/sql-clients/drivers.mjs')
    const pool = new drivers.pg.Pool({ ...server(), max: 1 })
    onCleanup(() => pool.end())
    const guard = postgresGuard({ client: pool })
    const resource = unique()
    const taken = await pool.connect()
    // Not before: a busy machine may need longer to connect.
    pool.options.connectionTimeoutMillis = 200
    const error = await rejection(guard.advance({ resource, token: 1n }))
    expect(error.message).toContain('timeout exceeded when trying to connect')
    expect(error).not.toMatchObject({ code: 'OUTCOME_UNKNOWN' })
    taken.release()
    expect(await guard.highWater(resource)).toBe(null)
  })

  it('a conflict after the fence is passed on: the callback is called once', async () => {
    const client = await open(pg)
    const guard = client.guard()
    let calls = 0
    const error = await rejection<{ code: string } & Error>(
      guard.run({ resource: unique(), token: 1n }, (tx: any) => {
        calls++
        return tx.query("DO $$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = '40001'; END $$")
      }),
    )
    expect(error.code).toBe('40001')
    expect(calls).toBe(1)
  })

  it('a COMMIT that the server answers with an error rejects with that error', async () => {
    const client = await open(pg)
    await client.direct('CREATE TABLE IF NOT EXISTS deferred (a int UNIQUE DEFERRABLE INITIALLY DEFERRED)')
    const error = await rejection<{ code: string } & Error>(
      client
        .guard()
        .run({ resource: unique(), token: 1n }, (tx: any) =>
          tx.query('INSERT INTO deferred VALUES (1), (1)'),
        ),
    )
    expect(error.code).toBe('23505')
  })

  it.each(pools)('%s: a COMMIT that the server turns into a ROLLBACK is an error', async (client) => {
    const opened = await open({ client, server })
    const guard = opened.guard()
    await guard.migrate()
    const resource = unique()
    const swallow = async (tx: any): Promise<string> => {
      await opened.rows(tx, 'SELECT 1 / 0').catch(() => undefined)
      return 'as if nothing had been'
    }
    const error = await rejection(guard.run({ resource, token: 1n }, swallow))
    expect(error).not.toMatchObject({ code: 'OUTCOME_UNKNOWN' })
    if (client === 'pg') {
      expect(error).toMatchObject({
        code: '25P02',
        message: expect.stringContaining('a statement of the callback had failed'),
      })
    }
    expect(await guard.highWater(resource)).toBe(null)
  })

  it('rejects a client that is in a transaction already', async () => {
    const client = await open({ client: 'pg.Client', server })
    const guard = client.guard()
    await guard.migrate()
    await client.direct('BEGIN')
    const error = await rejection(guard.advance({ resource: unique(), token: 1n }))
    expect(error).toMatchObject({
      code: 'INVALID_OPTION',
      message: expect.stringContaining('in a transaction already'),
    })
    await client.direct('COMMIT')
    await guard.advance({ resource: unique(), token: 1n })
  })

  it('a server that ends the connection during a transaction rolls it back, and the process survives', async () => {
    const client = await open(pg)
    const guard = client.guard()
    const id = await row(client)
    const error = await rejection<{ code: string } & Error>(
      guard.run({ resource: id, token: 1n }, async (tx: any) => {
        await client.rows(tx, setTo(id, 1))
        const [{ pid }] = await client.rows(tx, 'SELECT pg_backend_pid() AS pid')
        await client.direct(`SELECT pg_terminate_backend(${pid})`)
        await sleep(50)
        await client.rows(tx, setTo(id, 2))
      }),
    )
    expect(error).not.toMatchObject({ code: 'OUTCOME_UNKNOWN' })
    expect(await valueOf(client, id)).toBe(0)
  })

  it('releases every connection to the pool', async () => {
    const { default: module } = await import('../../scripts/sql-clients/drivers.mjs')
    const pool = new module.pg.Pool({ ...server(), max: 2 })
    const guard = postgresGuard({ client: pool })
    const resource = unique()
    await guard.advance({ resource, token: 2n })
    for (let i = 0; i < 5; i++) {
      expect(await rejection(guard.advance({ resource, token: 1n }))).toBeInstanceOf(StaleTokenError)
      await rejection(guard.run({ resource, token: 2n }, () => Promise.reject(new Error('no'))))
    }
    expect(pool).toMatchObject({ totalCount: 1, idleCount: 1, waitingCount: 0 })
    await pool.end()
  })

  describe('examples', () => {
    exampleSuite('postgres', {
      client: () => open(pg),
      url: () => `postgres://${running.user}@127.0.0.1:${running.port}/${running.database}`,
    })
  })

  it('fencedUpdate changes only a row with an equal or lower fence', async () => {
    const { default: drivers } = await import('../../scripts/sql-clients/drivers.mjs')
    const pool = new drivers.pg.Pool(server())
    onCleanup(() => pool.end())
    await pool.query('CREATE TABLE "odd ""name" (id text, "a b" jsonb, fence bigint NOT NULL DEFAULT 0)')
    await pool.query(`INSERT INTO "odd ""name" VALUES ('x', '{}'), ('y', '{}')`)
    const update = async (token: bigint): Promise<number | null> => {
      const set = { 'a b': JSON.stringify({ token: String(token) }) }
      const { text, values } = fencedUpdate('postgres', {
        table: 'odd "name',
        set,
        where: { id: 'x' },
        token,
      })
      return (await pool.query(text, values)).rowCount
    }
    expect([await update(10n), await update(10n), await update(9n)]).toEqual([1, 1, 0])
    expect([await update(2n ** 63n - 1n), await update(2n ** 63n - 2n)]).toEqual([1, 0])
    const { rows } = await pool.query('SELECT id, fence, "a b" AS data FROM "odd ""name" ORDER BY id')
    expect(rows).toEqual([
      { id: 'x', fence: String(2n ** 63n - 1n), data: { token: String(2n ** 63n - 1n) } },
      { id: 'y', fence: '0', data: {} },
    ])
  })

  it.each([
    ['pg', 3],
    ['pg.Client', 3],
    ['postgres', 4],
    ...(onBun ? [['Bun.sql', 4] as const] : []),
  ] as const)(
    '%s: costs at most one round trip more than the caller’s own transaction',
    async (client, guarded) => {
      expect(await roundTrips({ client, server })).toEqual({ own: 3, guarded, ofTwo: guarded })
    },
  )
})
