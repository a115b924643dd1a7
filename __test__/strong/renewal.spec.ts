/** Renewal of strong leases while replicas are away and primaries change, and the cost of many. */
import { type Lock, LockManager } from 'fencelock'
import { createServer, connect } from 'node:net'
import { beforeAll, describe, expect, it } from 'vitest'

import { onCleanup } from '../fixtures/cleanup'
import { closing, rejection, unique } from '../fixtures/locks'
import { startCode } from '../fixtures/processes/processes'
import { startProxy } from '../fixtures/servers/proxy'
import { startPrimary, type Deployment } from '../fixtures/servers/redis'
import { eventually, sleep } from '../fixtures/temp'
import { patient } from './support'

let redis: Deployment
beforeAll(async () => {
  redis = await startPrimary()
})
const strong = (url: string): LockManager => closing(new LockManager({ redis: url, defaults: patient }))

describe('renewals of strong leases', () => {
  it('fail while a replica is unreachable, and continue when it is back in time', async () => {
    const own = await startPrimary({ replicaProxies: true })
    const locks = strong(own.url)
    // Ample for the replica that is there: on a busy machine it takes longer than the default.
    const options = { renew: true, ackTimeoutMs: 1_600 }
    const proved = await locks.acquireStrong(unique(), { ...options, ttlMs: 12_000 })
    const majority = await locks.acquireStrong(unique(), { ...options, ttlMs: 6_000, acks: 1 })
    const signals = [proved.signal, majority.signal]
    own.links[0]!.hold('toServer')
    await sleep(6_000)
    // Not renewed after a third of its time: the deadline is still that of the grant.
    expect(proved.remainingMs).toBeLessThan(6_500)
    own.links[0]!.flow()
    await eventually('it is renewed', () => proved.remainingMs > 8_000)
    await sleep(1_000)
    expect([proved.held, majority.held]).toEqual([true, true])
    expect(signals.map((signal) => signal.aborted)).toEqual([false, false])
  })

  it('are made again on a new connection in time, if their connection was dropped silently', async () => {
    const proxy = await startProxy(redis.primary.port)
    const keep = async (acks: number): Promise<Lock> => {
      const options = { ttlMs: 10_000, renew: true, ackTimeoutMs: 1_600, acks }
      const lock = await strong(proxy.url).acquireStrong(unique(), options)
      // Each on a connection that others use as well, or on one of its own.
      await proxy.when(lock.owner, { act: 'swallow' })
      await eventually('it is renewed', () => lock.remainingMs > 8_000)
      return lock
    }
    const locks = await Promise.all([keep(0), keep(2)])
    expect(locks.map((lock) => lock.held)).toEqual([true, true])
  })

  it('end the lease when too few replicas acknowledge them, and the signal reports why', async () => {
    const own = await startPrimary({ replicaProxies: true })
    const locks = strong(own.url)
    // The signal aborts 500 ms before the end.
    const lock = await locks.acquireStrong(unique(), { ttlMs: 5_000, renew: true })
    const { signal } = lock
    let isHeld: boolean | undefined
    signal.addEventListener('abort', () => (isHeld = lock.held))
    own.links[0]!.hold('toServer')
    await eventually('the signal aborts', () => signal.aborted)
    expect(isHeld).toBe(true) // reported before the end
    expect((signal.reason as Error).message).toContain('INSUFFICIENT_REPLICAS')
    await eventually('it has ended', () => !lock.held)
    own.links[0]!.flow()
    await sleep(1_500)
    expect(lock.held).toBe(false)
    expect(await rejection(lock.extend())).toMatchObject({ code: 'LOCK_LOST' })
  })

  /** Kills the primary, promotes its first replica, and forwards the primary's port to it. */
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

  it('continue with a promoted replica that has the lease', async () => {
    const own = await startPrimary()
    const locks = strong(own.url)
    const lock = await locks.acquireStrong(unique(), { ttlMs: 7_500, renew: true, acks: 1 })
    const { signal } = lock
    await own.primary.waitForReplicas(2)
    await failOver(own)
    await sleep(8_000)
    expect(lock.held).toBe(true)
    expect(signal.aborted).toBe(false)
    expect(await locks.inspect(lock.resource)).toMatchObject({ owner: lock.owner, token: lock.token })
    expect(await lock.release()).toBe(true)
  })

  it('detect at once that a promoted replica does not have the lease', async () => {
    const own = await startPrimary({ replicaProxies: true })
    const locks = strong(own.url)
    await locks.connect()
    for (const link of own.links) link.swallow('toClient')
    const doomed = await locks.acquireStrong(unique(), { ttlMs: 15_000, renew: true, acks: 0 })
    const { signal } = doomed
    await failOver(own)
    await eventually('the signal aborts', () => signal.aborted)
    expect((signal.reason as Error).message).toMatch(/the backend lost its data|failed over, was restarted/)
    expect(doomed.held).toBe(false)
  })
})

it('a failed release does not mask what the routine of withLock returned', async () => {
  const proxy = await startProxy(redis.primary.port)
  const locks = strong(proxy.url)
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
  await eventually(
    'the cleanup releases it',
    async () => (await strong(redis.url).inspect(resource)) === null,
  )
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
       await sleep(90) // spreads the renewals over ten seconds, as in a real service
     }
     say('held')
     const busy = await cost(20_000)
     // Those that a stall at the end delayed are made now.
     for (let wait = 0; wait < 30 && locks.stats().extended <= 18_000; wait++) await sleep(50)
     say({ idle, busy, held: held.filter((lock) => lock.held).length, extended: locks.stats().extended })
     await locks.close({ drainMs: 0 })`,
    { limitMs: 80_000 },
  )
  await child.until((value) => value === 'held', 40_000)
  await redis.primary.resetStats()
  const began = performance.now()
  const report = await child.next<{ idle: number; busy: number; held: number; extended: number }>(40_000)
  const seconds = (performance.now() - began) / 1_000
  const calls = await redis.primary.calls()
  const perSecond = ((calls.evalsha ?? 0) + (calls.wait ?? 0)) / seconds
  expect(report.held).toBe(10_000)
  expect(report.extended).toBeGreaterThan(18_000)
  expect(report.busy - report.idle).toBeLessThan(0.05)
  // Four ticks a second with 250 leases each: with 64 leases a script call and 128 a WAIT, that is 24 calls.
  expect(perSecond).toBeLessThan(60)
})
