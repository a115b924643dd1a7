/** The examples in README.md and in the documents do what they state, and the links lead somewhere. */
import { spawnSync } from 'node:child_process'
import { existsSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { dirname, join, relative } from 'node:path'
import { describe, expect, it } from 'vitest'

import { allSnippets, documents, readSnippets, runSnippet } from '../fixtures/examples/snippets'
import { startPrimary, startRedis } from '../fixtures/servers/redis'
import { consumerDir, root } from '../fixtures/temp'

describe('the documents', () => {
  const all = allSnippets()
  // The specs of the guards run the other ones, because they have the databases and clients.
  const snippets = all.filter(({ needs }) => needs.includes('local') || needs.includes('strong'))

  it('has an example of each strategy, and of each guard', () => {
    const needs = all.flatMap((snippet) => snippet.needs)
    const expected = ['local', 'strong', 'postgres', 'mysql', 'sqlite', 'redis', 'http']
    expect(needs).toEqual(expect.arrayContaining(expected))
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

  const strong = readSnippets('README.md').find(({ needs }) => needs.includes('strong'))!

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
    const names = readSnippets('README.md')
      .slice(0, 2)
      .map(({ code }, index) => {
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

  it('have a README that is read in two minutes', () => {
    expect(statSync(join(root, 'README.md')).size).toBeLessThanOrEqual(9 * 1024)
  })

  it('have links that lead to a file, and to a heading in it', () => {
    const others = ['ARCHITECTURE.md', 'CONTRIBUTING.md', 'CHANGELOG.md']
    const broken = [...documents, ...others].flatMap((file) => {
      const links = [...readFileSync(join(root, file), 'utf8').matchAll(/\]\(([^)\s]+)\)/g)]
      return links
        .map(([, link]) => link!)
        .filter((link) => !/^[a-z]+:/.test(link) && !leads(file, link))
        .map((link) => `${file}: ${link}`)
    })
    expect(broken).toEqual([])
  })
})

/** Whether a relative link of a document leads somewhere. */
function leads(file: string, link: string): boolean {
  const [path = '', heading] = link.split('#')
  const target = path === '' ? file : relative(root, join(root, dirname(file), path))
  if (!existsSync(join(root, target))) return false
  if (heading === undefined) return true
  const headings = readFileSync(join(root, target), 'utf8').match(/^#+ .*$/gm) ?? []
  return headings.some((line) => anchor(line.replace(/^#+ /, '')) === heading)
}

/** As GitHub makes it. */
function anchor(heading: string): string {
  return heading
    .toLowerCase()
    .replaceAll(/[^\p{L}\p{N}_ -]/gu, '')
    .replaceAll(' ', '-')
}
