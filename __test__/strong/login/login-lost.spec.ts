/** A login that changes while a manager is connected: its password is rotated, or its rights are cut. */
import { LockManager, type Lock, type LockError } from 'fencelock'
import { beforeAll, describe, expect, it } from 'vitest'

import { closing, rejection, unique } from '../../fixtures/locks'
import { startPrimary, startRedis, type RedisServer } from '../../fixtures/servers/redis'
import { eventually, sleep } from '../../fixtures/temp'
import { leaseExists, leaseIsRemoved, lockKey } from '../support'

const secret = 'first-s3cret'

let server: RedisServer
beforeAll(async () => {
  server = await startRedis()
})

interface Login {
  username: string
  locks: LockManager
  /** What a call fails with, and that it took nothing. */
  refused: (resource?: string) => Promise<LockError>
  change: (...rules: string[]) => Promise<void>
  /** Breaks its connections, as a failover or a network would. */
  disconnect: () => Promise<void>
}

/** Waits until a manager has seen that its connections are broken: what is sent before is lost. */
async function noticed(locks: LockManager): Promise<void> {
  const isOpen = () => locks.stats().connections.some(({ open }) => open > 0)
  await eventually('the break is noticed', () => !isOpen())
}

/** A manager of a new user that is connected, and has as many acknowledgements as there are replicas. */
async function login(on = server): Promise<Login> {
  const username = unique('user')
  const change = async (...rules: string[]): Promise<void> => {
    await on.cmd('ACL', 'SETUSER', username, ...rules)
  }
  await change('on', `>${secret}`, '~*', '&*', '+@all')
  const redis = { url: on.url, replicas: on === server ? 0 : 1, username, password: secret }
  const locks = closing(new LockManager({ redis }))
  await (await locks.acquireStrong(unique(), { ackTimeoutMs: 2000 })).release()
  return {
    username,
    locks,
    change,
    refused: async (resource = unique()) => {
      const error = await rejection<LockError>(locks.acquireStrong(resource))
      expect(await on.cmd('EXISTS', lockKey(resource))).toBe(0)
      expect(`${error.message} ${String(error.cause)}`).not.toContain('s3cret')
      return error
    },
    disconnect: async () => {
      await on.cmd('CLIENT', 'KILL', 'USER', username)
      await noticed(locks)
    },
  }
}

/** A lease that is renewed. */
const renewed = (locks: LockManager, ttlMs: number): Promise<Lock> =>
  locks.acquireStrong(unique(), { ttlMs, renew: true })

describe('a password that is rotated', () => {
  it('is not noticed by living connections, which go on granting and renewing', async () => {
    const { locks, change } = await login()
    const lock = await renewed(locks, 3000)
    const { signal } = lock
    await change('resetpass', '>second')
    for (let round = 0; round < 15; round++) {
      await (await locks.acquireStrong(unique())).release()
      await sleep(220)
    }
    expect([lock.held, signal.aborted]).toEqual([true, false])
    expect(await lock.release()).toBe(true)
  })

  it('is told by every call after a reconnection, until the old one is accepted again', async () => {
    const { locks, change, refused, disconnect } = await login()
    const lock = await renewed(locks, 20_000)
    const lost = await renewed(locks, 2500)
    const { signal } = lost
    await change('resetpass', '>second')
    await disconnect()
    for (let round = 0; round < 3; round++) {
      const error = await refused()
      expect(error.code).toBe('BACKEND_UNAVAILABLE')
      expect(error.message).toContain('wrong username or password')
    }
    expect(await rejection(locks.inspect(lock.resource))).toMatchObject({ code: 'BACKEND_UNAVAILABLE' })
    expect(await rejection(lock.extend())).toMatchObject({ code: 'BACKEND_UNAVAILABLE' })
    expect(lock.held, 'the server has it').toBe(true)
    await eventually('the loss of the short one is told in time', () => signal.aborted)
    expect(String(signal.reason)).toMatch(/password/)
    await change('resetpass', `>${secret}`)
    await (await locks.acquireStrong(unique())).release()
    await lock.extend(20_000)
    expect(await lock.release()).toBe(true)
  })

  it('is waited for by a call that waits', async () => {
    const { locks, change, disconnect } = await login()
    const held = await locks.acquireStrong(unique(), { ttlMs: 30_000 })
    const waiting = locks.acquireStrong(held.resource, { waitMs: 20_000 })
    await eventually('it waits', () => locks.stats().waiting === 1)
    await change('resetpass', '>second')
    await disconnect()
    await sleep(500)
    expect(locks.stats().waiting).toBe(1)
    await change('resetpass', `>${secret}`)
    expect(await held.release()).toBe(true)
    const began = performance.now()
    await (await waiting).release()
    expect(performance.now() - began).toBeLessThan(5000)
  })
})

describe('rights that are cut', () => {
  it.each([
    ['scripts', ['-evalsha', '-eval'], ['+evalsha', '+eval']],
    ['the keys', ['resetkeys', '~elsewhere:*'], ['allkeys']],
    ['a command of the scripts', ['-set'], ['+set']],
  ])('to %s: nothing is granted, and it goes on with them', async (_, cut, given) => {
    const { locks, change, refused } = await login()
    const lock = await locks.acquireStrong(unique(), { ttlMs: 20_000 })
    await change(...cut)
    for (let round = 0; round < 3; round++) {
      const error = await refused()
      expect(error.code).toBe('BACKEND_UNAVAILABLE')
      expect(error.message).toMatch(/allow the user/)
      expect(`${error.message} ${String(error.cause)}`).toMatch(/NOPERM|ACL failure|can't run this command/)
    }
    expect(lock.held).toBe(true)
    await change(...given)
    await (await locks.acquireStrong(unique())).release()
    await lock.extend(20_000)
    expect(await lock.release()).toBe(true)
    expect(locks.stats().cleanups).toBe(0)
  })

  it('to WAIT: what was written is taken back', async () => {
    const { primary } = await startPrimary({ replicas: 1 })
    const { locks, change, refused } = await login(primary)
    const { resource } = await locks.acquireStrong(unique(), { ttlMs: 20_000, ackTimeoutMs: 2000 })
    await change('-wait')
    for (let round = 0; round < 3; round++) {
      const error = await refused()
      expect(error.code).toBe('BACKEND_UNAVAILABLE')
      expect(error.message).toMatch(/allow the user|\+wait/)
    }
    expect(await primary.cmd('KEYS', '*:lock')).toEqual([lockKey(resource)])
    await change('+wait')
    expect((await locks.acquireStrong(unique(), { ackTimeoutMs: 2000 })).acks?.received).toBe(1)
  })

  it('to extend: a lease is kept that has them back in time, and another is told lost', async () => {
    const { locks, change } = await login()
    const [kept, lost] = [await renewed(locks, 9000), await renewed(locks, 1500)]
    const signal = lost.signal
    await change('-evalsha', '-eval')
    await eventually('the loss is told', () => signal.aborted)
    expect(String(signal.reason)).toContain('the Redis user lacks a permission')
    await change('+evalsha', '+eval')
    await eventually('the other one is renewed', () => kept.remainingMs > 7500)
    expect([kept.held, kept.signal.aborted]).toEqual([true, false])
    expect(await kept.release()).toBe(true)
  })

  it('to release: it is released as soon as they are back', async () => {
    const { locks, change } = await login()
    const lock = await locks.acquireStrong(unique(), { ttlMs: 60_000 })
    await change('-evalsha', '-eval')
    expect(await rejection(lock.release())).toMatchObject({ code: 'BACKEND_UNAVAILABLE' })
    await leaseExists(server, lock.resource)
    expect(locks.stats().cleanups).toBe(1)
    await change('+evalsha', '+eval')
    await leaseIsRemoved(server, lock.resource, 15_000)
    await eventually('nothing is left to do', () => locks.stats().cleanups === 0)
  })
})

describe('a user who is deleted', () => {
  it('is told by every call, and is back with the user', async () => {
    const { username, locks, change, refused } = await login()
    const lock = await locks.acquireStrong(unique(), { ttlMs: 30_000 })
    // That closes the connections of the user.
    await server.cmd('ACL', 'DELUSER', username)
    await eventually('its connections are closed', async () => {
      const list = String(await server.cmd('CLIENT', 'LIST'))
      return !list.includes(` user=${username} `)
    })
    await noticed(locks)
    const error = await refused()
    expect(error.code).toBe('BACKEND_UNAVAILABLE')
    expect(error.message).toContain('wrong username or password')
    expect(lock.held).toBe(true)
    await change('on', `>${secret}`, '~*', '&*', '+@all')
    await (await locks.acquireStrong(unique())).release()
    expect(await lock.release()).toBe(true)
  })
})
