/** Several processes: a stopped holder, and many writers. With one client per store. */
import { LockManager, StaleTokenError } from 'fencelock'
import { join } from 'node:path'
import { beforeAll, expect, it } from 'vitest'

import type { Client } from '../../../scripts/sql-clients/index.mjs'
import { closing, unique } from '../../fixtures/locks'
import { startScript } from '../../fixtures/processes/processes'
import { root, tempDir } from '../../fixtures/temp'
import { prepare, row, setTo, valueOf, type Subject } from './subject'

/** For processes to start, and for all of their work: far longer than that takes, but machines are busy. */
const startMs = 60_000
const limitMs = 300_000

export function storySuite(subject: Subject, writes: number): void {
  let client: Client
  let guard: any
  beforeAll(async () => {
    ;({ client, guard } = await prepare(subject))
  })

  const child = (task: object) =>
    startScript(join(root, '__test__/guard/suite/child.mjs'), {
      args: [JSON.stringify({ client: subject.client, server: subject.server(), ...task })],
      limitMs,
    })

  it('8 processes create the table at once', { timeout: 2 * startMs }, async () => {
    const table = unique('t').slice(0, 30)
    const processes = Array.from({ length: 8 }, () =>
      child({ does: 'migrator', table, locks: join(tempDir(), 'locks.sqlite') }),
    )
    await Promise.all(processes.map((one) => one.next(startMs)))
    for (const one of processes) one.tell('go')
    for (const one of processes) {
      expect(await one.next(startMs)).toBe('migrated')
      one.hangUp()
      expect(await one.ended).toMatchObject({ code: 0, stderr: '' })
    }
    expect(await client.guard({ table }).highWater('a')).toBe(5n)
  })

  const stopping = { timeout: 2 * startMs }
  /** A takes the lock and reads, is stopped beyond its lease; B takes it and writes 100; A goes on. */
  async function staleWriter(guarded: boolean): Promise<{ said: any; value: number; tokens: bigint[] }> {
    const id = await row(client)
    const path = join(tempDir(), 'locks.sqlite')
    const a = child({ does: 'sleeper', id, locks: path, guarded, ttlMs: 200 })
    const { has } = await a.next<{ has: string }>(startMs)
    await a.pauseBetweenWrites()
    const locks = closing(new LockManager({ local: path }))
    const b = await locks.acquireLocal(id, { waitMs: 10_000, ttlMs: 60_000 })
    const write = (tx: any) => client.rows(tx, setTo(id, 100))
    if (guarded) await guard.run(b, write)
    else await client.direct(setTo(id, 100))
    a.resume()
    a.tell('write')
    const said = await a.next(startMs)
    a.hangUp()
    expect((await a.ended).code).toBe(0)
    return { said, value: await valueOf(client, id), tokens: [BigInt(has), b.token] }
  }

  it('a stopped holder wakes up and is rejected; the next one’s write remains', stopping, async () => {
    const { said, value, tokens } = await staleWriter(true)
    expect(said.refused).toMatchObject({
      code: 'STALE_TOKEN',
      token: String(tokens[0]),
      current: String(tokens[1]),
    })
    expect(value).toBe(100)
  })

  it('the same without a guard: the update of the next holder is lost', stopping, async () => {
    const { said, value } = await staleWriter(false)
    expect(said).toEqual({ wrote: 1 })
    expect(value).toBe(1)
  })

  /**
   * B reads; A, whose lease is over, commits 10 more; B, with the higher token, writes what it read and 1.
   */
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

  it('a read after advance does not: the earlier holder is rejected', async () => {
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
        const { written, refused } = await one.next<{ written: number; refused: number }>(limitMs)
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
    `16 writers in 4 processes, some of which outlive their leases: none of ${writes} writes is lost`,
    { timeout: limitMs },
    async () => {
      const { written, refused, value } = await manyWriters(true, writes)
      expect(written).toBe(writes)
      expect(value).toBe(writes)
      expect(refused).toBeGreaterThan(0)
    },
  )

  it('the same without a guard: some are lost', { timeout: limitMs }, async () => {
    const { written, value } = await manyWriters(false, 800)
    expect(value).toBeLessThan(written)
  })
}
