/** Waiting for strong locks across processes: who is woken, when, and what becomes of those who die or give up. */
import { LockManager } from 'fencelock'
import { beforeAll, describe, expect, it } from 'vitest'

import { closing, rejection, unique } from '../fixtures/locks'
import { startCode, type Script } from '../fixtures/processes/processes'
import { startPrimary, startRedis, type Deployment, type RedisServer } from '../fixtures/servers/redis'
import { eventually, sleep } from '../fixtures/temp'

const lineKey = (resource: string): string => `fencelock:{${resource}}:line`

/** How many calls of each command the server has counted. */
async function calls(server: RedisServer): Promise<(command: string) => number> {
  const stats = await server.info('commandstats')
  return (command) => Number(/calls=(\d+)/.exec(stats[`cmdstat_${command}`] ?? '')?.[1] ?? 0)
}

/**
 * A process that waits for what it is told to, says `[name, token]` when it has it, and releases it after so many
 * milliseconds, or never.
 */
function startWaiter(url: string, options = ''): Script {
  return startCode(`
    const { LockManager } = await import('fencelock')
    const locks = new LockManager({ redis: ${JSON.stringify(url)} })
    for await (const { name, resource, holdMs, ...more } of hear()) {
      locks.acquireStrong(resource, { waitMs: 20_000, ttlMs: 20_000, ${options} ...more }).then(async (lock) => {
        say([name, String(lock.token)])
        if (holdMs === undefined) return
        await new Promise((resolve) => setTimeout(resolve, holdMs))
        await lock.release()
      }, (error) => say([name, error.code]))
      say('waits')
    }
  `)
}

describe('with a primary and two replicas', () => {
  let redis: Deployment
  beforeAll(async () => {
    redis = await startPrimary()
  })
  const manager = (): LockManager => closing(new LockManager({ redis: redis.url }))

  /** Until so many are in line. */
  const inLine = async (resource: string, count: number): Promise<void> => {
    await eventually(`${count} are in line`, async () => {
      return (await redis.primary.cmd('ZCOUNT', lineKey(resource), 1e14, '+inf')) === count
    })
  }

  it('is woken by a release long before the lease would end, and before the next heartbeat', async () => {
    const [one, two] = [manager(), manager()]
    const waits: number[] = []
    for (let round = 0; round < 10; round++) {
      const resource = unique()
      const lock = await one.acquireStrong(resource, { ttlMs: 60_000 })
      const next = two.acquireStrong(resource, { waitMs: 30_000 })
      await inLine(resource, 1)
      const released = performance.now()
      await lock.release()
      expect((await next).token).toBeGreaterThan(lock.token)
      waits.push(performance.now() - released)
      await (await next).release()
      expect(await redis.primary.cmd('ZCOUNT', lineKey(resource), 1e14, '+inf')).toBe(0)
    }
    // Heartbeats come once a second: without being told, it would be half a second on average.
    expect(waits.toSorted((a, b) => a - b)[5]).toBeLessThan(100)
  })

  it('is woken by a forced release, a rollback, and the end of a lease', async () => {
    const [one, two] = [manager(), manager()]
    const resource = unique()
    await one.acquireStrong(resource, { ttlMs: 60_000 })
    const next = two.acquireStrong(resource, { waitMs: 30_000, ttlMs: 1_500 })
    await inLine(resource, 1)
    await one.forceRelease(resource)
    await next
    const began = performance.now()
    const third = await one.acquireStrong(resource, { waitMs: 30_000 })
    expect(performance.now() - began).toBeGreaterThan(800)
    expect(performance.now() - began).toBeLessThan(2_500)
    await third.release()

    // Refused for want of acknowledgements: whoever waited for that lease is told of the rollback.
    redis.replicas[0]!.pause()
    try {
      const other = unique()
      const refused = rejection(one.acquireStrong(other, { ttlMs: 10_000, ackTimeoutMs: 500 }))
      await eventually('it is written', () => redis.primary.cmd('EXISTS', `fencelock:{${other}}:lock`))
      const lucky = await two.acquireStrong(other, { waitMs: 5_000, acks: 1 })
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
    await inLine(a, 1)
    await inLine(b, 1)
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
      await inLine(resource, 0)
      const controller = new AbortController()
      const aborted = rejection(
        two.acquireStrong(resource, { waitMs: Infinity, fair, signal: controller.signal }),
      )
      await inLine(resource, 1)
      controller.abort(new Error('enough'))
      expect(await aborted).toMatchObject({ message: 'enough' })
      await inLine(resource, 0)
    }
    await lock.release()
    await sleep(100)
    expect(await one.inspect(resource)).toBeNull()
    // The key itself has an end, too.
    expect(Number(await redis.primary.cmd('PTTL', lineKey(resource)))).toBeLessThanOrEqual(5_000)
  })

  it('passes a lock that nobody took on to the next', async () => {
    // The first in line is told of the release, and leaves at that very moment.
    const [one, two, three] = [manager(), manager(), manager()]
    const resource = unique()
    const lock = await one.acquireStrong(resource, { ttlMs: 60_000 })
    const controllers = Array.from({ length: 20 }, () => new AbortController())
    const leavers = controllers.map(({ signal }) =>
      rejection(two.acquireStrong(resource, { waitMs: 30_000, fair: true, signal })),
    )
    await inLine(resource, 20)
    const patient = three.acquireStrong(resource, { waitMs: 30_000, fair: true })
    await inLine(resource, 21)
    const began = performance.now()
    const released = lock.release()
    for (const controller of controllers) controller.abort(new Error('no longer'))
    await released
    await Promise.all(leavers)
    expect((await patient).held).toBe(true)
    expect(performance.now() - began).toBeLessThan(5_000)
  })

  it('serves fair waiters of several processes in the order in which they came, and nobody before them', async () => {
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
      await inLine(resource, number + 1)
    }
    await lock.release()
    const order: [number, bigint][] = []
    // Everybody else is told "busy" all the while.
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
    expect(barged).toBeLessThanOrEqual(1) // once the line was empty
  })

  it('serves fair calls of one turn in the order in which they were made', async () => {
    const [one, two] = [manager(), manager()]
    const resource = unique()
    const lock = await one.acquireStrong(resource, { ttlMs: 60_000 })
    const tokens: Promise<bigint>[] = Array.from({ length: 20 }, async () => {
      const mine = await two.acquireStrong(resource, { waitMs: 20_000, fair: true })
      await mine.release()
      return mine.token
    })
    await inLine(resource, 20)
    await lock.release()
    const served = await Promise.all(tokens)
    expect(served).toEqual(served.toSorted((a, b) => (a < b ? -1 : 1)))
  })

  it('goes on waiting while too few replicas acknowledge', async () => {
    const [one, two] = [manager(), manager()]
    const resource = unique()
    const lock = await one.acquireStrong(resource, { ttlMs: 60_000 })
    const waits = Array.from({ length: 3 }, () => two.acquireStrong(resource, { waitMs: 20_000 }))
    await inLine(resource, 1)
    redis.replicas[1]!.pause()
    await lock.release()
    await sleep(400)
    redis.replicas[1]!.resume()
    await redis.primary.waitForReplicas(2)
    for (const wait of waits) await (await wait).release()
  })

  it('skips fair waiters that were killed or stopped, within two seconds, and forgets them', async () => {
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
      await inLine(resource, index + 1)
    }
    await killed.kill()
    stopped.pause()
    await sleep(100) // a signal is no call: it takes effect a little later
    const began = performance.now()
    await lock.release()
    await alive.until((said) => Array.isArray(said))
    expect(performance.now() - began).toBeLessThan(2_300)
    await inLine(resource, 0)
    // Who was only stopped, waits on.
    stopped.resume()
    expect(await stopped.until((said) => Array.isArray(said))).toMatchObject([1, expect.any(String)])
  })

  it('goes to the end of the line when it was stopped for too long, and is served from there', async () => {
    const locks = manager()
    const resource = unique()
    const [stopped, others] = [0, 1].map(() => startWaiter(redis.url, 'fair: true,')) as [Script, Script]
    const lock = await locks.acquireStrong(resource, { ttlMs: 60_000 })
    stopped.tell({ name: 'stopped', resource, holdMs: 0 })
    await inLine(resource, 1)
    stopped.pause()
    await sleep(100)
    others.tell({ name: 0, resource, holdMs: 1_500 })
    await inLine(resource, 2)
    await sleep(1_600)
    await lock.release()
    await others.until((said) => Array.isArray(said))
    stopped.resume()
    await inLine(resource, 1) // again
    others.tell({ name: 1, resource, holdMs: 0 })
    await inLine(resource, 2)
    const token = async (script: Script): Promise<bigint> => {
      const [, told] = await script.until<[unknown, string]>((said) => Array.isArray(said))
      return BigInt(told)
    }
    expect(await token(stopped)).toBeLessThan(await token(others))
  })

  it('keeps nobody from a lock that it cannot take, because it waits for another one, too', async () => {
    const [one, two, three] = [manager(), manager(), manager()]
    const [a, b] = [unique(), unique()]
    const held = await one.acquireStrong(b, { ttlMs: 60_000 })
    const first = await one.acquireStrong(a, { ttlMs: 60_000 })
    const both = two.acquireStrong([a, b], { waitMs: 30_000 })
    await inLine(a, 1)
    const single = three.acquireStrong(a, { waitMs: 30_000 })
    await inLine(a, 2)
    const began = performance.now()
    await first.release()
    expect((await single).held).toBe(true)
    // Otherwise it would be told by nobody, and look again when the lease ends that is over.
    expect(performance.now() - began).toBeLessThan(5_000)
    await (await single).release()
    await held.release()
    await (await both).release()
  })

  it('stands at one place in all lines of what it waits for', async () => {
    const [one, two, three] = [manager(), manager(), manager()]
    const [a, b] = [unique(), unique()]
    const locks = [
      await one.acquireStrong(a, { ttlMs: 60_000 }),
      await one.acquireStrong(b, { ttlMs: 60_000 }),
    ]
    const waits = [two, three].map((each) => each.acquireStrong([a, b], { waitMs: 10_000, fair: true }))
    await inLine(a, 2)
    await inLine(b, 2)
    // The first of them loses its place in one line, as when it was taken for dead while somebody looked at that alone.
    const [entry] = (await redis.primary.cmd('ZRANGEBYSCORE', lineKey(a), 1e14, '+inf')) as string[]
    await redis.primary.cmd('ZREM', lineKey(a), entry!)
    await Promise.all(locks.map((lock) => lock.release()))
    // Each would be the first of one line, and wait for the other.
    await (await Promise.race(waits)).release()
    for (const lock of await Promise.all(waits)) expect(await lock.release()).toBe(true)
  })

  it('goes on when its subscription breaks', async () => {
    const [one, two] = [manager(), manager()]
    const waits: number[] = []
    for (let round = 0; round < 7; round++) {
      const resource = unique()
      const lock = await one.acquireStrong(resource, { ttlMs: 60_000 })
      const next = two.acquireStrong(resource, { waitMs: 30_000 })
      await inLine(resource, 1)
      expect(Number(await redis.primary.cmd('CLIENT', 'KILL', 'TYPE', 'pubsub'))).toBeGreaterThan(0)
      const began = performance.now()
      await lock.release()
      expect((await next).held).toBe(true)
      waits.push(performance.now() - began)
      await (await next).release()
    }
    // It listens again at once. With its heartbeats alone it would be half a second, on average.
    expect(waits.toSorted((a, b) => a - b)[3]).toBeLessThan(300)
  })

  it('costs the same for each hand-over with 10 and with 200 waiters in as many processes', async () => {
    const perHandOver: number[] = []
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
      await inLine(resource, 4)
      await sleep(200)
      const before = await calls(redis.primary)
      await lock.release()
      await eventually('each got it', () => served() === waiters, 20_000)
      const after = await calls(redis.primary)
      const commands = ['evalsha', 'publish', 'wait'].map((command) => after(command) - before(command))
      perHandOver.push(commands.reduce((sum, count) => sum + count, 0) / waiters)
      // Each once.
      const names = processes.flatMap(({ said }) => said.filter(Array.isArray).map(([name]) => name))
      expect(names.filter((name) => name !== 'warm').toSorted((a, b) => a - b)).toEqual(
        Array.from({ length: waiters }, (_, number) => number),
      )
      for (const script of processes) await script.kill()
    }
    const [few, many] = perHandOver as [number, number]
    expect(many / few).toBeLessThan(1.2)
  })
})

describe('with a server of its own', () => {
  it('goes on when the server was restarted, and lost everything', async () => {
    const server = await startRedis()
    const connect = (): LockManager => closing(new LockManager({ redis: { url: server.url, replicas: 0 } }))
    const [one, two] = [connect(), connect()]
    const resource = unique()
    await one.acquireStrong(resource, { ttlMs: 60_000 })
    const next = two.acquireStrong(resource, { waitMs: 30_000 })
    await eventually('it is in line', () => server.cmd('EXISTS', lineKey(resource)))
    await server.kill()
    await sleep(300)
    await server.start()
    expect((await next).held).toBe(true)
  })

  it('tells all who wait that the server is away, if it is so in the end', async () => {
    const server = await startRedis()
    const locks = closing(new LockManager({ redis: { url: server.url, replicas: 0 } }))
    const resource = unique()
    await locks.acquireStrong(resource, { ttlMs: 60_000 })
    const waits = [1, 2, 3].map(() => rejection(locks.acquireStrong(resource, { waitMs: 3_000 })))
    await eventually('one is in line', () => server.cmd('EXISTS', lineKey(resource)))
    await server.kill()
    for (const error of await Promise.all(waits)) expect(error).toMatchObject({ code: 'BACKEND_UNAVAILABLE' })
  })

  it('says what it may not do', async () => {
    const server = await startRedis({ users: ['app on >secret ~fencelock:* +@all resetchannels'] })
    const { port } = server
    const locks = closing(
      new LockManager({ redis: { url: `redis://app:secret@127.0.0.1:${port}`, replicas: 0 } }),
    )
    const resource = unique()
    const lock = await locks.acquireStrong(resource)
    expect(await rejection(locks.acquireStrong(resource, { waitMs: Infinity }))).toMatchObject({
      code: 'BACKEND_UNAVAILABLE',
      message: expect.stringContaining('&fencelock:wake:*'),
    })
    expect(await lock.release()).toBe(true)
  })

  it('shows life in a cluster of one, whose server takes no keys of several slots in one call', async () => {
    const server = await startRedis({ cluster: true })
    await server.cmd('CLUSTER', 'ADDSLOTSRANGE', 0, 16_383)
    await eventually('the cluster is up', async () => {
      return String(await server.cmd('CLUSTER', 'INFO')).includes('cluster_state:ok')
    })
    const connect = (): LockManager => closing(new LockManager({ redis: { url: server.url, replicas: 0 } }))
    const [one, two] = [connect(), connect()]
    const resources = [unique(), unique(), unique()]
    const locks = await Promise.all(resources.map((name) => one.acquireStrong(name, { ttlMs: 60_000 })))
    const waits = resources.map((name) => two.acquireStrong(name, { waitMs: 30_000 }))
    await sleep(3_000) // twice as long as somebody is believed to live
    const began = performance.now()
    for (const lock of locks) await lock.release()
    await Promise.all(waits)
    expect(performance.now() - began).toBeLessThan(500)
  })

  it('grants nothing that it does not tell of, whatever the line does', async () => {
    const server = await startRedis({ users: ['app on >secret ~fencelock:* &fencelock:* +@all -zrem'] })
    const url = `redis://app:secret@127.0.0.1:${server.port}`
    const locks = closing(new LockManager({ redis: { url, replicas: 0 } }))
    const resource = unique()
    const lock = await locks.acquireStrong(resource)
    const next = locks.acquireStrong(resource, { waitMs: 10_000 })
    await eventually('it is in line', () => server.cmd('EXISTS', lineKey(resource)))
    await lock.release()
    // It cannot be taken out of the line, and is told what it got all the same.
    expect(await (await next).release()).toBe(true)
  })

  it('leaves a line that is none of ours alone', async () => {
    const server = await startRedis()
    const locks = closing(new LockManager({ redis: { url: server.url, replicas: 0 } }))
    const resource = unique()
    await server.cmd('SET', lineKey(resource), 'mine')
    expect(await rejection(locks.acquireStrong(resource))).toMatchObject({ code: 'BACKEND_UNAVAILABLE' })
    expect(await server.cmd('GET', lineKey(resource))).toBe('mine')
    expect(await server.cmd('EXISTS', `fencelock:{${resource}}:lock`)).toBe(0)
    const neighbour = await locks.acquireStrong(unique())
    expect(await neighbour.release()).toBe(true)
  })
})
