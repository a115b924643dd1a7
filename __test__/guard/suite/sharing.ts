/** Guards side by side: on one connection, on a pool, and many transactions at once. */
import { StaleTokenError } from 'fencelock'
import { expect, it } from 'vitest'

import { TABLE, type Client } from '../../../scripts/sql-clients/index.mjs'
import { rejection, unique } from '../../fixtures/locks'
import { sleep } from '../../fixtures/temp'
import { open, row, setTo, valueOf, type Subject } from './subject'

/** For a connection that several guards share. */
export function singleSuite(subject: Subject): void {
  it('runs guards one after the other, also with different tables', async () => {
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

  it('rejects a guard inside a guard, which would wait for itself', async () => {
    const client = await open(subject)
    const guard = client.guard()
    await guard.migrate()
    const lock = { resource: unique(), token: 1n }
    const error = await rejection(guard.run(lock, () => guard.advance({ resource: unique(), token: 1n })))
    expect(error).toMatchObject({
      code: 'INVALID_OPTION',
      message: expect.stringContaining('inside another one'),
    })
    // Work that a callback left running in the background is no longer inside it.
    let later: Promise<unknown> | undefined
    let end = () => {}
    const over = new Promise<void>((resolve) => (end = resolve))
    await guard.run(lock, () => {
      later = over.then(() => guard.advance({ resource: unique(), token: 1n }))
    })
    end()
    await later
  })
}

/** For clients with a connection per transaction. */
export function poolSuite(subject: Subject): void {
  it('rejects a guard inside another one for the same resource: no server would detect that deadlock', async () => {
    const client = await open(subject)
    const guard = client.guard()
    await guard.migrate()
    const [a, b] = [unique('a'), unique('b')]
    const lock = { resource: a, token: 1n }
    for (const inner of [lock, { resources: [b, a], token: 1n }]) {
      // Another guard of the same table has the same fence.
      expect(await rejection(guard.run(lock, () => client.guard().advance(inner)))).toMatchObject({
        code: 'INVALID_OPTION',
        message: expect.stringContaining(`for the same resource, "${a}"`),
      })
    }
    // For another resource it is another transaction, which does not see uncommitted writes of the first one.
    await guard.run(lock, async () => {
      await guard.advance({ resource: b, token: 2n })
      expect(await guard.highWater(a)).toBe(null)
    })
    expect([await guard.highWater(a), await guard.highWater(b)]).toEqual([1n, 2n])
    // Work that a callback left running in the background is no longer inside it.
    let later: Promise<unknown> | undefined
    let end = () => {}
    const over = new Promise<void>((resolve) => (end = resolve))
    await guard.run(lock, () => {
      later = over.then(() => guard.advance(lock))
    })
    end()
    await later
  })

  // Its pool does not say how large it is.
  it.skipIf(subject.client === 'mariadb')(
    'rejects a guard inside others that hold all connections of the pool: it would wait for itself',
    async () => {
      const client = await open(subject)
      const guard = client.guard()
      await guard.migrate()
      const at = () => ({ resource: unique(), token: 1n })
      const nested = (depth: number): Promise<unknown> =>
        guard.run(at(), () => (depth === 1 ? 'innermost' : nested(depth - 1)))
      // As large as the pools of the clients.
      expect(await nested(8)).toBe('innermost')
      for (const inner of [
        () => guard.advance(at()),
        () => guard.highWater(unique()),
        () => guard.migrate(),
      ]) {
        const around = (depth: number): Promise<unknown> =>
          guard.run(at(), () => (depth === 1 ? inner() : around(depth - 1)))
        expect(await rejection(around(8))).toMatchObject({
          code: 'INVALID_OPTION',
          message: expect.stringContaining('on a pool of 8: they hold all connections'),
        })
      }
    },
  )
}

/**
 * Many transactions at once: the commits must be serializable in the order of their tokens. The log has a row
 * per commit, in the order in which they had the row lock of the fence.
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
        // A transaction sees all that was committed before, and nothing higher.
        expect(Number(before.value)).toBeLessThanOrEqual(Number(token))
        if (Math.random() < 0.3) await sleep(Math.random() * 3)
        await client.rows(tx, setTo(id, Number(token)))
      })
    } catch (error) {
      // After the fence the caller has to handle a conflict: this one retries.
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
