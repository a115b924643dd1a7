/** What happens to leases while they are held: renewed, or lost and told so, whatever the process and the servers do. */
import { type Lock, LockManager, type RenewOptions, type Strategy } from 'fencelock'
import { createServer, connect } from 'node:net'
import { join } from 'node:path'
import { beforeAll, describe, expect, it } from 'vitest'

import { onCleanup } from '../fixtures/cleanup'
import { collectUntil } from '../fixtures/leaks'
import { closing, rejection, unique } from '../fixtures/locks'
import { type Script, startCode } from '../fixtures/processes/processes'
import { startProxy } from '../fixtures/servers/proxy'
import { startPrimary, type Deployment } from '../fixtures/servers/redis'
import { eventually, sleep, tempDir } from '../fixtures/temp'

let redis: Deployment
let path: string
beforeAll(async () => {
  redis = await startPrimary()
  path = join(tempDir(), 'locks.sqlite')
})

const manager = (strategy: Strategy): LockManager =>
  closing(new LockManager({ strategy, redis: redis.url, local: path }))
const strong = (url: string): LockManager => closing(new LockManager({ redis: url }))

/** A process that holds a lock, and does what its code says. */
function holder(
  strategy: Strategy,
  resource: string,
  options: { ttlMs: number; renew: boolean | RenewOptions },
  code: string,
): Script {
  const config = JSON.stringify({ strategy, redis: redis.url, local: path })
  return startCode(
    `const { LockManager } = await import('fencelock')
     const locks = new LockManager(${config})
     const lock = await locks.acquire(${JSON.stringify(resource)}, ${JSON.stringify(options)})
     const { signal } = lock
     const block = (ms) => { for (const end = performance.now() + ms; performance.now() < end;); }
     const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms))
     const tell = async () => { await sleep(50); say({ held: lock.held, aborted: signal.aborted, why: signal.reason?.message ?? '' }) }
     say(String(lock.token))
     ${code}`,
  )
}

describe.each(['strong', 'local'] as const)('a %s lease', (strategy) => {
  it('outlives an event loop that is blocked for three TTLs, and nobody else gets in', async () => {
    const locks = manager(strategy)
    const resource = unique()
    const child = holder(
      strategy,
      resource,
      { ttlMs: 1_500, renew: true },
      `block(4_500); await tell(); say(await lock.release())`,
    )
    await child.next()
    const until = performance.now() + 4_400
    let tries = 0
    for (; performance.now() < until; tries++) {
      expect(await locks.tryAcquire(resource)).toBeNull()
      await sleep(20)
    }
    expect(tries).toBeGreaterThan(50)
    expect(await child.next()).toEqual({ held: true, aborted: false, why: '' })
    expect(await child.next()).toBe(true)
  })

  it('ends when the event loop is blocked for longer than maxStallMs', async () => {
    const locks = manager(strategy)
    const resource = unique()
    const child = holder(
      strategy,
      resource,
      { ttlMs: 1_500, renew: { maxStallMs: 2_000 } },
      `block(6_000); await tell()`,
    )
    const token = BigInt(await child.next<string>())
    const began = performance.now()
    const next = await eventually('somebody else gets in', () => locks.tryAcquire(resource), 5_500)
    expect(performance.now() - began).toBeGreaterThan(2_500)
    expect(next.token).toBeGreaterThan(token)
    expect(child.said).toHaveLength(1) // still blocked
    const end = await child.next<{ why: string }>()
    expect(end).toMatchObject({ held: false, aborted: true })
    expect(end.why).toContain('maxStallMs (2000)')
  })

  it('is kept for an event loop that has nothing to do, however short maxStallMs is', async () => {
    const locks = manager(strategy)
    const lock = await locks.acquire(unique(), { ttlMs: 1_500, renew: { maxStallMs: 200 } })
    await sleep(4_000)
    expect(lock.held).toBe(true)
  })

  it('of a process that was stopped is lost, and the process knows when it goes on', async () => {
    const locks = manager(strategy)
    const resource = unique()
    const child = holder(
      strategy,
      resource,
      { ttlMs: 2_000, renew: true },
      `for await (const _ of hear()) { await tell(); say(await lock.release()); break }`,
    )
    const token = BigInt(await child.next<string>())
    await sleep(2_500) // renewed meanwhile
    expect(await locks.tryAcquire(resource)).toBeNull()
    child.pause()
    await sleep(4_000)
    const next = await eventually('somebody else gets in', () =>
      locks.tryAcquire(resource, { ttlMs: 60_000 }),
    )
    expect(next.token).toBeGreaterThan(token)
    child.resume()
    child.tell('go')
    expect(await child.next()).toMatchObject({ held: false, aborted: true })
    expect(await child.next()).toBe(false)
    expect(next.held).toBe(true)
    expect(await locks.inspect(resource)).toMatchObject({ owner: next.owner })
  })

  it('is not renewed any more when its handle was dropped, and a warning names it', async () => {
    const [one, two] = [manager(strategy), manager(strategy)]
    const warnings: Error[] = []
    const listener = (warning: Error): void => void warnings.push(warning)
    process.on('warning', listener)
    onCleanup(() => process.off('warning', listener))
    const name = unique('dropped')
    await (async () => void (await one.acquire(name, { ttlMs: 1_500, renew: true })))()
    expect(await collectUntil(() => one.stats().held === 0)).toBe(true)
    await eventually('the warning', () => warnings.some((warning) => warning.message.includes(name)))
    await eventually('the lease runs out', () => two.tryAcquire(name), 4_000)
  })

  it('is renewed, and its loss told, when a listener of its signal is all that is left of it', async () => {
    const locks = manager(strategy)
    const resource = unique()
    let reason: unknown
    await (async () => {
      const { signal } = await locks.acquire(resource, { ttlMs: 1_000, renew: true })
      signal.addEventListener('abort', () => (reason = signal.reason))
    })()
    expect(await collectUntil(() => locks.stats().held === 0, 2_500)).toBe(false)
    expect(reason).toBeUndefined()
    await locks.forceRelease(resource)
    await eventually('the signal aborts', () => reason !== undefined)
    expect(reason).toMatchObject({ code: 'LOCK_LOST', resource })
  })

  it('goes by the defaults of its manager where the call says nothing', async () => {
    const defaults = { ttlMs: 1_000, renew: { maxHoldMs: 1_500 } }
    const locks = closing(new LockManager({ strategy, redis: redis.url, local: path, defaults }))
    const [byDefault, asTrue, longer, not] = await Promise.all([
      locks.acquire(unique()),
      locks.acquire(unique(), { renew: true }),
      locks.acquire(unique(), { renew: { maxHoldMs: Infinity } }),
      locks.acquire(unique(), { renew: false }),
    ])
    await sleep(1_300)
    expect([byDefault, asTrue, longer, not].map((lock) => lock.held)).toEqual([true, true, true, false])
    await sleep(2_000)
    expect([byDefault, asTrue, longer].map((lock) => lock.held)).toEqual([false, false, true])
  })
})

it('of a synchronous call is renewed, too', async () => {
  const locks = manager('local')
  const lock = locks.tryAcquireLocalSync(unique(), { ttlMs: 1_000, renew: true })!
  await sleep(2_500)
  expect(lock.held).toBe(true)
  expect(lock.releaseSync()).toBe(true)
})

describe('renewals of strong leases', () => {
  it('fail while a replica is away, and go on when it is back in time', async () => {
    const own = await startPrimary({ replicaProxies: true })
    const locks = strong(own.url)
    const proved = await locks.acquireStrong(unique(), { ttlMs: 6_000, renew: true })
    const majority = await locks.acquireStrong(unique(), { ttlMs: 2_000, renew: true, acks: 1 })
    const signals = [proved.signal, majority.signal]
    own.links[0]!.hold('toServer')
    await sleep(4_000)
    // Not renewed: the deadline is still the one of the grant.
    expect(proved.remainingMs).toBeLessThan(2_500)
    own.links[0]!.flow()
    await eventually('it is renewed', () => proved.remainingMs > 3_000, 3_000)
    await sleep(3_000)
    expect([proved.held, majority.held]).toEqual([true, true])
    expect(signals.map((signal) => signal.aborted)).toEqual([false, false])
  })

  it('that too few replicas acknowledge end the lease, and the signal says why', async () => {
    const own = await startPrimary({ replicaProxies: true })
    const locks = strong(own.url)
    const lock = await locks.acquireStrong(unique(), { ttlMs: 2_000, renew: true })
    const { signal } = lock
    own.links[0]!.hold('toServer')
    await eventually('the signal aborts', () => signal.aborted, 4_000)
    expect(lock.held).toBe(true) // told before
    expect((signal.reason as Error).message).toContain('INSUFFICIENT_REPLICAS')
    await sleep(500)
    own.links[0]!.flow()
    await sleep(2_000)
    expect(lock.held).toBe(false)
    expect(await rejection(lock.extend())).toMatchObject({ code: 'LOCK_LOST' })
  })

  /** Kills the primary, promotes its first replica, and has the primary's port lead there. */
  async function failOver(own: Deployment): Promise<void> {
    const { port } = own.primary
    await own.primary.kill()
    const promoted = await own.failOver()
    await promoted.waitForReplicas(1)
    const forward = createServer((client) => {
      const server = connect(promoted.port, '127.0.0.1')
      for (const socket of [client, server]) socket.on('error', () => undefined)
      client.pipe(server).pipe(client)
    })
    await new Promise<void>((resolve) => forward.listen(port, '127.0.0.1', resolve))
    onCleanup(() => forward.close())
  }

  it('go on with a promoted replica that has the lease', async () => {
    const own = await startPrimary()
    const locks = strong(own.url)
    const lock = await locks.acquireStrong(unique(), { ttlMs: 6_000, renew: true, acks: 1 })
    const { signal } = lock
    await own.primary.waitForReplicas(2)
    await failOver(own)
    await sleep(8_000)
    expect(lock.held).toBe(true)
    expect(signal.aborted).toBe(false)
    expect(await locks.inspect(lock.resource)).toMatchObject({ owner: lock.owner, token: lock.token })
    expect(await lock.release()).toBe(true)
  })

  it('find out at once that a promoted replica does not have the lease', async () => {
    const own = await startPrimary({ replicaProxies: true })
    const locks = strong(own.url)
    await locks.connect()
    for (const link of own.links) link.swallow('toClient')
    const doomed = await locks.acquireStrong(unique(), { ttlMs: 15_000, renew: true, acks: 0 })
    const { signal } = doomed
    await failOver(own)
    await eventually('the signal aborts', () => signal.aborted, 9_000)
    expect((signal.reason as Error).message).toContain('or the backend lost its data')
    expect(doomed.held).toBe(false)
  })
})

it('a failed release does not mask what the routine of withLock returned', async () => {
  const proxy = await startProxy(redis.primary.port)
  const locks = closing(
    new LockManager({ redis: { url: proxy.url, connectTimeoutMs: 500, commandTimeoutMs: 500 } }),
  )
  let lock: Lock | undefined
  const resource = unique()
  const value = await locks.withLock(resource, { ttlMs: 20_000 }, (held) => {
    lock = held
    proxy.refusing = true
    proxy.cut()
    return 'done'
  })
  expect(value).toBe('done')
  expect((await rejection<{ code: string }>(lock!.release())).code).toMatch(
    /BACKEND_UNAVAILABLE|OUTCOME_UNKNOWN/,
  )
  proxy.refusing = false
  await eventually('the cleanup frees it', async () => (await manager('strong').inspect(resource)) === null)
})

it('10,000 renewed leases cost little', { timeout: 90_000 }, async () => {
  const child = startCode(
    `const { LockManager } = await import('fencelock')
     const locks = new LockManager({ redis: ${JSON.stringify(redis.url)} })
     await locks.connect()
     const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms))
     const cost = async (ms) => {
       const began = performance.now(), before = process.cpuUsage()
       await sleep(ms)
       const { user, system } = process.cpuUsage(before)
       return (user + system) / 1_000 / (performance.now() - began)
     }
     await sleep(500)
     const idle = await cost(2_000)
     const held = []
     for (let wave = 0; wave < 100; wave++) {
       const names = Array.from({ length: 100 }, (_, index) => 'renewed-' + wave + '-' + index)
       const options = { ttlMs: 30_000, renew: true, ackTimeoutMs: 5_000 }
       held.push(...(await Promise.all(names.map((name) => locks.acquireStrong(name, options)))))
       await sleep(90) // so that their renewals are spread over ten seconds, as those of a service are
     }
     say('held')
     const busy = await cost(20_000)
     say({ idle, busy, held: held.filter((lock) => lock.held).length, extended: locks.stats().extended })
     await locks.close()`,
    { limitMs: 80_000 },
  )
  await child.until((value) => value === 'held', 40_000)
  await redis.primary.resetStats()
  const began = performance.now()
  const told = await child.next<{ idle: number; busy: number; held: number; extended: number }>(40_000)
  const seconds = (performance.now() - began) / 1_000
  const calls = await redis.primary.calls()
  const perSecond = ((calls.evalsha ?? 0) + (calls.wait ?? 0)) / seconds
  expect(told.held).toBe(10_000)
  expect(told.extended).toBeGreaterThan(19_000)
  expect(told.busy - told.idle).toBeLessThan(0.05)
  // Four ticks a second with 250 leases each: 64 in a script call, 128 behind a WAIT, make 24.
  expect(perSecond).toBeLessThan(60)
})
