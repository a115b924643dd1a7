/** The fair queue of strong locks: its order, and waiters that are killed, are stopped, or give up. */
import { LockManager } from 'fencelock'
import { beforeAll, expect, it } from 'vitest'

import { closing, rejection, unique } from '../../fixtures/locks'
import { type Script } from '../../fixtures/processes/processes'
import { startPrimary, startRedis, type Deployment } from '../../fixtures/servers/redis'
import { eventually, sleep } from '../../fixtures/temp'
import { hasWallClock, wallClock } from '../../fixtures/time/wall-clock'
import { patient, queueKey } from '../support'
import { startWaiter, waitUntilQueued } from './waiters'

let redis: Deployment
beforeAll(async () => {
  redis = await startPrimary()
})
const manager = (): LockManager => closing(new LockManager({ redis: redis.url, defaults: patient }))
const queued = (resource: string, count: number): Promise<void> =>
  waitUntilQueued(redis.primary, resource, count)

it('passes a lock that no notified waiter took on to the next one', async () => {
  // The head of the queue is notified of the release, and leaves at that very moment.
  const [one, two, three] = [manager(), manager(), manager()]
  const resource = unique()
  const lock = await one.acquireStrong(resource, { ttlMs: 60_000 })
  const controllers = Array.from({ length: 20 }, () => new AbortController())
  const leavers = controllers.map(({ signal }) =>
    rejection(two.acquireStrong(resource, { waitMs: 30_000, fair: true, signal })),
  )
  await queued(resource, 20)
  const last = three.acquireStrong(resource, { waitMs: 30_000, fair: true })
  await queued(resource, 21)
  const began = performance.now()
  const released = lock.release()
  for (const controller of controllers) controller.abort(new Error('no longer'))
  await released
  await Promise.all(leavers)
  expect((await last).held).toBe(true)
  expect(performance.now() - began).toBeLessThan(5_000)
})

it('serves fair waiters of several processes in order of arrival, and no other caller before them', async () => {
  const locks = manager()
  const resource = unique()
  const processes = [1, 2, 3].map(() => startWaiter(redis.url, 'fair: true,'))
  for (const script of processes) {
    script.tell({ name: 'warm', resource: unique(), holdMs: 0 })
    await script.until((said) => Array.isArray(said))
  }
  const lock = await locks.acquireStrong(resource, { ttlMs: 60_000 })
  for (let number = 0; number < 12; number++) {
    processes[number % 3]!.tell({ name: number, resource, holdMs: 20 })
    await queued(resource, number + 1)
  }
  await lock.release()
  const order: [number, bigint][] = []
  // All other callers get "busy" meanwhile.
  let barged = 0
  await eventually('all were served', async () => {
    if ((await locks.tryAcquireStrong(resource)) !== null) barged++
    order.length = 0
    for (const { said } of processes) {
      for (const entry of said) {
        if (Array.isArray(entry) && typeof entry[0] === 'number') order.push([entry[0], BigInt(entry[1])])
      }
    }
    return order.length === 12
  })
  const byToken = order.toSorted(([, a], [, b]) => (a < b ? -1 : 1)).map(([number]) => number)
  expect(byToken).toEqual(Array.from({ length: 12 }, (_, number) => number))
  expect(barged).toBeLessThanOrEqual(1) // once the queue was empty
})

it('serves fair calls of one event-loop turn in the order of the calls', async () => {
  const [one, two] = [manager(), manager()]
  const resource = unique()
  const lock = await one.acquireStrong(resource, { ttlMs: 60_000 })
  const tokens: Promise<bigint>[] = Array.from({ length: 20 }, async () => {
    const mine = await two.acquireStrong(resource, { waitMs: 20_000, fair: true })
    await mine.release()
    return mine.token
  })
  await queued(resource, 20)
  await lock.release()
  const served = await Promise.all(tokens)
  expect(served).toEqual(served.toSorted((a, b) => (a < b ? -1 : 1)))
})

it('skips fair waiters that were killed or stopped within two seconds, and removes them', async () => {
  const locks = manager()
  const resource = unique()
  const [killed, stopped, alive] = [0, 1, 2].map(() => startWaiter(redis.url, 'fair: true,')) as [
    Script,
    Script,
    Script,
  ]
  const lock = await locks.acquireStrong(resource, { ttlMs: 60_000 })
  for (const [index, script] of [killed, stopped, alive].entries()) {
    script.tell({ name: index, resource, holdMs: 0 })
    await queued(resource, index + 1)
  }
  await killed.kill()
  stopped.pause()
  await sleep(100) // a signal takes effect a little after it was sent
  const began = performance.now()
  await lock.release()
  await alive.until((said) => Array.isArray(said))
  // Long before a lease ends: two seconds, and as much for a machine that stalls.
  expect(performance.now() - began).toBeLessThan(4_000)
  await queued(resource, 0)
  // The one that was only stopped keeps waiting.
  stopped.resume()
  expect(await stopped.until((said) => Array.isArray(said))).toMatchObject([1, expect.any(String)])
})

it('moves a waiter that was stopped for too long to the end of the queue, and serves it there', async () => {
  const locks = manager()
  const resource = unique()
  const [stopped, others] = [0, 1].map(() => startWaiter(redis.url, 'fair: true,')) as [Script, Script]
  const lock = await locks.acquireStrong(resource, { ttlMs: 60_000 })
  stopped.tell({ name: 'stopped', resource, holdMs: 0 })
  await queued(resource, 1)
  // It holds the lock until that is taken from it.
  others.tell({ name: 0, resource })
  await queued(resource, 2)
  stopped.pause()
  await sleep(1_700)
  await lock.release()
  await others.until((said) => Array.isArray(said))
  stopped.resume()
  await queued(resource, 1) // again
  others.tell({ name: 1, resource, holdMs: 0 })
  await queued(resource, 2)
  await locks.forceRelease(resource)
  const token = async (script: Script): Promise<bigint> => {
    const [, granted] = await script.until<[unknown, string]>((said) => Array.isArray(said))
    return BigInt(granted)
  }
  expect(await token(stopped)).toBeLessThan(await token(others))
})

it('gives a waiter one position in the queues of all its resources', async () => {
  const [one, two, three] = [manager(), manager(), manager()]
  const [a, b] = [unique(), unique()]
  const locks = [await one.acquireStrong(a, { ttlMs: 60_000 }), await one.acquireStrong(b, { ttlMs: 60_000 })]
  const waits = [two, three].map((each) => each.acquireStrong([a, b], { waitMs: 10_000, fair: true }))
  await queued(a, 2)
  await queued(b, 2)
  // The first one loses its place in one queue, as if found dead when only that queue was checked.
  const [entry] = (await redis.primary.cmd('ZRANGEBYSCORE', queueKey(a), 1e14, '+inf')) as string[]
  await redis.primary.cmd('ZREM', queueKey(a), entry!)
  await Promise.all(locks.map((lock) => lock.release()))
  // Otherwise each would be the head of one queue, and wait for the other.
  await (await Promise.race(waits)).release()
  for (const lock of await Promise.all(waits)) expect(await lock.release()).toBe(true)
})

it.skipIf(!hasWallClock)('keeps the order on a server whose clock starts in 1970', async () => {
  // As on a machine without a clock of its own, before it was set.
  const { env } = wallClock(86_400_000 - Date.now())
  const server = await startRedis({ env })
  const connect = (): LockManager => closing(new LockManager({ redis: { url: server.url, replicas: 0 } }))
  const [holder, ...others] = [connect(), connect(), connect()]
  const resource = unique()
  const lock = await holder.acquireStrong(resource, { ttlMs: 60_000 })
  const served: number[] = []
  const instants: number[] = []
  const waits: Promise<void>[] = []
  for (let number = 0; number < 6; number++) {
    const wait = others[number % 2]!.acquireStrong(resource, { waitMs: 30_000, fair: true })
    waits.push(
      wait.then(async (mine) => {
        served.push(number)
        instants.push(performance.now())
        await mine.release()
      }),
    )
    await waitUntilQueued(server, resource, number + 1)
  }
  const began = performance.now()
  await lock.release()
  await Promise.all(waits)
  expect(served).toEqual([0, 1, 2, 3, 4, 5])
  // Each is notified; polling would take up to a second for each. A busy machine may delay some.
  const took = instants.map((at, index) => at - (instants[index - 1] ?? began))
  expect(took.toSorted((a, b) => a - b)[2]).toBeLessThan(250)
})
