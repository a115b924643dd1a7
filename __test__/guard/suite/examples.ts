/** The examples of all documents for this store: each line prints what its comment says. */
import { expect, it } from 'vitest'

import type { Client } from '../../../scripts/sql-clients/index.mjs'
import { generatePrisma } from '../../fixtures/examples/prisma'
import { allSnippets, promisedOutput, runSnippet } from '../../fixtures/examples/snippets'

export function exampleSuite(
  need: string,
  { client, url }: { client?: () => Promise<Client>; url?: () => string },
): void {
  const snippets = allSnippets().filter(({ needs }) => needs.includes(need))
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
    const promised = promisedOutput(snippet)
    expect(promised.length).toBeGreaterThan(0)
    expect(ending.stdout.trim().split('\n')).toEqual(promised)
  })
}
