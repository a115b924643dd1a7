/** What goes over the wire: connections that break, and the number of round trips. */
import { OutcomeUnknownError } from 'fencelock'
import { expect, it } from 'vitest'

import { TABLE } from '../../../scripts/sql-clients/index.mjs'
import { rejection } from '../../fixtures/locks'
import { startProxy, type Trap } from '../../fixtures/servers/proxy'
import { eventually } from '../../fixtures/temp'
import { open, row, setTo, valueOf, type Subject } from './subject'

/** A client whose connections go through a proxy, and one without. */
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

/**
 * Connections that break. `committed` finds where COMMIT has reached the server, but its answer not the
 * client.
 */
export function brokenSuite(
  subject: Subject,
  committed: Pick<Trap, 'in' | 'deliver'> & { text: string },
): void {
  it('a COMMIT without an answer is an unknown outcome: it had reached the server', async () => {
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

  it('a COMMIT without an answer is an unknown outcome: it had not', async () => {
    const { proxy, client, direct, guard } = await throughProxy(subject)
    const id = await row(direct)
    const error = await rejection(
      guard.run({ resource: id, token: 5n }, async (tx: any) => {
        await client.rows(tx, setTo(id, 5))
        // postgres.js has prepared it, and sends its name: there it is the next message.
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
    // A pool has dropped the broken connection.
    await guard.run({ resource: id, token: 7n }, (tx: any) => client.rows(tx, setTo(id, 7)))
    expect(await valueOf(direct, id)).toBe(7)
  })
}

/**
 * The round trips of a client of this kind: in a transaction of the caller, in a guarded one, and in one with
 * two resources.
 */
export async function roundTrips(subject: Subject): Promise<{ own: number; guarded: number; ofTwo: number }> {
  const { proxy, client, direct, guard } = await throughProxy(subject, { record: true })
  const id = await row(direct)
  const count = async (work: () => Promise<void>): Promise<number> => {
    // Once before, so that there are connections and prepared statements.
    await work()
    await work()
    // So that statements that do not wait for an answer are sent before it arrives.
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
      guard.run({ resource: id, token: 5n, owner: 'a' }, (tx: any) => client.rows(tx, setTo(id, 2))),
    ),
    ofTwo: await count(() =>
      guard.run({ resources: [id, `${id} too`], token: 5n, owner: 'a' }, (tx: any) =>
        client.rows(tx, setTo(id, 2)),
      ),
    ),
  }
}
