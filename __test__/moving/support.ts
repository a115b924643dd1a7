/** What the specs of docs/moving share: its pages, and the libraries from which one moves. */
import { readdirSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'

import { onCleanup } from '../fixtures/cleanup'
import { readSnippets, type Snippet } from '../fixtures/examples/snippets'
import { startCode, type Script } from '../fixtures/processes/processes'
import { startNodes, type RedisServer } from '../fixtures/servers/redis'
import { root } from '../fixtures/temp'

/** The marked blocks of all pages, each with its page's file name. */
export const blocks: readonly (Snippet & { page: string })[] = readdirSync(join(root, 'docs/moving')).flatMap(
  (page) => readSnippets(`docs/moving/${page}`).map((snippet) => Object.assign(snippet, { page })),
)

/** The packages that a block imports, by their names in it: redlock 4 has another name in examples. */
export function peersOf({ code, needs }: Snippet): Record<string, string> {
  const names = ['ioredis', 'redlock', 'redlock-universal', 'redis-semaphore', 'proper-lockfile']
  return Object.fromEntries(
    names
      .filter((name) => code.includes(`from '${name}'`))
      .map((name) => [name, name === 'redlock' && needs.includes('redlock-4') ? 'redlock-4' : name]),
  )
}

export interface Servers {
  single: NodeJS.ProcessEnv
  several: NodeJS.ProcessEnv
  nodes: RedisServer[]
}

/** Three servers, and the addresses of one and of all, as the pages expect them in the environment. */
export async function startServers(): Promise<Servers> {
  const nodes = await startNodes(3)
  const urls = nodes.map(({ url }) => url)
  return {
    nodes,
    single: { REDIS_URL: urls[0], REDIS_NODES: urls[0] },
    several: { REDIS_URL: urls[0], REDIS_NODES: urls.join(',') },
  }
}

/** The nodes of a test were started a moment ago, and would not vote for a minute. */
export const votesAtOnce = { 'quorum: { nodes': 'quorum: { restartDelayMs: 0, nodes' }

const requirePeer = createRequire(join(root, 'examples/package.json'))

/** Loads another library, as applications without types do. */
export function load(name: string): any {
  return requirePeer(name)
}

/** A client of ioredis that is closed after the test. */
export function connect(url: string, options: object = {}): any {
  const { Redis } = load('ioredis')
  const client = new Redis(url, options)
  client.on('error', () => undefined) // The commands report them.
  onCleanup(() => client.disconnect())
  return client
}

/** Starts inline code that imports the libraries; `REDIS_URL` in its environment leads to the server. */
export function startPeer(code: string, url: string): Script {
  return startCode(code, { cwd: join(root, 'examples'), env: { REDIS_URL: url } })
}
