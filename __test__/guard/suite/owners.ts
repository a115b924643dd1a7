/** Owners of equal tokens: two leases may have one token after a network split. With any SQL guard. */
import { StaleTokenError } from 'fencelock'
import { beforeAll, describe, expect, it } from 'vitest'

import type { Client } from '../../../scripts/sql-clients/index.mjs'
import { rejection, unique } from '../../fixtures/locks'
import { prepare, row, setTo, valueOf, type Subject } from './subject'

/** The statement that created the table before there were owners. */
const before = (ddl: string): string => ddl.replace(/, owner \w+, owner_token \w+/, '')

export function ownerSuite(subject: Subject): void {
  let client: Client
  let guard: any
  beforeAll(async () => {
    ;({ client, guard } = await prepare(subject))
  })
  const write = (id: string, value: number) => (tx: any) => client.rows(tx, setTo(id, value))
  const refusal = async (attempt: Promise<unknown>, token: bigint) => {
    const error = await rejection<StaleTokenError>(attempt)
    expect(error).toBeInstanceOf(StaleTokenError)
    expect(error).toMatchObject({ code: 'STALE_TOKEN', token, current: token })
    expect(error.message).toContain('from another owner of the lock')
  }
  /** A guard of a table that an earlier version created. */
  async function ofBefore() {
    const table = unique('t').slice(0, 30)
    const old = client.guard({ table })
    const ddl = before(old.ddl())
    expect(ddl).not.toContain('owner')
    await client.direct(ddl)
    return { old, table }
  }

  it('refuse an equal token of another owner, and write nothing; the same owner passes', async () => {
    const id = await row(client)
    const at = (owner: string | undefined, token = 5n) => ({ resource: id, token, owner })
    await guard.run(at('a'), write(id, 1))
    await guard.run(at('a'), write(id, 2))
    await refusal(guard.run(at('b'), write(id, 3)), 5n)
    expect(await valueOf(client, id)).toBe(2)
    await guard.run(at('a'), write(id, 4))
    // A higher token is the next owner's. A lower one is stale.
    await guard.run(at('b', 6n), write(id, 5))
    await refusal(guard.run(at('a', 6n), write(id, 6)), 6n)
    expect(await rejection(guard.run(at('b', 5n), write(id, 6)))).toMatchObject({ token: 5n, current: 6n })
    expect(await valueOf(client, id)).toBe(5)
    expect(await guard.highWater(id)).toBe(6n)
  })

  it('are not compared if either is unknown; the first one that is known counts from then on', async () => {
    const id = await row(client)
    const at = (owner?: string, token = 5n) => ({ resource: id, token, owner })
    await guard.advance(at('a'))
    await guard.run(at(), write(id, 1))
    await refusal(guard.advance(at('b')), 5n)
    // The owner of an earlier token does not count.
    await guard.advance(at(undefined, 6n))
    await guard.run(at(undefined, 6n), write(id, 2))
    await guard.run(at('b', 6n), write(id, 3))
    await refusal(guard.advance(at('a', 6n)), 6n)
    expect(await valueOf(client, id)).toBe(3)
  })

  it('are compared for each of several resources, which advance together or not at all', async () => {
    const [a, b, c] = [unique('a'), unique('b'), unique('c')]
    await guard.advance({ resource: b, token: 5n, owner: 'other' })
    const error = await rejection(guard.advance({ resources: [a, b, c], token: 5n, owner: 'mine' }))
    expect(error).toMatchObject({ code: 'STALE_TOKEN', resource: b, token: 5n, current: 5n })
    expect([await guard.highWater(a), await guard.highWater(c)]).toEqual([null, null])
    await guard.advance({ resources: [a, c], token: 5n, owner: 'mine' })
    await guard.advance({ resources: [a, c], token: 5n, owner: 'mine' })
    await guard.advance({ resources: [a, b, c], token: 5n })
    await refusal(guard.advance({ resources: [c, a], token: 5n, owner: 'other' }), 5n)
  })

  it('keep every digit of their hashes', async () => {
    const hashes = ['7fffffffffffffff', '8000000000000000', 'ffffffffffffffff', '0000000000000000']
    for (const ownerHash of hashes) {
      const resource = unique()
      const token = 2n ** 63n - 1n
      await guard.advance({ resource, token, ownerHash })
      await guard.advance({ resource, token, ownerHash })
      const next = BigInt(`0x${ownerHash}`) ^ 1n
      const near = next.toString(16).padStart(16, '0')
      await refusal(guard.advance({ resource, token, ownerHash: near }), token)
      expect(await guard.highWater(resource)).toBe(token)
    }
  })

  it('are stored as the first 64 bits of their SHA-256, next to their token', async () => {
    const resource = unique()
    // All clients use the same table.
    const token = BigInt(Math.ceil(Math.random() * 2 ** 52))
    await guard.advance({ resource, token, owner: '00000000000000000000000000000001' })
    await guard.advance({ resource, token, ownerHash: 'e0cca2965509df67' })
    const found = await client.direct(
      `SELECT token FROM fencelock_fences WHERE owner = -2248243347409215641 AND owner_token = ${token}`,
    )
    expect(found).toHaveLength(1)
  })

  describe('a table of an earlier version', () => {
    it('works as before, with and without owners', async () => {
      const { old } = await ofBefore()
      const id = await row(client)
      await old.run({ resource: id, token: 5n, owner: 'a' }, write(id, 1))
      await old.run({ resource: id, token: 5n, owner: 'b' }, write(id, 2))
      await old.run({ resource: id, token: 5n }, write(id, 3))
      await old.advance({ resources: [id, `${id} too`], token: 6n, owner: 'a' })
      const stale = await rejection(old.run({ resource: id, token: 5n, owner: 'a' }, write(id, 4)))
      expect(stale).toMatchObject({ code: 'STALE_TOKEN', token: 5n, current: 6n })
      expect(await valueOf(client, id)).toBe(3)
      expect(await old.highWater(id)).toBe(6n)
    })

    it('keeps its tokens when migrate() adds the columns; then owners are compared', async () => {
      const { old, table } = await ofBefore()
      const id = await row(client)
      await old.advance({ resource: id, token: 5n, owner: 'a' })
      const others = Array.from({ length: 3 }, () => client.guard({ table }))
      await Promise.all([old, ...others].map((each) => each.migrate()))
      await old.migrate()
      expect(await old.highWater(id)).toBe(5n)
      expect(await rejection(old.advance({ resource: id, token: 4n, owner: 'a' }))).toMatchObject({
        current: 5n,
      })
      // The row of before has no owner, so the first one passes.
      await old.run({ resource: id, token: 5n, owner: 'b' }, write(id, 1))
      await refusal(old.run({ resource: id, token: 5n, owner: 'a' }, write(id, 2)), 5n)
      await refusal(others[0].run({ resource: id, token: 5n, owner: 'a' }, write(id, 2)), 5n)
      expect(await valueOf(client, id)).toBe(1)
    })

    it('goes on working for a guard that does not know yet that another process migrated it', async () => {
      const { old, table } = await ofBefore()
      const resource = unique()
      await old.advance({ resource, token: 5n, owner: 'a' })
      const other = client.guard({ table })
      await other.migrate()
      await other.advance({ resource, token: 6n, owner: 'b' })
      // It raises the token without the owner, as earlier versions do.
      await old.advance({ resource, token: 7n, owner: 'a' })
      await other.advance({ resource, token: 7n, owner: 'a' })
      await refusal(other.advance({ resource, token: 7n, owner: 'b' }), 7n)
    })
  })
}
