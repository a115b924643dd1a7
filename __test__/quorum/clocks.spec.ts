/** Nodes whose clocks are an hour wrong: a minority of five, and one of three. */
import { type LockManager } from 'fencelock'
import { describe, expect, test } from 'vitest'

import { History } from '../fixtures/history/history'
import { unique } from '../fixtures/locks'
import { startCode } from '../fixtures/processes/processes'
import { startRedis, type RedisServer } from '../fixtures/servers/redis'
import { eventually, sleep } from '../fixtures/temp'
import { hasWallClock, wallClock, type WallClock } from '../fixtures/time/wall-clock'
import { holdersOf, lockKey, managerOf } from './support'

const hour = 3_600_000
const ttlMs = 10_000
const loadMs = 2500
/** No node is restarted, and these have just been started. */
const options = { maxTtlMs: 60_000, restartDelayMs: 0 }

interface Node {
  server: RedisServer
  clock: WallClock
  url: string
}

function startNodes(aheadMs: number[]): Promise<Node[]> {
  return Promise.all(
    aheadMs.map(async (ms) => {
      const clock = wallClock(ms)
      const server = await startRedis({ env: clock.env })
      return { server, clock, url: server.url }
    }),
  )
}

/** Contends for one resource, and calls `halfway` in the middle. */
async function contend(managers: LockManager[], halfway: () => void): Promise<void> {
  const history = new History({ limitMs: 5000 })
  const resource = unique()
  const begin = performance.now()
  const load = managers.map(async (manager) => {
    while (performance.now() < begin + loadMs) {
      const lock = await history.acquire(resource, () => manager.tryAcquireQuorum(resource, { ttlMs }))
      if (!lock) {
        await sleep(5)
        continue
      }
      // The clock of a node has no part in how long a lease lasts, and none in the token.
      expect(lock.value.remainingMs).toBeLessThanOrEqual(ttlMs)
      expect(lock.value.remainingMs).toBeGreaterThan(ttlMs / 2)
      expect(Math.abs(Number(lock.value.token / 1000n) - Date.now())).toBeLessThan(5000)
      await sleep(Math.random() * 10)
      if (Math.random() < 0.3) await lock.extend(() => lock.value.extend())
      await lock.release(() => lock.value.release())
    }
  })
  await Promise.all([...load, sleep(loadMs / 2).then(halfway)])
  const { violations, grants } = history.check()
  expect(violations).toEqual([])
  expect(grants).toBeGreaterThan(10)
}

describe.runIf(hasWallClock)('an hour wrong', () => {
  test.each([
    { which: 'one of three ahead', aheadMs: [0, 0, hour] },
    { which: 'one of three behind', aheadMs: [-hour, 0, 0] },
    { which: 'two of five', aheadMs: [hour, 0, 0, -hour, 0] },
  ])('$which: the others decide, also when it is corrected', async ({ aheadMs }) => {
    const nodes = await startNodes(aheadMs)
    const places = [...nodes.keys()]
    const right = places.filter((place) => aheadMs[place] === 0)
    const managers = [0, 1, 2].map(() => managerOf(nodes, options))
    const [manager] = managers as [LockManager]

    const lock = await manager.acquireQuorum(unique(), { ttlMs })
    expect(await holdersOf(nodes, lock.resource)).toEqual(right)
    for (const place of right) {
      const left = Number(await nodes[place]!.server.cmd('PTTL', lockKey(lock.resource)))
      expect(left).toBeLessThanOrEqual(ttlMs)
      expect(left).toBeGreaterThan(ttlMs / 2)
    }
    await lock.release()
    const { warnings } = await manager.describe()
    for (const [place, { server }] of nodes.entries()) {
      const ms = aheadMs[place]!
      const named = warnings.filter((warning) => warning.includes(`:${server.port}: its clock is`))
      expect(named).toHaveLength(ms === 0 ? 0 : 1)
      if (ms !== 0) expect(named[0]).toMatch(ms > 0 ? /3[56]\d\d\.\d s ahead/ : /3[56]\d\d\.\d s behind/)
    }

    await contend(managers, () => nodes.forEach(({ clock }) => clock.set(0)))
    await eventually('all of them vote', async () => {
      const again = await manager.acquireQuorum(unique())
      await sleep(20)
      const holders = await holdersOf(nodes, again.resource)
      await again.release()
      return holders.length === nodes.length
    })
  })

  test('a clock that steps during a lease costs that node its vote, not the lease', async () => {
    const nodes = await startNodes([0, 0, 0])
    const [holder, other] = [managerOf(nodes, options), managerOf(nodes, options)]
    const lock = await holder.acquireQuorum(unique(), { ttlMs })
    const holders = () => holdersOf(nodes, lock.resource)
    await eventually('all have it', async () => {
      // A node that was not asked in time, or answered too late, gets it with an extension.
      await lock.extend()
      return (await holders()).length === 3
    })
    nodes[0]!.clock.set(hour)
    expect(await holders()).toEqual([1, 2])
    for (let attempt = 0; attempt < 20; attempt += 1) {
      const second = await other.tryAcquireQuorum(lock.resource, { ttlMs }).catch(() => null)
      expect(second).toBeNull()
      await sleep(10)
    }
    await lock.extend()
    expect(await lock.release()).toBe(true)
    const next = await other.acquireQuorum(lock.resource, { ttlMs })
    expect(next.token).toBeGreaterThan(lock.token)
  })

  test('the clocks of clients do not matter', async () => {
    const nodes = await startNodes([0, 0, 0])
    const urls = JSON.stringify(nodes.map(({ url }) => url))
    const resource = unique()
    const clients = [hour, 0, -hour].map((ms) =>
      startCode(
        `const { LockManager } = await import('fencelock')
        const locks = new LockManager({ quorum: { nodes: ${urls}, ...${JSON.stringify(options)} } })
        for await (const _ of hear()) {
          const lock = await locks.acquireQuorum('${resource}', { ttlMs: ${ttlMs}, waitMs: 10_000 })
          say([String(lock.token), lock.remainingMs])
          await lock.release()
        }
        await locks.close()`,
        { env: wallClock(ms).env },
      ),
    )
    let last = 0n
    for (const client of [...clients, ...clients, ...clients]) {
      client.tell(0)
      const [token, remainingMs] = await client.next<[string, number]>()
      expect(BigInt(token)).toBeGreaterThan(last)
      expect(remainingMs).toBeGreaterThan(ttlMs / 2)
      expect(remainingMs).toBeLessThanOrEqual(ttlMs)
      last = BigInt(token)
    }
    for (const client of clients) {
      client.hangUp()
      expect(await client.ended).toMatchObject({ code: 0 })
    }
  })
})
