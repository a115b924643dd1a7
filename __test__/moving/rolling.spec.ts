/** A deploy that changes the lock in two steps, as docs/moving describes it, while all instances work. */
import { describe, expect, it } from 'vitest'

import type { Script } from '../fixtures/processes/processes'
import { has, moves, service } from './service'
import { startServers } from './support'

describe('a rolling deploy of the three versions, and its way back, loses no update', () => {
  // It takes many processes: one move on Redis and one on files.
  const rolled = moves.filter(
    ({ library, to }) => (library === 'redlock-5' && to === 'strong') || to === 'local',
  )
  it.each(rolled)(
    'from $library to $to',
    async (move) => {
      const start = await service(move, await startServers())
      let instances: readonly Script[] = await Promise.all([start('old'), start('old')])
      for (const instance of instances) instance.tell('count')
      // Every instance is replaced by one of the next version, then of the one after it; and backwards.
      for (const version of ['bridge', 'new', 'bridge', 'old'] as const) {
        for (const instance of instances) {
          const replacement = await start(version)
          await progress(instances)
          await stop(instance)
          replacement.tell('count')
          instances = instances.map((each) => (each === instance ? replacement : each))
        }
      }
      await progress(instances)
      for (const instance of instances) await stop(instance)
      expect(start.counter()).toBe(start.done())
    },
    60_000,
  )
})

/** Waits until each one has done its work once more. */
async function progress(instances: readonly Script[]): Promise<void> {
  for (const instance of instances) {
    await instance.until((value) => has(value, 'done'))
  }
}

/** Stops an instance as a deploy does: it finishes what it does. */
async function stop(instance: Script): Promise<void> {
  instance.tell('stop')
  await instance.until((value) => has(value, 'stopped'))
  instance.hangUp()
  const { code, stderr } = await instance.ended
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
}
