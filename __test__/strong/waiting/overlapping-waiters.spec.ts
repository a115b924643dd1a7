/**
 * Waiters for overlapping sets of strong locks: what they cost while none can be granted, and who gets what
 * is released.
 */
import { LockManager } from 'fencelock'
import { expect, it } from 'vitest'

import { closing, unique } from '../../fixtures/locks'
import { startRedis, type RedisServer } from '../../fixtures/servers/redis'
import { eventually, sleep } from '../../fixtures/temp'
import { queueKey } from '../support'

/** Each is a set of waiters; capital letters are held, the others are free. */
const SETS = [
  ['Ab', 'bC'],
  ['Ab', 'bC', 'bD'],
  ['Ab', 'bc', 'cD'],
  ['Abc', 'bcD', 'Cb'],
  ['Abc', 'Dbc', 'Ebc', 'bcF'],
  ['ABc', 'cD', 'c'],
]

async function scripts(server: RedisServer): Promise<number> {
  const { cmdstat_evalsha } = await server.info('commandstats')
  return Number(/calls=(\d+)/.exec(cmdstat_evalsha ?? '')?.[1] ?? 0)
}

it('do not keep waking each other, and are granted at once what they can have', async () => {
  const server = await startRedis()
  const connect = (): LockManager => closing(new LockManager({ redis: { url: server.url, replicas: 0 } }))
  // As many as a set has at most: each waiter of a set is another process to the server.
  const managers = Array.from({ length: 4 }, connect)
  const holder = connect()
  const cases = [...SETS, ...SETS].map((sets, index) => ({ sets, fair: index >= SETS.length, tag: unique() }))
  const held = new Map<string, () => Promise<boolean>>()
  const waits: { names: string[]; got: Promise<boolean> }[] = []
  for (const { sets, fair, tag } of cases) {
    for (const letter of new Set(sets.join('').replaceAll(/[a-z]/g, ''))) {
      const lock = await holder.acquireStrong(tag + letter, { ttlMs: 600_000 })
      held.set(tag + letter, () => lock.release())
    }
    for (const [index, set] of sets.entries()) {
      // A lock that is free for one set may be held for another.
      const letters = set
        .split('')
        .map((letter) => (held.has(tag + letter.toUpperCase()) ? letter.toUpperCase() : letter))
      const names = letters.map((letter) => tag + letter)
      const wait = managers[index]!.acquireStrong(names, { waitMs: 60_000, ttlMs: 600_000, fair })
      waits.push({ names, got: wait.then((lock) => lock.release()) })
      await eventually('it is queued', async () => {
        const queued = await server.cmd('ZRANGEBYSCORE', queueKey(names[0]!), 1e14, '+inf')
        return (queued as string[]).length > 0
      })
    }
  }
  await sleep(500)
  const [before, since] = [await scripts(server), performance.now()]
  await sleep(1_500)
  const perSecond = ((await scripts(server)) - before) / ((performance.now() - since) / 1000)
  expect(perSecond / waits.length).toBeLessThan(20)

  for (const release of held.values()) await release()
  const began = performance.now()
  await Promise.all(waits.map(({ got }) => got))
  expect(performance.now() - began).toBeLessThan(5_000)
})
