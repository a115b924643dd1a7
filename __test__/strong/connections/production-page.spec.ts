/**
 * What docs/guide/production.md states about Redis: how many connections there are, and which outage costs no
 * lock.
 */
import { LockManager } from 'fencelock'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { beforeAll, describe, expect, test } from 'vitest'

import { closing, unique } from '../../fixtures/locks'
import { startProxy } from '../../fixtures/servers/proxy'
import { startNodes, startPrimary, startRedis, type Deployment } from '../../fixtures/servers/redis'
import { startSentinel } from '../../fixtures/servers/sentinel'
import { eventually, root, sleep } from '../../fixtures/temp'
import { isInline } from '../lone-calls/support'
import { patient } from '../support'

const page = readFileSync(join(root, 'docs/guide/production.md'), 'utf8')

/** What the page says about a kind of server: two numbers of its table, usually and at most. */
function stated(server: string): [usually: number, atMost: number] {
  const row = page.split('\n').find((line) => line.startsWith(`| ${server} `))
  const [usually, atMost] = row!.match(/\| (\d+)\b/g)!.map((cell) => Number(cell.slice(2)))
  // That for calls that are made one after another.
  const missing = !isInline && server.startsWith('a primary') ? 1 : 0
  return [usually! - missing, atMost! - missing]
}

async function connections(server: { cmd(...args: string[]): Promise<unknown> }): Promise<number> {
  const list = String(await server.cmd('CLIENT', 'LIST'))
  return list.split('\n').filter((line) => line.includes(' name=fencelock ')).length
}

/** All calls of one kind of lock, many at once, and one after another. */
async function load(locks: LockManager, options = {}): Promise<void> {
  const some = await Promise.all(
    Array.from({ length: 300 }, () => locks.acquire(unique(), { ttlMs: 10_000, ...options })),
  )
  await Promise.all(some.map((lock) => lock.extend()))
  await Promise.all(some.map((lock) => lock.release()))
  for (let call = 0; call < 20; call++)
    await (await locks.acquire(unique(), { ttlMs: 10_000, ...options })).release()
}

async function wait(locks: LockManager): Promise<() => Promise<unknown>> {
  const held = await locks.acquire(unique())
  const next = locks.acquire(held.resource, { waitMs: 10_000 })
  return async () => {
    await held.release()
    await (await next).release()
  }
}

describe('the connections of a manager', () => {
  let redis: Deployment
  beforeAll(async () => {
    redis = await startPrimary()
  })

  test('of a primary with replicas', async () => {
    const [usually, atMost] = stated('a primary with replicas')
    const locks = closing(new LockManager({ redis: redis.url, defaults: patient }))
    await load(locks)
    const end = await wait(locks)
    await eventually('all are connected', async () => (await connections(redis.primary)) === usually)
    await end()
    // As many kinds of acknowledgements as it can keep connections for, and more.
    const kinds = [1, 2].flatMap((acks) =>
      [1, 2, 4, 8, 16, 32, 64, 128].map((times) => ({ acks, ttlMs: 600_000, ackTimeoutMs: 2_000 * times })),
    )
    await Promise.all(kinds.map((kind) => load(locks, kind)))
    const again = await wait(locks)
    await eventually('those that are too many end', async () => (await connections(redis.primary)) <= atMost)
    expect(await connections(redis.primary)).toBeGreaterThan(usually)
    await again()
    await locks.close()
    await eventually('none is left', async () => (await connections(redis.primary)) === 0)
  })

  test('of a primary without acknowledgements', async () => {
    const [usually, atMost] = stated('a primary, with `acks: 0`')
    const locks = closing(new LockManager({ redis: { url: redis.url, replicas: 0 } }))
    await load(locks)
    await eventually('all are connected', async () => (await connections(redis.primary)) === usually)
    const end = await wait(locks)
    await eventually('it listens', async () => (await connections(redis.primary)) === atMost)
    await end()
  })

  test('of a quorum', async () => {
    const [usually, atMost] = stated('each node of a quorum')
    const nodes = await startNodes(3)
    const locks = closing(
      new LockManager({ quorum: { nodes: nodes.map(({ url }) => url), restartDelayMs: 0 } }),
    )
    await load(locks)
    for (const node of nodes) expect(await connections(node)).toBe(usually)
    const end = await wait(locks)
    const most = async () => Math.max(...(await Promise.all(nodes.map((node) => connections(node)))))
    await eventually('it listens', async () => (await most()) === atMost)
    await end()
  })

  test('of Sentinels', async () => {
    const [usually, atMost] = stated('each Sentinel')
    const { sentinelUrls, sentinels, name } = await startSentinel()
    const locks = closing(new LockManager({ redis: { sentinels: sentinelUrls, name }, defaults: patient }))
    await load(locks)
    for (const sentinel of sentinels) {
      await eventually('it is subscribed', async () => (await connections(sentinel)) === usually)
      expect(await connections(sentinel)).toBeLessThanOrEqual(atMost)
    }
  })
})

test('an outage of a third of the TTL costs no lock, whenever it begins', async () => {
  // A third of it is the outage, and the rest is longer than a machine stalls.
  const ttlMs = 9600
  const { port } = await startRedis()
  // The links break at different moments of a renewal's period.
  const outages = [0, 0.2, 0.4, 0.6, 0.8].map(async (part) => {
    const proxy = await startProxy(port)
    const locks = closing(new LockManager({ redis: { url: proxy.url, replicas: 0 } }))
    const lock = await locks.acquire(unique(), { ttlMs, renew: true })
    await sleep((ttlMs * (1 + part)) / 3)
    await proxy.stop()
    await sleep(ttlMs / 3)
    expect({ part, held: lock.held }).toEqual({ part, held: true })
    await proxy.start()
    // Without one it would be at two thirds, at most.
    await eventually('it is renewed', () => lock.remainingMs > ttlMs * 0.7)
    expect({ part, held: lock.held, aborted: lock.signal.aborted }).toEqual({
      part,
      held: true,
      aborted: false,
    })
    return lock.release()
  })
  expect(await Promise.all(outages)).toEqual(outages.map(() => true))
})
