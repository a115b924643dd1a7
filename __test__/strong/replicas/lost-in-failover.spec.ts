/** What the signal of a lock says when another server takes over, or the server is restarted. */
import { LockLostError, LockManager } from 'fencelock'
import { expect, it } from 'vitest'

import { closing, rejection, unique } from '../../fixtures/locks'
import { startProxy } from '../../fixtures/servers/proxy'
import { startRedis } from '../../fixtures/servers/redis'
import { eventually, sleep } from '../../fixtures/temp'
import { lockKey } from '../support'

/** Long before the deadline, and before a renewal is due; some seconds are for a busy machine. */
const AT_ONCE = 6_000

it('aborts at once when the server that took over does not have the lease', async () => {
  const [before, after] = await Promise.all([startRedis(), startRedis()])
  const proxy = await startProxy(before.port)
  const locks = closing(new LockManager({ redis: { url: proxy.url, replicas: 0 } }))
  const acquire = async (replicated: boolean, renew: boolean) => {
    const lock = await locks.acquireStrong(unique(), { ttlMs: 60_000, renew })
    if (replicated) {
      await after.cmd('SET', lockKey(lock.resource), lock.owner, 'PX', 30_000)
    }
    return { lock, signal: lock.signal }
  }
  const [lost, renewed, kept] = [
    await acquire(false, false),
    await acquire(true, true),
    await acquire(true, false),
  ]
  proxy.switchTo(after.port, { cut: true })
  await eventually('the signal aborts', () => lost.signal.aborted, AT_ONCE)
  const reason: unknown = lost.signal.reason
  expect(reason).toBeInstanceOf(LockLostError)
  expect(String(reason)).toContain('failed over, was restarted')
  expect([lost.lock.held, renewed.lock.held, kept.lock.held]).toEqual([false, true, true])
  const left = async (): Promise<number> => Number(await after.cmd('PTTL', lockKey(renewed.lock.resource)))
  await eventually('the renewed lease is extended', async () => (await left()) > 50_000, AT_ONCE)
  expect([renewed.signal.aborted, kept.signal.aborted]).toEqual([false, false])
})

it('aborts when the server is back from a restart that lost the lease, and not before', async () => {
  const server = await startRedis()
  const locks = closing(new LockManager({ redis: { url: server.url, replicas: 0 } }))
  const { signal } = await locks.acquireStrong(unique(), { ttlMs: 60_000 })
  await server.kill()
  await sleep(500)
  expect(signal.aborted).toBe(false)
  await server.start()
  await eventually('the signal aborts', () => signal.aborted, AT_ONCE)
})

it('says nothing to a holder that sends nothing, until its next call', async () => {
  const [before, after] = await Promise.all([startRedis(), startRedis()])
  const proxy = await startProxy(before.port)
  const locks = closing(new LockManager({ redis: { url: proxy.url, replicas: 0 } }))
  const { signal } = await locks.acquireStrong(unique(), { ttlMs: 60_000 })
  // Who holds it is told beside it; that the manager then sends nothing is what this is about.
  await eventually('the holder is known', async () => String(await before.cmd('KEYS', '*:holder')) !== '')
  // The old primary keeps its connections.
  proxy.switchTo(after.port)
  await before.replicate(after)
  await sleep(3_000)
  expect(signal.aborted).toBe(false)
  await (await locks.acquireStrong(unique())).release()
  await eventually('the signal aborts', () => signal.aborted, AT_ONCE)
})

it('is found by the next extension after a restart, if the user may not use INFO', async () => {
  const server = await startRedis({ users: ['locker on >secret ~* &* +@all -info'] })
  const redis = { url: server.url, replicas: 0, username: 'locker', password: 'secret' }
  const locks = closing(new LockManager({ redis }))
  const [idle, renewed] = [
    await locks.acquireStrong(unique(), { ttlMs: 60_000 }),
    await locks.acquireStrong(unique(), { ttlMs: 9_000, renew: true }),
  ]
  const signals = [idle.signal, renewed.signal]
  await server.restart()
  await eventually('the signal of the renewed lease aborts', () => renewed.signal.aborted, 7_500)
  expect(signals.map(({ aborted }) => aborted)).toEqual([false, true])
  expect(await rejection(idle.extend())).toMatchObject({ code: 'LOCK_LOST' })
  expect(idle.signal.aborted).toBe(true)
})
