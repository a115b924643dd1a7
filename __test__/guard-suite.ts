/**
 * What every SQL guard must keep, whatever the store and the client. Each store's spec runs these suites.
 */
import { LockLostError, LockManager, OutcomeUnknownError, StaleTokenError } from 'fencelock'
import { join } from 'node:path'
import { beforeAll, describe, expect, it } from 'vitest'

import { openClient, TABLE, type Client } from './clients/stores.mjs'
import { onCleanup } from './fixtures/cleanup'
import { closing, rejection, unique } from './fixtures/locks'
import { generatePrisma } from './fixtures/prisma'
import { startScript } from './fixtures/processes'
import { startProxy, type Trap } from './fixtures/proxy'
import { readSnippets, runSnippet } from './fixtures/snippets'
import { eventually, root, sleep, tempDir } from './fixtures/temp'

type Server = Parameters<typeof openClient>[1]

/** What the suites need to know of a client. `server` is asked in the first hook. */
export interface Subject {
  client: string
  server: () => Server
  /** The client is synchronous. */
  sync?: boolean
}

export async function open({ client, server }: Subject): Promise<Client> {
  const opened = await openClient(client, server())
  onCleanup(() => opened.end())
  return opened
}

/** A new row; its id. */
export async function row(client: Client, value = 0): Promise<string> {
  const id = unique('row')
  await client.direct(`INSERT INTO data VALUES ('${id}', ${value})`)
  return id
}

export async function valueOf(client: Client, id: string): Promise<number> {
  const [found] = await client.direct(`SELECT value FROM data WHERE id = '${id}'`)
  return Number(found.value)
}

export const setTo = (id: string, value: number): string =>
  `UPDATE data SET value = ${value} WHERE id = '${id}'`

/** Names that break what is not careful. */
const hostile = [
  `quotes ' " \` \\' -- ; DROP TABLE data`,
  'a NUL \0 in it',
  'x'.repeat(512),
  '🔒'.repeat(128),
  '\\x00 $1 ? :a @b %s',
  'Job',
  'job',
  'job ',
  'jób',
  'jo\u0301b',
  ' ',
]

/** Whatever the client. */
export function guardSuite(subject: Subject): void {
  let client: Client
  let guard: any
  beforeAll(async () => {
    client = await open(subject)
    guard = client.guard()
    await guard.migrate()
    await client.direct(TABLE)
  })
  const write = (id: string, value: number) => (tx: any) => client.rows(tx, setTo(id, value))
  /** One statement after the other, then `last`. */
  const steps = (tx: any, texts: string[], last = () => {}): unknown => {
    if (subject.sync) {
      for (const text of texts) client.rows(tx, text)
      return last()
    }
    return texts
      .reduce((before, text) => before.then(() => client.rows(tx, text)), Promise.resolve())
      .then(last)
  }
  const isMysql = /mysql|mariadb/i.test(subject.client)
  const quote = (name: string): string =>
    isMysql ? `\`${name.replaceAll('`', '``')}\`` : `"${name.replaceAll('"', '""')}"`
  const createSchema = subject.sync ? "ATTACH ':memory:' AS ?" : `CREATE ${isMysql ? 'DATABASE' : 'SCHEMA'} ?`

  describe('run', () => {
    it('writes with an equal or higher token, and gives what the callback returned', async () => {
      const id = await row(client)
      const give = (value: number) => (tx: any) =>
        subject.sync
          ? (client.rows(tx, setTo(id, value)), value)
          : client.rows(tx, setTo(id, value)).then(() => value)
      expect(await guard.run({ resource: id, token: 7n }, give(1))).toBe(1)
      expect(await guard.run({ resource: id, token: 7n }, give(2))).toBe(2)
      expect(await guard.run({ resource: id, token: 8n }, give(3))).toBe(3)
      expect(await valueOf(client, id)).toBe(3)
      expect(await guard.highWater(id)).toBe(8n)
    })

    it('refuses a lower token with both tokens, and does not call the callback', async () => {
      const id = await row(client)
      await guard.run({ resource: id, token: 2n }, write(id, 2))
      let called = false
      const error = await rejection<StaleTokenError>(
        guard.run({ resource: id, token: 1n, strategy: 'strong' }, () => (called = true)),
      )
      expect(error).toBeInstanceOf(StaleTokenError)
      expect(error).toMatchObject({
        code: 'STALE_TOKEN',
        resource: id,
        strategy: 'strong',
        token: 1n,
        current: 2n,
      })
      expect(error.message).toContain(`the token 1 for "${id}" is stale: the data has seen 2`)
      expect(JSON.parse(JSON.stringify(error))).toMatchObject({
        name: 'StaleTokenError',
        token: '1',
        current: '2',
      })
      expect(called).toBe(false)
      expect(await valueOf(client, id)).toBe(2)
      expect(await guard.highWater(id)).toBe(2n)
    })

    it('rolls back what the callback wrote, and the fence, when it throws', async () => {
      const id = await row(client)
      const defect = new Error('of the callback')
      const error = await rejection(
        guard.run({ resource: id, token: 5n }, (tx: any) => {
          const written = client.rows(tx, setTo(id, 5))
          if (subject.sync) throw defect
          return written.then(() => {
            throw defect
          })
        }),
      )
      expect(error).toBe(defect)
      expect(await valueOf(client, id)).toBe(0)
      expect(await guard.highWater(id)).toBe(null)
      await guard.run({ resource: id, token: 1n }, write(id, 1))
      expect(await valueOf(client, id)).toBe(1)
    })

    it('rejects with the error of the database when a statement fails', async () => {
      const id = await row(client)
      const error = await rejection(
        guard.run({ resource: id, token: 5n }, (tx: any) =>
          client.rows(tx, 'UPDATE no_such_table SET a = 1'),
        ),
      )
      expect(error.message).toContain('no_such_table')
      expect(await guard.highWater(id)).toBe(null)
      await guard.run({ resource: id, token: 6n }, write(id, 6))
    })

    it('advances several resources, or none', async () => {
      const id = await row(client)
      const [a, b, c] = [unique('c'), unique('a'), unique('b')]
      await guard.run({ resources: [a, b, c], token: 5n }, write(id, 1))
      expect(await Promise.all([a, b, c].map((name) => guard.highWater(name)))).toEqual([5n, 5n, 5n])
      await guard.advance({ resource: b, token: 9n })
      const error = await rejection(guard.run({ resources: [a, b, c], token: 6n }, write(id, 2)))
      expect(error).toMatchObject({ code: 'STALE_TOKEN', resource: b, token: 6n, current: 9n })
      expect(await Promise.all([a, b, c].map((name) => guard.highWater(name)))).toEqual([5n, 9n, 5n])
      expect(await valueOf(client, id)).toBe(1)
    })

    it('passes on what the callback threw, whatever it is', async () => {
      const id = await row(client)
      for (const thrown of [undefined, null, 0, 'a word']) {
        const outcome = guard.run({ resource: id, token: 5n }, (tx: any) => {
          const written = client.rows(tx, setTo(id, 5))
          const fail = () => {
            // What is no error is what this is about.
            // oxlint-disable-next-line typescript/only-throw-error
            throw thrown
          }
          return subject.sync ? fail() : written.then(fail)
        })
        expect(
          await outcome.then(
            () => 'none',
            (error: unknown) => [error],
          ),
        ).toEqual([thrown])
        expect(await valueOf(client, id)).toBe(0)
        expect(await guard.highWater(id)).toBe(null)
      }
    })

    // Bun waits for each answer with PostgreSQL, so there the question would cost a round trip.
    it.runIf(subject.client !== 'Bun.sql').each(['COMMIT', 'ROLLBACK', 'COMMIT, BEGIN'])(
      'says so when the callback ends the transaction itself: %s',
      async (words) => {
        const id = await row(client)
        const ends = (tx: any) => steps(tx, [setTo(id, 1), ...words.split(', '), setTo(id, 2)])
        const error = await rejection<OutcomeUnknownError>(guard.run({ resource: id, token: 5n }, ends))
        expect(error).toMatchObject({
          code: 'OUTCOME_UNKNOWN',
          message: expect.stringContaining('had ended before its callback did'),
        })
        expect(error).toBeInstanceOf(OutcomeUnknownError)
        // The client goes on as if nothing had been.
        await guard.run({ resource: id, token: 6n }, write(id, 6))
        expect(await valueOf(client, id)).toBe(6)
      },
    )

    it('says so, too, when it throws after that: it was not rolled back', async () => {
      const id = await row(client)
      const defect = new Error('of the callback')
      const error = await rejection<OutcomeUnknownError>(
        guard.run({ resource: id, token: 5n }, (tx: any) =>
          steps(tx, [setTo(id, 1), 'COMMIT', setTo(id, 2)], () => {
            throw defect
          }),
        ),
      )
      expect(error).toBeInstanceOf(OutcomeUnknownError)
      expect(error.message).toContain('had ended before its callback did')
      expect((error.cause as Error).cause).toBe(defect)
      expect(await valueOf(client, id)).toBe(2)
      await guard.run({ resource: id, token: 6n }, write(id, 6))
      expect(await valueOf(client, id)).toBe(6)
    })
  })

  it('keeps names apart as bytes, whatever is in them', async () => {
    // Its own, for all clients use the same names.
    const apart = client.guard({ table: unique('t').slice(0, 30) })
    await apart.migrate()
    for (const [index, resource] of hostile.entries()) {
      expect(await apart.highWater(resource)).toBe(null)
      await apart.advance({ resource, token: BigInt(index + 1) })
    }
    for (const [index, resource] of hostile.entries())
      expect(await apart.highWater(resource)).toBe(BigInt(index + 1))
    await apart.advance({ resources: hostile, token: 100n })
    const stale = await rejection(apart.advance({ resource: 'Job', token: 99n }))
    expect(stale).toMatchObject({ code: 'STALE_TOKEN', resource: 'Job', current: 100n })
    expect(await client.direct('SELECT value FROM data WHERE 1 = 0')).toHaveLength(0)
  })

  it('keeps every digit of a token', async () => {
    const resource = unique()
    for (const token of [1n, 2n ** 53n - 1n, 2n ** 53n + 1n, 2n ** 63n - 2n, 2n ** 63n - 1n]) {
      await guard.advance({ resource, token })
      await guard.advance({ resource, token })
      expect(await guard.highWater(resource)).toBe(token)
      const lower = await rejection(guard.advance({ resource, token: token - 1n }))
      if (token > 1n) expect(lower).toMatchObject({ code: 'STALE_TOKEN', current: token })
    }
  })

  it('quotes the name of its table', async () => {
    const other = client.guard({ table: `my "f" \`e\` 'n' ce` })
    await other.migrate()
    await other.advance({ resource: 'a', token: 3n })
    expect(await other.highWater('a')).toBe(3n)
    expect(other.ddl()).toMatch(/^CREATE TABLE IF NOT EXISTS /)
  })

  it('finds its table in another schema', async () => {
    const schema = `${unique('s')} "c" \`h\` e.m`.slice(-60)
    const quoted = quote(schema)
    await client.direct(createSchema.replace('?', quoted))
    const other = client.guard({ schema, table: 'f.g' })
    await other.migrate()
    await other.advance({ resource: 'a', token: 3n })
    await other.advance({ resources: ['a', 'b'], token: 4n })
    expect(await other.highWater('a')).toBe(4n)
    expect(await client.direct(`SELECT token FROM ${quoted}.${quote('f.g')}`)).toHaveLength(2)
  })

  it('migrates twice, and several times at once', async () => {
    const others = Array.from({ length: 4 }, () => client.guard({ table: 'migrated' }))
    await Promise.all(others.map((other) => other.migrate()))
    await others[0].advance({ resource: 'kept', token: 3n })
    await others[1].migrate()
    expect(await others[2].highWater('kept')).toBe(3n)
  })

  it('says so when there is no table', async () => {
    const error = await rejection(client.guard({ table: 'never_made' }).advance({ resource: 'a', token: 1n }))
    expect(error.message).toContain('never_made')
    expect(error).not.toBeInstanceOf(OutcomeUnknownError)
  })

  describe('a lock that is no longer held', () => {
    it('is refused before the transaction', async () => {
      const locks = closing(new LockManager({ local: join(tempDir(), 'locks.sqlite') }))
      const lock = await locks.acquireLocal(unique(), { ttlMs: 60_000 })
      await guard.run(lock, () => undefined)
      expect(await guard.highWater(lock.resource)).toBe(lock.token)
      await lock.release()
      const error = await rejection<LockLostError>(guard.run(lock, () => undefined))
      expect(error).toBeInstanceOf(LockLostError)
      expect(error).toMatchObject({ code: 'LOCK_LOST', resource: lock.resource, strategy: 'local' })
    })

    it('is rolled back when it was lost meanwhile, if that was chosen', async () => {
      const id = await row(client)
      const lost = new AbortController()
      const late = { resource: id, token: 3n, held: true, signal: lost.signal }
      const loseAndWrite = (value: number) => (tx: any) => {
        lost.abort(new Error('the lease ended'))
        return client.rows(tx, setTo(id, value))
      }
      const error = await rejection(client.guard({ abortOnLoss: true }).run(late, loseAndWrite(1)))
      expect(error).toMatchObject({ code: 'LOCK_LOST', resource: id, cause: lost.signal.reason })
      expect(await valueOf(client, id)).toBe(0)
      expect(await guard.highWater(id)).toBe(null)
      // A lock without a signal may tell as well.
      const ended = { resource: id, token: 3n, held: true }
      const endAndWrite = (tx: any) => {
        ended.held = false
        return client.rows(tx, setTo(id, 1))
      }
      const quiet = await rejection(client.guard({ abortOnLoss: true }).run(ended, endAndWrite))
      expect(quiet).toMatchObject({ code: 'LOCK_LOST', resource: id })
      expect(await valueOf(client, id)).toBe(0)
      // Otherwise the token decides.
      await guard.run(late, loseAndWrite(2))
      expect(await valueOf(client, id)).toBe(2)
    })
  })

  it('refuses what is no lock', async () => {
    const bad: [unknown, string][] = [
      [undefined, 'lock must be a lock, or { resource, token }, got undefined'],
      [{ token: 1n }, 'a resource must be a string, got undefined'],
      [{ resource: 'a' }, 'lock.token must be a bigint, got undefined'],
      [{ resource: 'a', token: '5' }, 'lock.token must be a bigint, got a string: use BigInt(…)'],
      [{ resource: 'a', token: 5 }, 'lock.token must be a bigint, got a number: use BigInt(…)'],
      [{ resource: 'a', token: 0n }, 'lock.token must be from 1n to 9223372036854775807n (2^63 - 1), got 0n'],
      [{ resource: 'a', token: 2n ** 63n }, 'lock.token must be from 1n to'],
      [{ resource: '', token: 1n }, 'a resource must have 1 to 512 bytes'],
      [{ resource: 'é'.repeat(257), token: 1n }, 'a resource must have 1 to 512 bytes of UTF-8, got 514'],
      [{ resource: '\uD800', token: 1n }, 'must be well-formed Unicode'],
      [{ resources: [], token: 1n }, 'must not be empty'],
      [{ resources: ['a', 'a'], token: 1n }, 'the resource "a" is named twice'],
    ]
    for (const [lock, message] of bad) {
      const error = await rejection(guard.run(lock, () => undefined))
      expect(error).toMatchObject({ code: 'INVALID_OPTION', message: expect.stringContaining(message) })
    }
    expect(await rejection(guard.run({ resource: 'a', token: 1n }))).toMatchObject({
      code: 'INVALID_OPTION',
      message: 'the second argument of run must be a function, got undefined',
    })
    expect(await rejection(guard.highWater(5))).toMatchObject({ code: 'INVALID_OPTION' })
  })

  it('never lowers a token, and lets no lower one write, in random orders', async () => {
    const id = await row(client)
    const shuffled = Array.from({ length: 60 }, (_, n) => n + 1).toSorted(() => Math.random() - 0.5)
    let highest = 0
    for (const token of shuffled) {
      const outcome = guard.run({ resource: id, token: BigInt(token) }, write(id, token))
      if (token >= highest) await outcome
      else expect(await rejection(outcome)).toMatchObject({ code: 'STALE_TOKEN', current: BigInt(highest) })
      highest = Math.max(highest, token)
      expect(await guard.highWater(id)).toBe(BigInt(highest))
      expect(await valueOf(client, id)).toBe(highest)
    }
  })
}

/**
 * Many transactions at once: what was committed must be explainable one after the other, by rising tokens. The log has a
 * row per commit, in the order of the row lock that the fence is.
 */
export async function raceTokens(client: Client, options: object): Promise<void> {
  const guard = client.guard(options)
  const resource = unique()
  const id = await row(client)
  let stale = 0
  const one = async (token: bigint): Promise<void> => {
    try {
      await guard.run({ resource, token }, async (tx: any) => {
        const [before] = await client.rows(tx, `SELECT value FROM data WHERE id = '${id}'`)
        // Whoever is inside sees all that was committed before, and nothing higher.
        expect(Number(before.value)).toBeLessThanOrEqual(Number(token))
        if (Math.random() < 0.3) await sleep(Math.random() * 3)
        await client.rows(tx, setTo(id, Number(token)))
      })
    } catch (error) {
      // After the fence a conflict is the caller's: this one does it again.
      if ((error as { code?: string }).code === '40001') return one(token)
      if (!(error instanceof StaleTokenError)) throw error
      expect(error.current).toBeGreaterThan(token)
      stale++
    }
  }
  let seen = 0n
  const race = { on: true }
  const watching = (async () => {
    while (race.on) {
      const now = (await guard.highWater(resource)) ?? 0n
      expect(now).toBeGreaterThanOrEqual(seen)
      seen = now
      await sleep(1)
    }
  })()
  const tokens = Array.from({ length: 80 }, (_, n) => BigInt(n + 1)).toSorted(() => Math.random() - 0.5)
  for (let i = 0; i < tokens.length; i += 16) await Promise.all(tokens.slice(i, i + 16).map(one))
  race.on = false
  await watching
  expect(await guard.highWater(resource)).toBe(80n)
  expect(await valueOf(client, id)).toBe(80)
  expect(stale).toBeGreaterThan(0)
}

/** A client whose connections go through a proxy, and one that goes straight. */
async function throughProxy(subject: Subject, { record = false } = {}) {
  const server = subject.server()
  if (typeof server === 'string') throw new Error('a file has no connection')
  const proxy = await startProxy(server.port, { record })
  const client = await open({ ...subject, server: () => ({ ...server, port: proxy.port }) })
  const direct = await open(subject)
  const guard = client.guard()
  await guard.migrate()
  await direct.direct(TABLE)
  return { proxy, client, direct, guard }
}

/** Connections that break. `committed` finds where COMMIT has reached the server, and its answer not the client. */
export function brokenSuite(
  subject: Subject,
  committed: Pick<Trap, 'in' | 'deliver'> & { text: string },
): void {
  it('a COMMIT that nobody answered is told as unknown: it had reached the server', async () => {
    const { proxy, client, direct, guard } = await throughProxy(subject)
    const id = await row(direct)
    const { text, ...trap } = committed
    const cut = proxy.when(text, { ...trap, act: 'cut' })
    const error = await rejection<OutcomeUnknownError>(
      guard.run({ resource: id, token: 5n }, (tx: any) => client.rows(tx, setTo(id, 5))),
    )
    await cut
    expect(error).toBeInstanceOf(OutcomeUnknownError)
    expect(error).toMatchObject({ code: 'OUTCOME_UNKNOWN', resource: id })
    expect(error.cause).toBeInstanceOf(Error)
    await eventually('the server committed', async () => (await valueOf(direct, id)) === 5)
    expect(await direct.guard().highWater(id)).toBe(5n)
  })

  it('a COMMIT that nobody answered is told as unknown: it had not', async () => {
    const { proxy, client, direct, guard } = await throughProxy(subject)
    const id = await row(direct)
    const error = await rejection(
      guard.run({ resource: id, token: 5n }, async (tx: any) => {
        await client.rows(tx, setTo(id, 5))
        // postgres.js has prepared it, and sends its number: there it is what is sent next.
        void proxy.when(subject.client === 'postgres' ? '' : 'COMMIT', { deliver: 'before', act: 'cut' })
      }),
    )
    expect(error).toMatchObject({ code: 'OUTCOME_UNKNOWN', resource: id })
    // The next one waits until the server has noticed.
    await direct.guard().run({ resource: id, token: 4n }, () => undefined)
    expect(await valueOf(direct, id)).toBe(0)
  })

  it('a connection that breaks before COMMIT is an error of the client: nothing was written', async () => {
    const { proxy, client, direct, guard } = await throughProxy(subject)
    const id = await row(direct)
    const error = await rejection(
      guard.run({ resource: id, token: 5n }, async (tx: any) => {
        await client.rows(tx, setTo(id, 5))
        proxy.cut()
        await client.rows(tx, setTo(id, 6))
      }),
    )
    expect(error).not.toBeInstanceOf(OutcomeUnknownError)
    await direct.guard().run({ resource: id, token: 4n }, () => undefined)
    expect(await valueOf(direct, id)).toBe(0)
    // A pool has thrown the broken connection away.
    await guard.run({ resource: id, token: 7n }, (tx: any) => client.rows(tx, setTo(id, 7)))
    expect(await valueOf(direct, id)).toBe(7)
  })
}

/**
 * How often a client of this kind waits for the server: in a transaction of the caller's own, in a guarded one, and in one
 * of two resources.
 */
export async function roundTrips(subject: Subject): Promise<{ own: number; guarded: number; ofTwo: number }> {
  const { proxy, client, direct, guard } = await throughProxy(subject, { record: true })
  const id = await row(direct)
  const count = async (work: () => Promise<void>): Promise<number> => {
    // Once before, so that connections stand and statements are known.
    await work()
    await work()
    // So that what does not wait for an answer is sent before the answer comes.
    proxy.delay(10, 'toClient')
    proxy.recorded.length = 0
    await work()
    proxy.delay(0, 'toClient')
    const directions = proxy.recorded.map(([direction]) => direction)
    return directions.filter((each, index) => each === 'toServer' && directions[index - 1] !== 'toServer')
      .length
  }
  return {
    own: await count(() => client.transaction((tx) => client.rows(tx, setTo(id, 1)))),
    guarded: await count(() =>
      guard.run({ resource: id, token: 5n }, (tx: any) => client.rows(tx, setTo(id, 2))),
    ),
    ofTwo: await count(() =>
      guard.run({ resources: [id, `${id} too`], token: 5n }, (tx: any) => client.rows(tx, setTo(id, 2))),
    ),
  }
}

/** What holds for one connection that several guards share. */
export function singleSuite(subject: Subject): void {
  it('runs guards one after the other, also those of another table', async () => {
    const client = await open(subject)
    const guards = [client.guard(), client.guard({ table: 'second_table' })]
    for (const guard of guards) await guard.migrate()
    await client.direct(TABLE)
    const id = await row(client)
    let inside = 0
    const runs = Array.from({ length: 20 }, (_, n) =>
      guards[n % 2].run({ resource: unique(), token: 1n }, async (tx: any) => {
        expect(++inside).toBe(1)
        const [before] = await client.rows(tx, `SELECT value FROM data WHERE id = '${id}'`)
        await sleep(1)
        await client.rows(tx, setTo(id, Number(before.value) + 1))
        inside--
        if (n === 7) throw new Error('one fails, the next ones go on')
      }),
    )
    const outcomes = await Promise.allSettled(runs)
    expect(outcomes.map(({ status }) => status).indexOf('rejected')).toBe(7)
    expect(await valueOf(client, id)).toBe(19)
  })

  it('says that a guard inside of a guard would wait for itself', async () => {
    const client = await open(subject)
    const guard = client.guard()
    await guard.migrate()
    const lock = { resource: unique(), token: 1n }
    const error = await rejection(guard.run(lock, () => guard.advance({ resource: unique(), token: 1n })))
    expect(error).toMatchObject({
      code: 'INVALID_OPTION',
      message: expect.stringContaining('inside of another one'),
    })
    // What goes on in the background of a callback that is over is not inside of it any more.
    let later: Promise<unknown> | undefined
    await guard.run(lock, () => {
      later = sleep(20).then(() => guard.advance({ resource: unique(), token: 1n }))
    })
    await later
  })
}

/** The examples of both READMEs that need this store: each line prints what its comment says. */
export function exampleSuite(
  need: string,
  { client, url }: { client?: () => Promise<Client>; url?: () => string },
): void {
  const all = [...readSnippets(), ...readSnippets('guard/README.md')]
  const snippets = all.filter(({ needs }) => needs.includes(need))
  it.each(snippets.map((snippet) => [snippet.name, snippet] as const))('%s', async (_, snippet) => {
    const opened = await client?.()
    await opened?.direct('CREATE TABLE account (id integer PRIMARY KEY, balance bigint)')
    await opened?.direct('INSERT INTO account VALUES (1, 10)')
    const ending = await runSnippet(snippet, {
      env: { DATABASE_URL: url?.(), NODE_NO_WARNINGS: '1' },
      packages: ['pg', 'mysql2', 'drizzle-orm', 'kysely', 'knex'],
      prepare: snippet.needs.includes('prisma') ? generatePrisma : undefined,
    })
    await opened?.direct('DROP TABLE account')
    expect(ending.stderr).toBe('')
    expect(ending.code).toBe(0)
    const promised = [...snippet.code.matchAll(/console\.log\(.*\) \/\/ (\w+)/g)].map(([, word]) => word)
    expect(promised.length).toBeGreaterThan(0)
    expect(ending.stdout.trim().split('\n')).toEqual(promised)
  })
}

/** What holds where every transaction has a connection of its own. */
export function poolSuite(subject: Subject): void {
  it('refuses a guard inside of another one for the same resource: nobody would see that circle', async () => {
    const client = await open(subject)
    const guard = client.guard()
    await guard.migrate()
    const [a, b] = [unique('a'), unique('b')]
    const lock = { resource: a, token: 1n }
    for (const inner of [lock, { resources: [b, a], token: 1n }]) {
      // Another guard of the same table is no other fence.
      expect(await rejection(guard.run(lock, () => client.guard().advance(inner)))).toMatchObject({
        code: 'INVALID_OPTION',
        message: expect.stringContaining(`for the same resource, "${a}"`),
      })
    }
    // Of another one it is another transaction, and what the first one has not committed it does not see.
    await guard.run(lock, async () => {
      await guard.advance({ resource: b, token: 2n })
      expect(await guard.highWater(a)).toBe(null)
    })
    expect([await guard.highWater(a), await guard.highWater(b)]).toEqual([1n, 2n])
    // What goes on in the background of a callback that is over is not inside of it any more.
    let later: Promise<unknown> | undefined
    await guard.run(lock, () => {
      later = sleep(20).then(() => guard.advance(lock))
    })
    await later
  })
}

/** The stories of several processes: a stopped holder, and many writers. One client per store tells them. */
export function storySuite(subject: Subject, writes: number): void {
  let client: Client
  let guard: any
  beforeAll(async () => {
    client = await open(subject)
    guard = client.guard()
    await guard.migrate()
    await client.direct(TABLE)
  })

  const child = (task: object) =>
    startScript(join(root, '__test__/clients/guard-child.mjs'), {
      args: [JSON.stringify({ client: subject.client, server: subject.server(), ...task })],
      limitMs: 110_000,
    })

  it('8 processes create the table at once', async () => {
    const table = unique('t').slice(0, 30)
    const processes = Array.from({ length: 8 }, () =>
      child({ does: 'migrator', table, locks: join(tempDir(), 'locks.sqlite') }),
    )
    await Promise.all(processes.map((one) => one.next()))
    for (const one of processes) one.tell('go')
    for (const one of processes) {
      expect(await one.next()).toBe('migrated')
      one.hangUp()
      expect(await one.ended).toMatchObject({ code: 0, stderr: '' })
    }
    expect(await client.guard({ table }).highWater('a')).toBe(5n)
  })

  /** A takes the lock and reads, is stopped beyond its lease; B takes it and writes 100; A goes on. */
  async function staleWriter(guarded: boolean): Promise<{ said: any; value: number; tokens: bigint[] }> {
    const id = await row(client)
    const path = join(tempDir(), 'locks.sqlite')
    const a = child({ does: 'sleeper', id, locks: path, guarded, ttlMs: 200 })
    const { has } = await a.next<{ has: string }>()
    a.pause()
    const locks = closing(new LockManager({ local: path }))
    const b = await locks.acquireLocal(id, { waitMs: 10_000, ttlMs: 60_000 })
    const write = (tx: any) => client.rows(tx, setTo(id, 100))
    if (guarded) await guard.run(b, write)
    else await client.direct(setTo(id, 100))
    a.resume()
    a.tell('write')
    const said = await a.next()
    a.hangUp()
    expect((await a.ended).code).toBe(0)
    return { said, value: await valueOf(client, id), tokens: [BigInt(has), b.token] }
  }

  it('a stopped holder wakes up and is refused; what the next one wrote stands', async () => {
    const { said, value, tokens } = await staleWriter(true)
    expect(said.refused).toMatchObject({
      code: 'STALE_TOKEN',
      token: String(tokens[0]),
      current: String(tokens[1]),
    })
    expect(value).toBe(100)
  })

  it('the same without a guard: the update of the next holder is lost', async () => {
    const { said, value } = await staleWriter(false)
    expect(said).toEqual({ wrote: 1 })
    expect(value).toBe(1)
  })

  /** B reads; A, whose lease is over, commits 10 more; B, with the higher token, writes what it read and 1. */
  async function readBeforeFence(advances: boolean): Promise<{ late: string; value: number }> {
    const id = await row(client)
    const [a, b] = [
      { resource: id, token: 1n },
      { resource: id, token: 2n },
    ]
    await guard.advance(a)
    if (advances) await guard.advance(b)
    const read = await valueOf(client, id)
    const late = await guard
      .run(a, (tx: any) => client.rows(tx, `UPDATE data SET value = value + 10 WHERE id = '${id}'`))
      .then(
        () => 'committed',
        (error: StaleTokenError) => error.code,
      )
    await guard.run(b, (tx: any) => client.rows(tx, setTo(id, read + 1)))
    return { late, value: await valueOf(client, id) }
  }

  it('a read before the fence loses the update of an earlier holder', async () => {
    expect(await readBeforeFence(false)).toEqual({ late: 'committed', value: 1 })
  })

  it('a read after advance does not: the earlier holder is refused', async () => {
    expect(await readBeforeFence(true)).toEqual({ late: 'STALE_TOKEN', value: 1 })
  })

  /** 16 writers in 4 processes, four on each of four rows. */
  async function manyWriters(
    guarded: boolean,
    total: number,
  ): Promise<{ written: number; refused: number; value: number }> {
    const ids = [await row(client), await row(client), await row(client), await row(client)]
    const locks = join(tempDir(), 'locks.sqlite')
    const task = { does: 'writers', ids, locks, guarded, writes: total / 16 }
    const processes = Array.from({ length: 4 }, () => child(task))
    const counts = await Promise.all(
      processes.map(async (one) => {
        const { written, refused } = await one.next<{ written: number; refused: number }>(110_000)
        one.hangUp()
        expect(await one.ended).toMatchObject({ code: 0 })
        return { written, refused }
      }),
    )
    const values = await Promise.all(ids.map((id) => valueOf(client, id)))
    return {
      written: counts.reduce((sum, { written }) => sum + written, 0),
      refused: counts.reduce((sum, { refused }) => sum + refused, 0),
      value: values.reduce((sum, value) => sum + value, 0),
    }
  }

  it(
    `16 writers in 4 processes, some of which outlive their leases: of ${writes} writes none is lost`,
    { timeout: 120_000 },
    async () => {
      const { written, refused, value } = await manyWriters(true, writes)
      expect(written).toBe(writes)
      expect(value).toBe(writes)
      expect(refused).toBeGreaterThan(0)
    },
  )

  it('the same without a guard: some are lost', { timeout: 60_000 }, async () => {
    const { written, value } = await manyWriters(false, 800)
    expect(value).toBeLessThan(written)
  })
}
