/**
 * A job that every node starts by its own clock, and that is to run once a tick. `FENCELOCK_JOB_TICKS=60`
 * runs it for that many, with clocks that differ by two seconds.
 *
 * Where the machine stalls, nodes are late, and a tick may have no run, or a second one after the minimum,
 * although the locks are right. So the runs are counted in ticks that nothing has disturbed, of which there
 * have to be enough, and the minimum is checked for all of them.
 */
import { LockManager, type ManagerOptions } from 'fencelock'
import { describe, expect, it } from 'vitest'

import { closing, unique } from '../fixtures/locks'
import { type Script, startCode } from '../fixtures/processes/processes'
import { strategies } from '../fixtures/strategies'
import { eventually, sleep } from '../fixtures/temp'

const long = Number(process.env.FENCELOCK_JOB_TICKS ?? 0)

const plan =
  long > 0
    ? { nodes: 8, intervalMs: 3_500, spreadMs: 2_000, minHoldMs: 2_800, ticks: long }
    : { nodes: 8, intervalMs: 1_100, spreadMs: 300, minHoldMs: 800, ticks: 5 }

/** How long a job takes. */
const jobMs = 5
/** How far its clock is behind that of the first node. */
const offsetOf = (node: number) => (plan.spreadMs * node) / (plan.nodes - 1)
/** What a lease may last longer on its server, and what the processes' clocks may differ by. */
const spareMs = 60
/** At most this many rounds, until enough ticks were undisturbed. */
const MAX_ROUNDS = 8

/** One attempt to get the lock of a job. Times are of the wall clock of this host, in milliseconds. */
interface Attempt {
  tick: number
  job: string
  asked: number
  answered: number
  got: boolean
  /** The code of an error: it is not known whether it was granted. */
  failed?: string
  /** When it had been released. */
  released?: number
}

/** How a process ends while it holds the lock of its job, if it does. */
const ends = ['exit', 'kill', 'throw', 'close'] as const
type EndOfProcess = (typeof ends)[number]

interface Order {
  start: number
  node: number
  ticks: number[]
  /** A process that ends with its job cannot shorten its lease if it is killed. */
  ttlMs: number
  end?: EndOfProcess
}

/** A node that runs these jobs, each with its minimum, at these ticks of its clock. */
function startNode(options: ManagerOptions, jobs: Record<string, number>, order: Order): Script {
  return startCode(
    `const { LockManager } = await import('fencelock')
     const { start, ticks, ttlMs, end } = ${JSON.stringify(order)}
     const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, Math.max(0, ms)))
     const locks = new LockManager(${JSON.stringify(options)})
     await locks.connect()
     async function run(tick, job, minHoldMs) {
       const asked = Date.now()
       let failed
       const lock = await locks.tryAcquire(job, { ttlMs, minHoldMs, renew: true }).catch(({ code }) => {
         failed = code
         return null
       })
       const attempt = { tick, job, asked, answered: Date.now(), got: lock !== null, failed }
       if (lock === null) return say(attempt)
       if (end !== undefined) say(attempt)
       await sleep(${jobMs})
       if (end === undefined) {
         await lock.release()
         return say({ ...attempt, released: Date.now() })
       }
       if (end === 'exit') process.exit(0)
       if (end === 'kill') process.kill(process.pid, 'SIGKILL')
       if (end === 'throw') throw new Error('a bug in the job')
       await locks.close({ drainMs: 0 })
     }
     for (const tick of ticks) {
       await sleep(start + tick * ${plan.intervalMs} + ${offsetOf(order.node)} - Date.now())
       await Promise.all(Object.entries(${JSON.stringify(jobs)}).map(([job, min]) => run(tick, job, min)))
     }
     await locks.close()`,
    { limitMs: 600_000 },
  )
}

/** A node, and when it had ended. */
interface Node {
  attempts: Attempt[]
  endedAt: number
}

async function ended(script: Script): Promise<Node> {
  await script.ended
  return { attempts: script.said as Attempt[], endedAt: Date.now() }
}

/** By when the lease of an attempt was certainly over. */
function leaseEnd(attempt: Attempt, endedAt: number, ttlMs: number): number {
  const { answered, got, failed, released } = attempt
  if (released !== undefined) return Math.max(answered + plan.minHoldMs, released)
  if (failed !== undefined) return answered + ttlMs
  if (!got) return -Infinity
  // It is renewed after a third of its time, until its process has ended.
  return endedAt < answered + ttlMs / 3 ? answered + ttlMs : endedAt + ttlMs
}

/**
 * The ticks in which everything came in time: all nodes asked and were answered within the minimum of the
 * first, and no lease was left from before. Exactly one of them has to get such a tick.
 */
function undisturbed(nodes: Node[], job: string, ttlMs: number, isOneServer: boolean): Attempt[][] {
  const all: (Attempt & { end: number })[] = []
  for (const { attempts, endedAt } of nodes) {
    for (const attempt of attempts.filter((each) => each.job === job))
      all.push({ ...attempt, end: leaseEnd(attempt, endedAt, ttlMs) })
  }
  const ticks = [...new Set(all.map(({ tick }) => tick))]
  const attemptsOf = ticks.map((tick) => all.filter((each) => each.tick === tick))
  return attemptsOf.filter((attempts) => {
    const [first, second] = attempts.toSorted((a, b) => a.asked - b.asked)
    const last = Math.max(...attempts.map(({ answered }) => answered))
    const others = all.filter((each) => each.tick !== first!.tick && each.asked <= last)
    return (
      attempts.every(({ failed }) => failed === undefined) &&
      last < first!.asked + plan.minHoldMs - spareMs &&
      others.every(({ answered, end }) => Math.max(answered, end + spareMs) < first!.asked) &&
      // Votes for two that ask at the same time may be split.
      (isOneServer || first!.answered < second!.asked)
    )
  })
}

/** Whatever was late: no two owners get a lock within its minimum. */
function expectMinimum(nodes: Node[], job: string): void {
  const runs = nodes
    .flatMap(({ attempts }) => attempts.filter((attempt) => attempt.job === job && attempt.got))
    .toSorted((a, b) => a.asked - b.asked)
  for (const [index, { answered }] of runs.slice(1).entries())
    expect(answered - runs[index]!.asked).toBeGreaterThanOrEqual(plan.minHoldMs - 5)
}

const runsOf = (attempts: readonly Attempt[]) => attempts.filter(({ got }) => got).length

/** A moment by which so many processes have started, unless the machine is very busy. */
const startOf = (processes: number) => Date.now() + 1_000 + 150 * processes

describe.each(strategies)('$strategy jobs', ({ strategy, start: startBackend }) => {
  const isOneServer = strategy !== 'quorum'

  it('run once a tick with a minimum, and more often without', { timeout: 600_000 }, async () => {
    const options = await startBackend()
    const ticks = Array.from({ length: plan.ticks }, (_, tick) => tick)
    let [counted, often] = [0, 0]
    for (let round = 0; round < MAX_ROUNDS && (counted < plan.ticks / 2 || often < 2); round++) {
      const [once, freely] = [unique('once'), unique('often')]
      // Its holders live on, so it is long: it ends with the release, and no stall outlives it.
      const order = { start: startOf(plan.nodes), ticks, ttlMs: 10_000 }
      const scripts = Array.from({ length: plan.nodes }, (_, node) =>
        startNode(options, { [once]: plan.minHoldMs, [freely]: 0 }, { ...order, node }),
      )
      const nodes = await Promise.all(scripts.map(ended))
      for (const script of scripts) expect(await script.ended).toMatchObject({ code: 0, stderr: '' })
      expectMinimum(nodes, once)
      const right = undisturbed(nodes, once, order.ttlMs, isOneServer)
      for (const attempts of right.filter(({ length }) => length === plan.nodes)) {
        expect(runsOf(attempts)).toBe(1)
        counted++
      }
      const without = nodes.flatMap(({ attempts }) => attempts.filter(({ job }) => job === freely))
      often = Math.max(often, ...ticks.map((tick) => runsOf(without.filter((each) => each.tick === tick))))
      console.log(`${strategy}: ${counted} ticks with one run; without a minimum, ${often} runs at most`)
    }
    expect(counted).toBeGreaterThanOrEqual(plan.ticks / 2)
    expect(often).toBeGreaterThan(1)
  })

  it('run once a tick although each process ends with it', { timeout: 600_000 }, async () => {
    const options = await startBackend()
    // Three clocks: the first, one in between, the last. A machine starts only so many processes a second.
    const clocks = [0, (plan.nodes - 1) / 2, plan.nodes - 1]
    const ttlMs = plan.minHoldMs
    let missing: EndOfProcess[] = [...ends]
    for (let round = 0; round < MAX_ROUNDS && missing.length > 0; round++) {
      const job = unique('job')
      const start = startOf(4 * clocks.length)
      const running: Promise<Node>[] = []
      for (const [tick, end] of missing.entries()) {
        // Not all at once: a process takes long to start.
        await sleep(start + (tick - 3) * plan.intervalMs - Date.now())
        for (const node of clocks) {
          const order = { start, node, ticks: [tick], ttlMs, end }
          running.push(ended(startNode(options, { [job]: plan.minHoldMs }, order)))
        }
      }
      const nodes = await Promise.all(running)
      expectMinimum(nodes, job)
      const right = undisturbed(nodes, job, ttlMs, isOneServer)
      const seen = right.filter(({ length }) => length === clocks.length)
      for (const attempts of seen) expect(runsOf(attempts)).toBe(1)
      missing = missing.filter((_, tick) => !seen.some(([attempt]) => attempt!.tick === tick))
      console.log(`${strategy}: ${seen.length} ticks with one run; still to be seen: ${missing.join(' ')}`)
    }
    expect(missing).toEqual([])
  })

  it.each(['exit', 'kill', 'worker'] as const)('keep their minimum: %s', { timeout: 60_000 }, async (end) => {
    const options = await startBackend()
    const job = unique('job')
    const hold = `
      import('fencelock').then(async ({ LockManager }) => {
        const locks = new LockManager(${JSON.stringify(options)})
        await locks.acquire(${JSON.stringify(job)}, { ttlMs: 30_000, minHoldMs: 20_000 })
        ${end === 'kill' ? "process.kill(process.pid, 'SIGKILL')" : 'process.exit(0)'}
      })`
    const script = startCode(
      end === 'worker'
        ? `const { Worker } = await import('node:worker_threads')
           const worker = new Worker(${JSON.stringify(hold)}, { eval: true })
           await new Promise((resolve) => worker.once('exit', resolve))
           say('over')
           for await (const _ of hear());`
        : hold,
    )
    await (end === 'worker' ? script.next() : script.ended)
    expect(script.stderr).toBe('')
    const locks = closing(new LockManager(options))
    // Of a local lock, whose holder is seen to be dead. Others may not have been released at the end.
    const most = strategy === 'local' ? 20_000 : 30_000
    await eventually('only the minimum is left', async () => {
      const info = await locks.inspect(job)
      expect(info).not.toBeNull()
      return info!.remainingMs <= most
    })
    expect(await locks.tryAcquire(job)).toBeNull()
    expect((await locks.inspect(job))!.remainingMs).toBeGreaterThan(10_000)
    expect(await locks.forceRelease(job)).toBe(true)
    script.hangUp()
  })
})
