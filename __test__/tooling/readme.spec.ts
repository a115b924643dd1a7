/** The examples in README.md and in the documents do what they state. */
import { spawnSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'

import { allSnippets, promisedOutput, readSnippets, runSnippet } from '../fixtures/examples/snippets'
import { startRedisCluster } from '../fixtures/servers/cluster'
import { startNodes, startPrimary, startRedis } from '../fixtures/servers/redis'
import { startSentinel } from '../fixtures/servers/sentinel'
import { consumerDir, root } from '../fixtures/temp'

/** What an example needs: variables of its environment, and addresses in place of those that it has. */
interface Needed {
  env?: Record<string, string>
  replace?: Record<string, string>
}

/** The replicas of a busy machine may take longer than by default. */
const patient = { 'new LockManager({': 'new LockManager({ defaults: { ackTimeoutMs: 2_000 },' }

/** Starts the servers that examples of a kind need. */
const deployments: Record<string, () => Promise<Needed>> = {
  local: async () => ({}),
  strong: async () => {
    const { url } = await startPrimary()
    return { env: { REDIS_URL: url }, replace: { ...patient, 'redis://10.0.0.5': url } }
  },
  quorum: async () => {
    const urls = (await startNodes(3)).map(({ url }) => url)
    const replace = Object.fromEntries(urls.map((url, index) => [`redis://10.0.${index + 1}.1`, url]))
    // These nodes were started just now, and would not vote yet.
    return { replace: { "3.1'] }": "3.1'], restartDelayMs: 0 }", ...replace } }
  },
  sentinel: async () => {
    const { sentinelUrls, name } = await startSentinel()
    const urls = sentinelUrls.map((url, index) => [`redis://sentinel-${index + 1}`, url])
    return { replace: { ...patient, ...Object.fromEntries(urls), mymaster: name } }
  },
  cluster: async () => {
    const { nodes } = await startRedisCluster()
    const urls = nodes.slice(0, 2).map(({ url }, index) => [`redis://node-${index + 1}:6379`, url])
    return { replace: { ...patient, ...Object.fromEntries(urls) } }
  },
}

describe('the documents', () => {
  const all = allSnippets()
  // The specs of the guards run the other ones, because they have the databases and clients.
  const snippets = all.filter(({ needs }) => needs[0] !== undefined && needs[0] in deployments)

  it('have an example of each strategy, and of each guard', () => {
    const needs = all.flatMap((snippet) => snippet.needs)
    const expected = ['local', 'strong', 'postgres', 'mysql', 'sqlite', 'redis', 'http']
    expect(needs).toEqual(expect.arrayContaining(expected))
  })

  it.each(snippets.map((snippet) => [snippet.name, snippet] as const))('%s', async (_, snippet) => {
    const { code, stdout, stderr } = await runSnippet(snippet, await deployments[snippet.needs[0]!]!())
    expect(stderr).toBe('')
    expect(code).toBe(0)
    const promised = promisedOutput(snippet)
    expect(stdout.trim().split('\n')).toEqual(
      promised.length > 0 ? promised : expect.arrayContaining([expect.stringContaining('token')]),
    )
  })

  const strong = readSnippets('README.md').find(({ needs }) => needs.includes('strong'))!

  it('starts on a development server, and on one whose replicas acknowledge', async () => {
    const [plain, primary] = [await startRedis(), await startPrimary()]
    const run = (REDIS_URL: string, replicas = 0) =>
      runSnippet(strong, {
        env: { REDIS_URL },
        replace: { ...patient, 'replicas: 0': `replicas: ${replicas}` },
      })
    expect(await run(plain.url)).toMatchObject({
      code: 0,
      stdout: expect.stringMatching(/^token \d+, acknowledged by 0 replicas\n$/),
      stderr: '',
    })
    expect((await run(primary.url, 2)).stdout).toContain('acknowledged by 2 replicas')
    // The declared replicas are not there: the error says so.
    expect(await run(plain.url, 2)).toMatchObject({
      code: 1,
      stdout: '',
      stderr: expect.stringMatching(/0 of the required 2 replicas acknowledged.*replicas: 0/s),
    })
  })

  it('have quick starts that type-check', async () => {
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
})
