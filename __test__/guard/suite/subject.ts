/** What the suites need to know of a client, and how they look at its data. */
import { openClient, type Client } from '../../../scripts/sql-clients/index.mjs'
import { onCleanup } from '../../fixtures/cleanup'
import { unique } from '../../fixtures/locks'

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
