/** Waiting for strong locks: what wakes a waiter, what giving up leaves behind, and what waiting costs. */
import { LockManager } from 'fencelock'
import { beforeAll, expect, it } from 'vitest'

import { closing, rejection, unique } from '../../fixtures/locks'
import { startPrimary, type Deployment, type RedisServer } from '../../fixtures/servers/redis'
import { eventually, sleep } from '../../fixtures/temp'
import { fenceKey, patient, queueKey } from '../support'
import { startWaiter, waitUntilQueued } from './waiters'

/** How many calls of each command the server has counted. */
async function calls(server: RedisServer): Promise<(command: string) => number> {
  const stats = await server.info('commandstats')
  return (command) => Number(/calls=(\d+)/.exec(stats[`cmdstat_${command}`] ?? '')?.[1] ?? 0)
}

let redis: Deployment
beforeAll(async () => {
  redis = await startPrimary()
})
const manager = (): LockManager => closing(new LockManager({ redis: redis.url, defaults: patient }))
const queued = (resource: string, count: number): Promise<void> =>
  waitUntilQueued(redis.primary, resource, count)

it('is notified of a release long before the lease would end, and before the next heartbeat', async () => {
  const [one, two] = [manager(), manager()]
  const waits: number[] = []
  for (let round = 0; round < 10; round++) {
    const resource = unique()
    const lock = await one.acquireStrong(resource, { ttlMs: 60_000 })
    const next = two.acquireStrong(resource, { waitMs: 30_000 })
    await queued(resource, 1)
    const released = performance.now()
    await lock.release()
    expect((await next).token).toBeGreaterThan(lock.token)
    waits.push(performance.now() - released)
    await (await next).release()
    expect(await redis.primary.cmd('ZCOUNT', queueKey(resource), 1e14, '+inf')).toBe(0)
  }
  // Heartbeats are sent once a second: without a notification it would be half a second on average.
  expect(waits.toSorted((a, b) => a - b)[5]).toBeLessThan(250)
})

it('is notified of a forced release and of a rollback, and notices the end of a lease', async () => {
  const [one, two] = [manager(), manager()]
  const resource = unique()
  await one.acquireStrong(resource, { ttlMs: 60_000 })
  const next = two.acquireStrong(resource, { waitMs: 30_000, ttlMs: 3_000 })
  await queued(resource, 1)
  await one.forceRelease(resource)
  await next
  const began = performance.now()
  const third = await one.acquireStrong(resource, { waitMs: 30_000 })
  expect(performance.now() - began).toBeGreaterThan(800)
  expect(performance.now() - began).toBeLessThan(7_000)
  await third.release()

  // Refused for lack of acknowledgements: those that wait for that lease are notified of the rollback.
  redis.replicas[0]!.pause()
  try {
    const other = unique()
    const refused = rejection(one.acquireStrong(other, { ttlMs: 10_000, ackTimeoutMs: 1_000 }))
    // Which stays after the rollback.
    await eventually('it is written', () => redis.primary.cmd('EXISTS', fenceKey(other)))
    const lucky = await two.acquireStrong(other, { waitMs: 8_000, acks: 1 })
    expect(await refused).toMatchObject({ code: 'INSUFFICIENT_REPLICAS', rolledBack: true })
    expect(lucky.held).toBe(true)
  } finally {
    redis.replicas[0]!.resume()
    await redis.primary.waitForReplicas(2)
  }
})

it('waits for several resources at once', async () => {
  const [one, two] = [manager(), manager()]
  const [a, b] = [unique(), unique()]
  const [first, second] = [await one.acquireStrong(a), await one.acquireStrong(b)]
  const both = two.acquireStrong([a, b], { waitMs: 20_000 })
  await queued(a, 1)
  await queued(b, 1)
  await first.release()
  await second.release()
  expect((await both).token).toBeGreaterThan(second.token)
  await (await both).release()
})

it('leaves nothing behind when it gives up', async () => {
  const [one, two] = [manager(), manager()]
  const resource = unique()
  const lock = await one.acquireStrong(resource, { ttlMs: 60_000 })
  for (const fair of [false, true]) {
    expect(await rejection(two.acquireStrong(resource, { waitMs: 50, fair }))).toMatchObject({
      code: 'LOCK_HELD',
    })
    await queued(resource, 0)
    const controller = new AbortController()
    const aborted = rejection(
      two.acquireStrong(resource, { waitMs: Infinity, fair, signal: controller.signal }),
    )
    await queued(resource, 1)
    controller.abort(new Error('enough'))
    expect(await aborted).toMatchObject({ message: 'enough' })
    await queued(resource, 0)
  }
  await lock.release()
  await sleep(100)
  expect(await one.inspect(resource)).toBeNull()
  // The key itself has an end, too.
  expect(Number(await redis.primary.cmd('PTTL', queueKey(resource)))).toBeLessThanOrEqual(5_000)
})

it('keeps waiting while too few replicas acknowledge', async () => {
  const [one, two] = [manager(), manager()]
  const resource = unique()
  const lock = await one.acquireStrong(resource, { ttlMs: 60_000 })
  const waits = Array.from({ length: 3 }, () =>
    two.acquireStrong(resource, { waitMs: 20_000, ackTimeoutMs: 100 }),
  )
  await queued(resource, 1)
  redis.replicas[1]!.pause()
  await lock.release()
  await sleep(400)
  redis.replicas[1]!.resume()
  await redis.primary.waitForReplicas(2)
  await Promise.all(waits.map(async (wait) => (await wait).release()))
})

it('blocks no other caller from a lock that it cannot take because it waits for a second one', async () => {
  const [one, two, three] = [manager(), manager(), manager()]
  const [a, b] = [unique(), unique()]
  const held = await one.acquireStrong(b, { ttlMs: 60_000 })
  const first = await one.acquireStrong(a, { ttlMs: 60_000 })
  const both = two.acquireStrong([a, b], { waitMs: 30_000 })
  await queued(a, 1)
  const single = three.acquireStrong(a, { waitMs: 30_000 })
  await queued(a, 2)
  const began = performance.now()
  await first.release()
  expect((await single).held).toBe(true)
  // Otherwise it would not be notified, and would check again only at the end of the released lease.
  expect(performance.now() - began).toBeLessThan(5_000)
  await (await single).release()
  await held.release()
  await (await both).release()
})

it('continues when its subscription breaks', async () => {
  const [one, two] = [manager(), manager()]
  const waits: number[] = []
  for (let round = 0; round < 7; round++) {
    const resource = unique()
    const lock = await one.acquireStrong(resource, { ttlMs: 60_000 })
    const next = two.acquireStrong(resource, { waitMs: 30_000 })
    await queued(resource, 1)
    await eventually('a subscription breaks', async () => {
      return Number(await redis.primary.cmd('CLIENT', 'KILL', 'TYPE', 'pubsub')) > 0
    })
    const began = performance.now()
    await lock.release()
    expect((await next).held).toBe(true)
    waits.push(performance.now() - began)
    await (await next).release()
  }
  // It subscribes again at once. With heartbeats alone it would be half a second on average.
  expect(waits.toSorted((a, b) => a - b)[3]).toBeLessThan(400)
})

it('costs the same for each handoff with 10 and with 200 waiters in the same number of processes', async () => {
  const perHandoff: number[] = []
  for (const waiters of [10, 200]) {
    const resource = unique()
    const processes = Array.from({ length: 4 }, () => startWaiter(redis.url))
    for (const script of processes) {
      script.tell({ name: 'warm', resource: unique(), holdMs: 0 })
      await script.until((said) => Array.isArray(said))
    }
    const locks = manager()
    const lock = await locks.acquireStrong(resource, { ttlMs: 60_000 })
    const served = (): number => {
      let count = 0
      for (const { said } of processes) for (const entry of said) if (Array.isArray(entry)) count++
      return count - processes.length
    }
    for (let number = 0; number < waiters; number++) {
      processes[number % 4]!.tell({ name: number, resource, holdMs: 0 })
    }
    await queued(resource, 4)
    await sleep(200)
    const before = await calls(redis.primary)
    await lock.release()
    await eventually('each waiter was served', () => served() === waiters, 20_000)
    const after = await calls(redis.primary)
    const commands = ['evalsha', 'publish', 'wait'].map((command) => after(command) - before(command))
    perHandoff.push(commands.reduce((sum, count) => sum + count, 0) / waiters)
    // Each of them once.
    const names = processes.flatMap(({ said }) => said.filter(Array.isArray).map(([name]) => name))
    expect(names.filter((name) => name !== 'warm').toSorted((a, b) => a - b)).toEqual(
      Array.from({ length: waiters }, (_, number) => number),
    )
    for (const script of processes) await script.kill()
  }
  const [few, many] = perHandoff as [number, number]
  expect(many / few).toBeLessThan(1.5)
})
