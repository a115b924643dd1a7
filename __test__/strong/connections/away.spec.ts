/** What the messages say when the server is away: what that means for the lease, for each operation. */
import { LockManager } from 'fencelock'
import { expect, it } from 'vitest'

import { closing, rejection, unique } from '../../fixtures/locks'
import { startProxy } from '../../fixtures/servers/proxy'
import { startRedis } from '../../fixtures/servers/redis'

it('an operation that cannot connect says what that means for it', async () => {
  const server = await startRedis()
  const proxy = await startProxy(server.port)
  const locks = closing(new LockManager({ redis: { url: proxy.url, replicas: 0 } }))
  const hold = () => locks.acquireStrong(unique(), { ttlMs: 60_000 })
  const [lock, handed] = [await hold(), await hold()]
  const ticket = await handed.handOver()
  // New connections are refused by the system, and those that are open break.
  await proxy.stop()
  await rejection(locks.acquireStrong(unique()))
  const { resource } = lock
  for (const [call, meaning] of [
    [() => locks.acquireStrong(unique()), 'Nothing was granted'],
    [() => locks.acquireStrong(unique(), { waitMs: 500 }), 'Nothing was granted'],
    [() => locks.acquireStrong(unique(), { waitMs: 500, fair: true }), 'Nothing was granted'],
    [() => lock.extend(), 'The lease was not extended: it ends when it would have'],
    [() => locks.adopt(ticket), 'Nothing was granted; the ticket can be used again while its lease lasts'],
    [() => locks.inspect(resource), 'Whether the lock is held is not known'],
    [() => locks.forceRelease(resource), 'The lock was not released'],
    [
      () => lock.release(),
      'The lock may stay held until its lease ends; its release is retried in the background until then',
    ],
    [() => locks.describe(), 'Nothing was granted or changed'],
  ] as const) {
    const error = await rejection(Promise.resolve().then(() => call() as Promise<unknown>))
    expect(error).toMatchObject({ code: 'BACKEND_UNAVAILABLE', cause: { code: 'ECONNREFUSED' } })
    const [what, told] = error.message.split(' is the server running, and is the port right? ')
    expect(what).toMatch(/^strong locks?.*: cannot connect to redis at .*: connection refused;$/)
    expect(told).toBe(meaning)
  }
})
