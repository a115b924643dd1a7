/** The examples in README.md do what they state. */
import { spawnSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'

import { readSnippets, runSnippet } from '../fixtures/examples/snippets'
import { startPrimary, startRedis } from '../fixtures/servers/redis'
import { consumerDir, root } from '../fixtures/temp'

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

  const strong = snippets.find(({ needs }) => needs.includes('strong'))!

  it('starts on a development server, and on one whose replicas acknowledge', async () => {
    const [plain, primary] = [await startRedis(), await startPrimary()]
    const run = (REDIS_URL: string, REDIS_REPLICAS?: string) =>
      runSnippet(strong, { env: { REDIS_URL, ...(REDIS_REPLICAS !== undefined && { REDIS_REPLICAS }) } })
    expect(await run(plain.url)).toMatchObject({
      code: 0,
      stdout: expect.stringMatching(/^token \d+, acknowledged by 0 replicas\n$/),
      stderr: '',
    })
    expect((await run(primary.url, '2')).stdout).toContain('acknowledged by 2 replicas')
    // The declared replicas are not there: it says so, and does not crash.
    expect(await run(plain.url, '2')).toMatchObject({
      code: 0,
      stdout: '',
      stderr: expect.stringMatching(/0 of the required 2 replicas acknowledged.*replicas: 0/s),
    })
  })

  it('has quick starts that type-check', async () => {
    const folder = consumerDir()
    const names = snippets.slice(0, 2).map(({ code }, index) => {
      writeFileSync(join(folder, `${index}.mts`), code)
      return `${index}.mts`
    })
    const options = ['--noEmit', '--strict', '--module', 'nodenext', '--target', 'esnext', '--types', 'node']
    const types = ['--typeRoots', join(root, 'node_modules/@types')]
    const tsc = join(root, 'node_modules/typescript/bin/tsc')
    const { status, stdout } = spawnSync(process.execPath, [tsc, ...options, ...types, ...names], {
      cwd: folder,
      encoding: 'utf8',
    })
    expect({ status, stdout }).toEqual({ status: 0, stdout: '' })
  })
})
