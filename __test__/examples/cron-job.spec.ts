/** Cron jobs on several instances: each tick runs once, also when a clock is behind. */
import { beforeAll, describe, expect, it } from 'vitest'

import { type Script } from '../fixtures/processes/processes'
import { startRedis } from '../fixtures/servers/redis'
import { eventually, sleep } from '../fixtures/temp'
import { hasWallClock, wallClock } from '../fixtures/time/wall-clock'
import { line, lines, startExample } from './support'

const everyMs = 4000
/**
 * How far the clock of one of the instances is behind. If it stalls for another second and a half, it is
 * still within the two seconds for which the lock is held.
 */
const behindMs = hasWallClock ? 400 : 0

/** The instances of a program: with a common lock, and with one for each of them. */
interface Fleet {
  together: Script[]
  apart: Script[]
}
const fleets: Record<string, Fleet> = {}
/** The first tick that all of them can see. */
let first: number

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
  first = Math.ceil((Date.now() + 500) / everyMs) * everyMs
  const seen = () => Object.values(fleets).every(({ together }) => runsOf(together).length >= 2)
  await eventually('two ticks have run', seen, 60_000)
  // The one that is behind has had its tick, too.
  await sleep(behindMs + 1000)
})

/** What the instances did since then. */
function runsOf(scripts: Script[]): { tick: number; token: bigint }[] {
  return scripts
    .flatMap((script) => lines(script, /^sending the reminders of (\S+) with token (\d+)$/))
    .map(([, tick = '', token = '']) => ({ tick: Date.parse(tick), token: BigInt(token) }))
    .filter(({ tick }) => tick >= first)
    .toSorted((a, b) => a.tick - b.tick)
}

/** Whether an instance skipped a tick, as node-cron does when it is a second late: on a busy machine. */
function hasMissed({ stderr }: Script, tick: number): boolean {
  const said = stderr.matchAll(/missed execution at (.+?)! Possible/g)
  return [...said].some(([, date = '']) => Date.parse(date) === tick)
}

describe.each(['index', 'coordinator'])('cron-job/%s.mjs', (program) => {
  it('runs each tick on one instance, with rising tokens', async () => {
    const { together } = fleets[program]!
    const runs = runsOf(together)
    const expected = []
    for (let tick = first; tick <= runs.at(-1)!.tick; tick += everyMs) {
      if (!together.every((script) => hasMissed(script, tick))) expected.push(tick)
    }
    expect(runs.map(({ tick }) => tick)).toEqual(expected)
    for (const [index, { token }] of runs.slice(1).entries())
      expect(token).toBeGreaterThan(runs[index]!.token)
    for (const script of together) {
      const { code, signal, stderr } = await script.kill('SIGTERM')
      // On a busy machine, node-cron warns of a tick that it saw too late.
      const errors = stderr.replaceAll(/.*missed execution.*\n/g, '')
      expect({ code, signal, errors }).toEqual({ code: 0, signal: null, errors: '' })
    }
  })

  it('would run it on several without the common lock', async () => {
    const ticks = () => runsOf(fleets[program]!.apart).map(({ tick }) => tick)
    await eventually('two run the same tick', () => new Set(ticks()).size < ticks().length, 30_000)
  })
})
