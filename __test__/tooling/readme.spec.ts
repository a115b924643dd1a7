/** The examples in README.md do what they state. */
import { describe, expect, it } from 'vitest'

import { readSnippets, runSnippet } from '../fixtures/examples/snippets'
import { startPrimary } from '../fixtures/servers/redis'

describe('README.md', () => {
  const all = readSnippets()
  // The specs of the guards run the other ones, because they have the databases and clients.
  const snippets = all.filter(({ needs }) => needs.includes('local') || needs.includes('strong'))

  it('has an example of each strategy, and of each guard', () => {
    const needs = new Set(all.flatMap((snippet) => snippet.needs))
    expect(needs).toEqual(new Set(['local', 'strong', 'postgres', 'mysql', 'sqlite', 'redis', 'http']))
  })

  it.each(snippets.map((snippet) => [snippet.name, snippet] as const))('%s', async (_, snippet) => {
    const env = snippet.needs.includes('strong') ? { REDIS_URL: (await startPrimary()).url } : {}
    const { code, stdout, stderr } = await runSnippet(snippet, { env })
    expect(stderr).toBe('')
    expect(code).toBe(0)
    // The comment of a line states what it prints: "// true: …".
    const promised = [...snippet.code.matchAll(/console\.log\(.*\) \/\/ (\w+)/g)].map(([, word]) => word)
    expect(stdout.trim().split('\n')).toEqual(
      promised.length > 0 ? promised : expect.arrayContaining([expect.stringContaining('token')]),
    )
  })
})
