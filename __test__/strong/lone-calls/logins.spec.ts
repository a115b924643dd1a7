/** Calls that are made one after another, while the credentials of their connection change. */
import { type RedisCredentials } from 'fencelock'
import { beforeAll, describe, expect, it } from 'vitest'

import { fencelockWarnings, unique } from '../../fixtures/locks'
import { startPrimary, type Deployment } from '../../fixtures/servers/redis'
import { eventually } from '../../fixtures/temp'
import { ALL, alone, isInline, ownConnection } from './support'

describe('lone calls whose credentials change while the event loop is blocked', () => {
  let redis: Deployment
  beforeAll(async () => {
    redis = await startPrimary({ replicas: 1 })
  })

  const newUser = async (): Promise<string> => {
    const name = unique('user')
    await redis.primary.cmd('ACL', 'SETUSER', name, 'on', '>secret', '~*', '&*', '+@all')
    return name
  }

  /** The connections of a user, by their addresses. */
  const connectionsOf = async (user: string): Promise<string[]> => {
    const lines = String(await redis.primary.cmd('CLIENT', 'LIST')).split('\n')
    return lines
      .filter((line) => line.includes(` user=${user} `))
      .map((line) => / addr=(\S+)/.exec(line)?.[1] ?? '')
  }

  /** Blocks the event loop as soon as the addon has the answer. */
  const blockFor = (ms: number): void => {
    setImmediate(() => {
      const end = performance.now() + ms
      while (performance.now() < end);
    })
  }

  it('keep their connection, which logs in again', async () => {
    const warnings = fencelockWarnings()
    const [first, second] = [await newUser(), await newUser()]
    let [isReady, asked] = [false, 0]
    const credentials = (): RedisCredentials => {
      if (!isReady) return { username: first, password: 'secret', expiresInMs: 1_500 }
      asked++
      blockFor(3_300)
      return { username: second, password: 'secret' }
    }
    const locks = await alone({ url: redis.primary.url, replicas: 1, credentials, commandTimeoutMs: 1_600 })
    const before = await connectionsOf(first)
    expect(before).toHaveLength(ALL)
    const own = isInline ? await ownConnection(redis.primary, locks) : undefined
    const renewed = await locks.acquireStrong(unique(), { ttlMs: 3_000, renew: true, ackTimeoutMs: 1_500 })
    isReady = true
    await eventually('all have logged in again', async () => (await connectionsOf(second)).length >= ALL)
    expect(asked).toBe(1)
    expect(await connectionsOf(second)).toEqual(expect.arrayContaining(before))
    if (isInline) expect(await ownConnection(redis.primary, locks)).toBe(own)
    expect(renewed.held).toBe(true)
    expect(await renewed.release()).toBe(true)
    expect(warnings).toEqual([])
  })

  it('make another connection when the server has ended it meanwhile', async () => {
    const [first, second] = [await newUser(), await newUser()]
    let [isReady, asked, own] = [false, 0, '']
    const killed: Promise<unknown>[] = []
    const credentials = (): RedisCredentials => {
      if (!isReady) return { username: first, password: 'secret', expiresInMs: 1_500 }
      // Sent before the loop is blocked.
      if (asked++ === 0) killed.push(redis.primary.cmd('CLIENT', 'KILL', 'ADDR', own).catch(String))
      blockFor(1_000)
      return { username: second, password: 'secret' }
    }
    const locks = await alone({ url: redis.primary.url, replicas: 1, credentials, commandTimeoutMs: 1_600 })
    if (isInline) own = await ownConnection(redis.primary, locks)
    else [own] = (await connectionsOf(first)) as [string]
    const lock = await locks.acquireStrong(unique(), { ttlMs: 60_000, ackTimeoutMs: 2_000 })
    expect(own).not.toBe('')
    isReady = true
    await eventually('there are new ones', () => asked > 0)
    expect(await killed[0]).toBe(1)
    expect(await lock.release()).toBe(true)
    await eventually('there is another connection', async () => {
      expect(await (await locks.acquireStrong(unique(), { ackTimeoutMs: 2_000 })).release()).toBe(true)
      const all = await connectionsOf(second)
      return all.length === ALL && !all.includes(own)
    })
    if (isInline) expect(await ownConnection(redis.primary, locks)).not.toBe(own)
  })
})
