/** What every guard guarantees, with any client. */
import { LockLostError, LockManager, OutcomeUnknownError, StaleTokenError } from 'fencelock'
import { join } from 'node:path'
import { beforeAll, describe, expect, it } from 'vitest'

import type { Client } from '../../../scripts/sql-clients/index.mjs'
import { closing, rejection, unique } from '../../fixtures/locks'
import { tempDir } from '../../fixtures/temp'
import { prepare, row, setTo, valueOf, type Subject } from './subject'

/** Names that break careless code. */
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

/** With any client. */
export function guardSuite(subject: Subject): void {
  let client: Client
  let guard: any
  beforeAll(async () => {
    ;({ client, guard } = await prepare(subject))
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

  it('says what to do without a migration, and passes on a missing table of the callback', async () => {
    const lock = { resource: unique(), token: 1n }
    const bare = client.guard({ table: unique('never') })
    for (const call of [
      () => bare.run(lock, () => undefined),
      () => bare.advance(lock),
      () => bare.highWater(lock.resource),
    ]) {
      const error = await rejection(call())
      expect(error).toMatchObject({ code: 'UNSUPPORTED', resource: lock.resource })
      expect(error.message).toMatch(/does not exist.*guard\.migrate\(\).*guard\.ddl\(\)/)
      expect(error.cause).toBeDefined()
    }
    const own = await rejection(guard.run(lock, (tx: any) => client.rows(tx, 'SELECT * FROM never_made')))
    expect(own.message).toContain('never_made')
    expect(own).not.toMatchObject({ code: 'UNSUPPORTED' })
  })

  describe('run', () => {
    it('writes with an equal or higher token, and resolves with what the callback returned', async () => {
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

    it('rejects a lower token with both tokens, and does not call the callback', async () => {
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

    it('rolls back the writes of the callback, and the fence, when it throws', async () => {
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

    it('advances all of several resources or none', async () => {
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

    it('passes on whatever the callback threw', async () => {
      const id = await row(client)
      for (const thrown of [undefined, null, 0, 'a word']) {
        const outcome = guard.run({ resource: id, token: 5n }, (tx: any) => {
          const written = client.rows(tx, setTo(id, 5))
          const fail = () => {
            // This is about values that are not errors.
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

    // With PostgreSQL, Bun waits for each answer, so there the check would cost a round trip.
    it.runIf(subject.client !== 'Bun.sql').each(['COMMIT', 'ROLLBACK', 'COMMIT, BEGIN'])(
      'reports a callback that ends the transaction itself: %s',
      async (words) => {
        const id = await row(client)
        const ends = (tx: any) => steps(tx, [setTo(id, 1), ...words.split(', '), setTo(id, 2)])
        const error = await rejection<OutcomeUnknownError>(guard.run({ resource: id, token: 5n }, ends))
        expect(error).toMatchObject({
          code: 'OUTCOME_UNKNOWN',
          message: expect.stringContaining('had ended before its callback did'),
        })
        expect(error).toBeInstanceOf(OutcomeUnknownError)
        // The client goes on as if nothing had happened.
        await guard.run({ resource: id, token: 6n }, write(id, 6))
        expect(await valueOf(client, id)).toBe(6)
      },
    )

    it('reports it also when the callback throws afterwards: it was not rolled back', async () => {
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

  it('compares names as bytes, whatever they contain', async () => {
    // Its own table, because all clients use the same names.
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

  it('can migrate twice, and several times at once', async () => {
    const others = Array.from({ length: 4 }, () => client.guard({ table: 'migrated' }))
    await Promise.all(others.map((other) => other.migrate()))
    await others[0].advance({ resource: 'kept', token: 3n })
    await others[1].migrate()
    expect(await others[2].highWater('kept')).toBe(3n)
  })

  it('reports a missing table', async () => {
    const error = await rejection(client.guard({ table: 'never_made' }).advance({ resource: 'a', token: 1n }))
    expect(error.message).toContain('never_made')
    expect(error).not.toBeInstanceOf(OutcomeUnknownError)
  })

  describe('a lock that is no longer held', () => {
    it('is rejected before the transaction', async () => {
      const locks = closing(new LockManager({ local: join(tempDir(), 'locks.sqlite') }))
      const lock = await locks.acquireLocal(unique(), { ttlMs: 60_000 })
      await guard.run(lock, () => undefined)
      expect(await guard.highWater(lock.resource)).toBe(lock.token)
      await lock.release()
      const error = await rejection<LockLostError>(guard.run(lock, () => undefined))
      expect(error).toBeInstanceOf(LockLostError)
      expect(error).toMatchObject({ code: 'LOCK_LOST', resource: lock.resource, strategy: 'local' })
    })

    it('is rolled back if it was lost meanwhile, with abortOnLoss', async () => {
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
      // `held` counts as well, without a signal.
      const ended = { resource: id, token: 3n, held: true }
      const endAndWrite = (tx: any) => {
        ended.held = false
        return client.rows(tx, setTo(id, 1))
      }
      const quiet = await rejection(client.guard({ abortOnLoss: true }).run(ended, endAndWrite))
      expect(quiet).toMatchObject({ code: 'LOCK_LOST', resource: id })
      expect(await valueOf(client, id)).toBe(0)
      // Without the option, only the token decides.
      await guard.run(late, loseAndWrite(2))
      expect(await valueOf(client, id)).toBe(2)
    })
  })

  it('rejects invalid locks', async () => {
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

  it('never lowers a token, and never lets a lower one write, in random orders', async () => {
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
