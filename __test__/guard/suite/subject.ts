/** What the suites need to know about a client, and how they read its data. */
import { openClient, TABLE, type Client } from '../../../scripts/sql-clients/index.mjs'
import { onCleanup } from '../../fixtures/cleanup'
import { unique } from '../../fixtures/locks'

type Server = Parameters<typeof openClient>[1]

/** What the suites need to know about a client. `server` is called in the first hook. */
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

/** Opens a client, and creates the guard's table and the table `data`. */
export async function prepare(subject: Subject, options?: object): Promise<{ client: Client; guard: any }> {
  const client = await open(subject)
  const guard = client.guard(options)
  await guard.migrate()
  await client.direct(TABLE)
  return { client, guard }
}

/** Inserts a row; resolves with its id. */
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
