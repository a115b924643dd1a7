/** docs/reference/redis-keys.md describes what is on a server: every key and channel, and no others. */
import { LockManager, type Lock } from 'fencelock'
import { redisGuard } from 'fencelock/guard'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'

import { blocksOf } from '../fixtures/examples/markdown'
import { ioredis, load } from '../fixtures/examples/redis-clients'
import { startRedisCluster, type RedisCluster } from '../fixtures/servers/cluster'
import { startRedis, type RedisServer } from '../fixtures/servers/redis'
import { eventually, root } from '../fixtures/temp'

const page = readFileSync(join(root, 'docs/reference/redis-keys.md'), 'utf8')

/** The rows of the section's table: the cells of each, without the marks of code. */
function rowsOf(section: string): string[][] {
  const text = page.split(/^## /m).find((part) => part.startsWith(`${section}\n`))!
  return [...text.matchAll(/^\| (`.*)\|$/gm)].map(([, row]) =>
    row!.split(' | ').map((cell) => cell.trim().replace(/^`(.*)`$/, '$1')),
  )
}

const parts: Record<string, string> = {
  '<prefix>': 'fencelock',
  '<resource>': '(?!x\\{).+',
  '<hex>': '[0-9a-f]+',
  '<tag>': '[^}]+',
  '<id>': '[0-9a-f]{12}',
  '<process>': '[0-9a-f]{32}',
  '<number>': '\\d+',
}

/** What fits a name of the page, in which `<…>` stands for something. */
function pattern(name: string): RegExp {
  const text = name.replaceAll(/[{}.]/g, '\\$&').replaceAll(/<\w+>/g, (part) => parts[part]!)
  return new RegExp(`^${text}$`)
}

/** Each name fits one of these rows, and each row fits a name. Returns the row of each name. */
function match(names: readonly string[], rows: readonly string[][]): Map<string, string[]> {
  const fitting = names.map((name) => [name, rows.filter(([each]) => pattern(each!).test(name))] as const)
  expect(fitting.filter(([, all]) => all.length !== 1)).toEqual([])
  const seen = new Set(fitting.map(([, all]) => all[0]))
  expect(rows.filter((row) => !seen.has(row))).toEqual([])
  return new Map(fitting.map(([name, all]) => [name, all[0]!]))
}

let server: RedisServer
let cluster: RedisCluster
const managers: LockManager[] = []
/** All locks, so that none is collected. */
const kept: Lock[] = []
let held: Lock

/** A manager that outlives the tests, as their server does. */
function open(options: ConstructorParameters<typeof LockManager>[0]): LockManager {
  const locks = new LockManager(options)
  managers.push(locks)
  return locks
}

/** Locks of every kind, with a fair waiter and one that is not for each of these. */
async function useAll(locks: LockManager, resources: string[], isQuorum = false): Promise<void> {
  for (const resource of resources) {
    const lock = await locks.acquire(resource, { ttlMs: 60_000, renew: true })
    for (const fair of [false, true])
      void locks.acquire(resource, { waitMs: 60_000, fair }).catch(() => undefined)
    held ??= lock
    kept.push(lock)
  }
  const [first] = resources
  const several = await locks.acquire([`{${first}}:1`, `{${first}}:2`], { minHoldMs: 60_000 })
  await several.release()
  if (!isQuorum) kept.push(await locks.adopt(await (await locks.acquire(`given by ${first}`)).handOver()))
}

beforeAll(async () => {
  server = await startRedis()
  cluster = await startRedisCluster()
  await useAll(open({ redis: { url: server.url, replicas: 0 } }), ['invoice:42', '}odd', '{order:5}:stock'])
  // One server is one node of a quorum only, which is enough for its keys.
  const nodes = [server, await startRedis(), await startRedis()].map(({ url }) => url)
  await useAll(open({ quorum: { nodes, restartDelayMs: 0 } }), ['of a quorum'], true)
  await useAll(open({ redis: { cluster: cluster.nodes[0]!.url, replicas: 1 }, defaults: { acks: 0 } }), [
    'sharded',
  ])
  const Redis = load('ioredis')
  const guard = redisGuard({ client: ioredis(new Redis(server.port, '127.0.0.1')) })
  await guard.set(held, 'data', 1)
  await server.cmd('DEL', 'data')
})
afterAll(async () => {
  await Promise.all(managers.map((locks) => locks.close({ drainMs: 0 })))
})

const keysOf = async (each: { cmd: RedisServer['cmd'] }, like = '*') =>
  (await each.cmd('KEYS', like)) as string[]

/** Whether a key of this name has that many milliseconds left. */
function lasts(key: string): (leftMs: number) => boolean {
  if (key.includes(':guard{')) return (left) => left === -1
  if (key.endsWith(':holder')) return (left) => left > 60_000 && left <= 124_000
  if (key.endsWith(':line')) return (left) => left > 0 && left <= 5000
  if (key.endsWith(':fence')) return (left) => left > 7 * 86_400_000
  return (left) => left > 0 && left <= 120_000
}

/** What keys of these names hold. */
const contents: [name: RegExp, text: RegExp][] = [
  [/:lock$/, /^[0-9a-f]{32}$/],
  [/:holder$/, new RegExp(`^\\d{13}\n${process.pid}\n.*\n.*:${process.pid}$`)],
  [/:fence$|:guard\{[^}]+\}:/, /^\d{16}$/],
  [/:guard\{[^}]+\}owner:/, /^\d{16}:[0-9a-f]{16}$/],
]

describe('docs/reference/redis-keys.md', () => {
  test('has every key with its type, and how long it lasts', async () => {
    await eventually('all wait', async () => (await keysOf(server, '*:line')).length >= 4)
    await eventually('the holders are known', async () => (await keysOf(server, '*:holder')).length === 2)
    const keys = await keysOf(server)
    for (const [key, [, type]] of match(keys, rowsOf('The keys'))) {
      expect([key, await server.cmd('TYPE', key)]).toEqual([key, type === 'sorted set' ? 'zset' : type])
      const left = Number(await server.cmd('PTTL', key))
      expect([key, lasts(key)(left)]).toEqual([key, true])
      const text = type === 'string' ? String(await server.cmd('GET', key)) : ''
      expect(text).toMatch(contents.find(([name]) => name.test(key))?.[1] ?? /^/)
    }
    expect(await server.cmd('GET', 'fencelock:{invoice:42}:lock')).toBe(held.owner)
    expect(await server.cmd('GET', 'fencelock:{invoice:42}:fence')).toBe(String(held.token))
  })

  test('shows commands that work', async () => {
    const block = blocksOf('docs/reference/redis-keys.md').find(({ language }) => language === 'sh')
    const replies: unknown[] = []
    for (const line of block!.code.split('\n')) {
      const [, command, key] = /^redis-cli (\w+) '([^']+)' +# /.exec(line)!
      replies.push(await server.cmd(command!, key!))
    }
    expect(replies).toEqual([held.owner, expect.any(Number), String(held.token)])
  })

  test('has every member of a wait queue, and its score', async () => {
    const own = await server.cmd('ZRANGE', 'fencelock:{invoice:42}:line', 0, -1, 'WITHSCORES')
    const owner = await cluster.ownerOf('fencelock:{sharded}:line')
    const other = await owner.cmd('ZRANGE', 'fencelock:{sharded}:line', 0, -1, 'WITHSCORES')
    await held.release()
    await server.cmd('DEL', 'fencelock:{invoice:42}:lock')
    const after = await server.cmd('ZRANGE', 'fencelock:{invoice:42}:line', 0, -1, 'WITHSCORES')
    const all = ([own, other, after] as string[][]).flat()
    const scores = new Map(
      all.flatMap((each, index) => (index % 2 === 0 ? [[each, Number(all[index + 1])]] : [])),
    )
    match([...scores.keys()], rowsOf('The wait queue'))
    for (const [member, score] of scores) {
      const offset = member.endsWith('u') ? 4e15 : 0
      if (member.includes(':')) expect(Math.abs(score - offset - Date.now() * 1000)).toBeLessThan(60e6)
      else if (member !== 'offered') expect(Math.abs(score - Date.now())).toBeLessThan(60e3)
    }
  })

  test('has every channel', async () => {
    const owner = await cluster.ownerOf('fencelock:{sharded}:line')
    const lists = [
      await server.cmd('PUBSUB', 'CHANNELS', '*'),
      await owner.cmd('PUBSUB', 'SHARDCHANNELS', '*'),
    ]
    const names = (lists as string[][]).flat()
    match(names, rowsOf('The channels'))
  })
})
