/**
 * A job that every node starts by its own clock, and that is to run once a tick. `FENCELOCK_JOB_TICKS=60`
 * runs it for that many, with clocks that differ by two seconds.
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
    ? { nodes: 8, intervalMs: 3_500, spreadMs: 2_000, minHoldMs: 2_800, ticks: long, endingTicks: long }
    : { nodes: 8, intervalMs: 1_100, spreadMs: 300, minHoldMs: 800, ticks: 5, endingTicks: 4 }

/** How long a job takes. */
const jobMs = 5
/** How far its clock is behind that of the first node. */
const offsetOf = (node: number) => (plan.spreadMs * node) / (plan.nodes - 1)
/** What the minimum has to spare: a node that wakes up later than this does not start the tick. */
const slackMs = (plan.minHoldMs - plan.spreadMs) * 0.8

interface Run {
  tick: number
  job: string
}

/** How a process ends while it holds the lock of its job, if it does. */
type EndOfProcess = 'exit' | 'kill' | 'throw' | 'close'

/** A node that runs these jobs, each with its minimum, at these ticks of its clock. */
function startNode(
  options: ManagerOptions,
  jobs: Record<string, number>,
  order: { start: number; node: number; ticks: number[]; end?: EndOfProcess },
): Script {
  return startCode(
    `const { LockManager } = await import('fencelock')
     const { start, ticks, end } = ${JSON.stringify(order)}
     const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms))
     const locks = new LockManager(${JSON.stringify(options)})
     await locks.connect()
     say('ready')
     async function run(tick, job, minHoldMs) {
       const lock = await locks.tryAcquire(job, { ttlMs: ${plan.minHoldMs}, minHoldMs, renew: true })
       if (lock === null) return
       say({ tick, job })
       await sleep(${jobMs})
       if (${JSON.stringify(order.end)} === undefined) return lock.release()
       if (end === 'exit') process.exit(0)
       if (end === 'kill') process.kill(process.pid, 'SIGKILL')
       if (end === 'throw') throw new Error('a bug in the job')
       await locks.close({ drainMs: 0 })
     }
     for (const tick of ticks) {
       const due = start + tick * ${plan.intervalMs} + ${offsetOf(order.node)}
       await sleep(due - Date.now())
       if (Date.now() > due + ${slackMs}) {
         say({ tick, job: 'too late' })
         continue
       }
       await Promise.all(Object.entries(${JSON.stringify(jobs)}).map(([job, min]) => run(tick, job, min)))
     }
     await locks.close()`,
    { limitMs: 600_000 },
  )
}

/** How often this job ran in each tick. */
function counts(nodes: readonly Script[], job: string, ticks: number): number[] {
  const runs = nodes.flatMap(({ said }) => said as (Run | 'ready')[])
  return Array.from({ length: ticks }, (_, tick) => {
    return runs.filter((run) => run !== 'ready' && run.tick === tick && run.job === job).length
  })
}

/** A moment by which so many processes have certainly started. */
const startOf = (processes: number) => Date.now() + 1_000 + 150 * processes

describe.each(strategies)('$strategy jobs', ({ strategy, start: startBackend }) => {
  it('run once a tick with a minimum, and more often without', { timeout: 600_000 }, async () => {
    const options = await startBackend()
    const [once, often] = [unique('once'), unique('often')]
    const ticks = Array.from({ length: plan.ticks }, (_, tick) => tick)
    const start = startOf(plan.nodes)
    const jobs = { [once]: plan.minHoldMs, [often]: 0 }
    const nodes = Array.from({ length: plan.nodes }, (_, node) =>
      startNode(options, jobs, { start, node, ticks }),
    )
    for (const node of nodes) expect(await node.ended).toMatchObject({ code: 0, stderr: '' })
    const [with_, without] = [counts(nodes, once, plan.ticks), counts(nodes, often, plan.ticks)]
    const late = counts(nodes, 'too late', plan.ticks).reduce((a, b) => a + b)
    console.log(`${strategy}: ${with_.join(' ')} with, ${without.join(' ')} without; ${late} starts too late`)
    expect(with_).toEqual(ticks.map(() => 1))
    expect(Math.max(...without)).toBeGreaterThan(1)
  })

  it('run once a tick although each process ends with it', { timeout: 600_000 }, async () => {
    const options = await startBackend()
    const job = unique('job')
    const ends = ['exit', 'kill', 'throw', 'close'] as const
    // Three clocks: the first, one in between, the last. A machine starts only so many processes a second.
    const clocks = [0, (plan.nodes - 1) / 2, plan.nodes - 1]
    const start = startOf(4 * clocks.length)
    const processes: Script[] = []
    for (let tick = 0; tick < plan.endingTicks; tick++) {
      // Not all at once: a process takes long to start.
      await sleep(start + (tick - 3) * plan.intervalMs - Date.now())
      for (const node of clocks) {
        const end = ends[tick % ends.length]!
        processes.push(startNode(options, { [job]: plan.minHoldMs }, { start, node, ticks: [tick], end }))
      }
    }
    await Promise.all(processes.map(({ ended }) => ended))
    const ran = counts(processes, job, plan.endingTicks)
    const late = counts(processes, 'too late', plan.endingTicks)
    console.log(`${strategy}: ${ran.join(' ')}; starts too late: ${late.join(' ')}`)
    // If the machine was too busy to start any of them in time, there was no job.
    expect(ran).toEqual(late.map((count) => (count === clocks.length ? 0 : 1)))
    expect(ran.filter((count) => count === 1).length).toBeGreaterThan(plan.endingTicks / 2)
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
