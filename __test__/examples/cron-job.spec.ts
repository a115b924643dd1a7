/** Cron jobs on several instances: each tick runs once, also when a clock is behind. */
import { beforeAll, describe, expect, it } from 'vitest'

import { type Script } from '../fixtures/processes/processes'
import { startRedis } from '../fixtures/servers/redis'
import { sleep } from '../fixtures/temp'
import { hasWallClock, wallClock } from '../fixtures/time/wall-clock'
import { line, lines, startExample } from './support'

const everyMs = 4000
/** How far the clock of one of the instances is behind. */
const behindMs = hasWallClock ? 1000 : 0

/** The instances of a program: with a common lock, and with one for each of them. */
interface Fleet {
  together: Script[]
  apart: Script[]
}
const fleets: Record<string, Fleet> = {}
/** Ticks that all of them have seen. */
let ticks: number[]

// All at once, because most of the time they wait.
beforeAll(async () => {
  const { url } = await startRedis()
  const late = hasWallClock ? wallClock(-behindMs).env : {}
  const start = (program: string, urls: string[]) =>
    urls.map((REDIS_URL, instance) =>
      startExample(program, {
        env: { REDIS_URL, EVERY_SECONDS: String(everyMs / 1000), ...(instance === 2 && late) },
      }),
    )
  for (const program of ['index', 'coordinator']) {
    fleets[program] = {
      together: start(`cron-job/${program}.mjs`, [url, url, url]),
      // Databases of one server that know nothing of each other.
      apart: start(`cron-job/${program}.mjs`, [`${url}/1`, `${url}/2`, `${url}/3`]),
    }
  }
  const all = Object.values(fleets).flatMap(({ together, apart }) => together.concat(apart))
  await Promise.all(all.map((script) => line(script, /^scheduled$/)))
  const first = Math.ceil((Date.now() + 500) / everyMs) * everyMs
  ticks = [first, first + everyMs]
  await sleep(first + everyMs + behindMs + 1000 - Date.now())
})

/** What the instances did at those ticks. */
function runsOf(scripts: Script[]): { tick: number; token: bigint }[] {
  return scripts
    .flatMap((script) => lines(script, /^sending the reminders of (\S+) with token (\d+)$/))
    .map(([, tick = '', token = '']) => ({ tick: Date.parse(tick), token: BigInt(token) }))
    .filter(({ tick }) => ticks.includes(tick))
    .toSorted((a, b) => a.tick - b.tick)
}

describe.each(['index', 'coordinator'])('cron-job/%s.mjs', (program) => {
  it('runs each tick on one instance, with rising tokens', async () => {
    const { together } = fleets[program]!
    const runs = runsOf(together)
    expect(runs.map(({ tick }) => tick)).toEqual(ticks)
    expect(runs[0]!.token).toBeLessThan(runs[1]!.token)
    for (const script of together) {
      const { code, signal, stderr } = await script.kill('SIGTERM')
      // On a busy machine, node-cron warns of a tick that it saw too late.
      const errors = stderr.replaceAll(/.*missed execution.*\n/g, '')
      expect({ code, signal, errors }).toEqual({ code: 0, signal: null, errors: '' })
    }
  })

  it('would run it on several without the common lock', () => {
    // Not always on all: node-cron skips a tick that is a second late, as on a busy machine.
    const runs = runsOf(fleets[program]!.apart)
    expect(runs.length).toBeGreaterThan(ticks.length)
  })
})
