/** A service whose instances run the code of docs/moving, in one of its versions. */
import { copyFileSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect } from 'vitest'

import { installPeers } from '../fixtures/examples/snippets'
import { startScript, type Script } from '../fixtures/processes/processes'
import type { RedisServer } from '../fixtures/servers/redis'
import { consumerDir, root, tempDir } from '../fixtures/temp'
import { blocks, peersOf, votesAtOnce, type Servers } from './support'

export type Version = 'old' | 'bridge' | 'new'

/** A move that a page describes. */
export interface Move {
  page: string
  library: string
  to: 'strong' | 'quorum' | 'local'
  /** What the page says in a sentence about several servers. */
  replace?: Record<string, string>
}

const servers = "process.env.REDIS_NODES.split(',').map((url) => new Redis(url))"
const universal = {
  'createLock,': 'createRedlock,',
  'createLock({ adapter,': 'createRedlock({ adapters,',
  'adapter = new IoredisAdapter(new Redis(process.env.REDIS_URL))': `adapters = ${servers}.map((each) => new IoredisAdapter(each))`,
}
const semaphore = {
  '{ Mutex }': '{ RedlockMutex }',
  'new Mutex(redis,': 'new RedlockMutex(clients,',
  'redis = new Redis(process.env.REDIS_URL)': `clients = ${servers}`,
}
export const moves: Move[] = [
  { page: 'from-redlock.md', library: 'redlock-5', to: 'strong' },
  { page: 'from-redlock.md', library: 'redlock-5', to: 'quorum' },
  { page: 'from-redlock.md', library: 'redlock-4', to: 'strong' },
  { page: 'from-redlock.md', library: 'redlock-4', to: 'quorum' },
  { page: 'from-redlock-universal.md', library: 'redlock-universal', to: 'strong' },
  { page: 'from-redlock-universal.md', library: 'redlock-universal', to: 'quorum', replace: universal },
  { page: 'from-redis-semaphore.md', library: 'redis-semaphore', to: 'strong' },
  { page: 'from-redis-semaphore.md', library: 'redis-semaphore', to: 'quorum', replace: semaphore },
  { page: 'from-proper-lockfile.md', library: 'proper-lockfile', to: 'local' },
  { page: 'from-set-nx.md', library: 'set-nx', to: 'strong' },
]

/** Starts an instance of a version. */
export interface Start {
  (version: Version): Promise<Script>
  /** What they lock. */
  resource: string
  redis: RedisServer
  /** The number that all instances have incremented. */
  counter: () => number
  /** How often they did. */
  done: () => number
}

/** Starts instances of a service, each with its version of the page's code. */
export async function service(move: Move, { single, several, nodes }: Servers): Promise<Start> {
  const { page, library, to, replace = {} } = move
  checkReplacements(move)
  const shared = tempDir()
  const counter = join(shared, 'counter')
  writeFileSync(counter, '0')
  const env = { ...(to === 'quorum' ? several : single), LOCK_FILE: join(shared, 'locks.sqlite') }
  const started: Script[] = []
  const edit = (code: string) =>
    Object.entries({ ...votesAtOnce, ...replace }).reduce(
      (text, [from, by]) => text.replaceAll(from, by),
      code,
    )

  const start = async (version: Version) => {
    const code = block('lock.js', library, version)
    const folder = consumerDir()
    installPeers(folder, peersOf(code))
    writeFileSync(join(folder, 'package.json'), '{ "type": "module" }')
    writeFileSync(join(folder, 'lock.js'), edit(code.code))
    writeFileSync(join(folder, 'locks.js'), edit(locks.code))
    copyFileSync(join(root, '__test__/moving/instance.mjs'), join(folder, 'instance.mjs'))
    const options = { cwd: folder, env, args: [counter, counter], limitMs: 60_000 }
    const script = startScript(join(folder, 'instance.mjs'), options)
    started.push(script)
    expect(await script.next()).toBe('ready')
    return script
  }
  // Of the page, if it has its own; the others refer to that of redlock.
  const locks = blocks
    .filter(({ needs }) => needs[1] === 'locks.js' && needs.includes(to))
    .toSorted((a, b) => Number(b.page === page) - Number(a.page === page))[0]!
  return Object.assign(start, {
    resource: counter,
    redis: nodes[0]!,
    counter: () => Number(readFileSync(counter, 'utf8')),
    done: () => started.flatMap(({ said }) => said).filter((value) => has(value, 'done')).length,
  })
}

/** Fails if a replacement of a move replaces nothing: it would then test another move than it says. */
function checkReplacements({ page, library, replace = {} }: Move): void {
  const texts = blocks
    .filter((each) => each.page === page && each.needs.includes(library))
    .map(({ code }) => code)
  const useless = Object.keys(replace).filter((from) => !texts.some((text) => text.includes(from)))
  expect(useless, `texts that ${page} does not have`).toEqual([])
}

/** The block of a page with all of these words. */
function block(...words: string[]) {
  const found = blocks.filter(({ needs }) => words.every((word) => needs.includes(word)))
  if (found.length !== 1) throw new Error(`${found.length} blocks with ${words.join(', ')}`)
  return found[0]!
}

/** Whether an instance said something of this kind. */
export function has(value: unknown, key: string): boolean {
  return typeof value === 'object' && value !== null && key in value
}
