// The same with node-cron's own hook: for each tick of a task, a coordinator decides whether this instance
// runs it. Tasks then need nothing but `distributed: true` and a name.
//
//   REDIS_URL=redis://127.0.0.1:6379 node examples/cron-job/coordinator.mjs    in two or three terminals
//
// Each tick has its own lock, named by the task and the time of the tick. So clocks may differ by as much as
// the lease, which may be longer than the time between two ticks. But a job that is still running at the next
// tick overlaps with that tick on another instance. (`noOverlap` covers only this instance.) If Redis cannot
// be reached, node-cron skips the tick. Redis remembers each of these names for a week.

import { LockManager } from 'fencelock'
import { schedule, setRunCoordinator, shutdown } from 'node-cron'

const everySeconds = Number(process.env.EVERY_SECONDS ?? 10)

const locks = new LockManager({
  redis: {
    url: process.env.REDIS_URL ?? 'redis://127.0.0.1:6379',
    replicas: Number(process.env.REDIS_REPLICAS ?? 0),
  },
})

/**
 * The locks of the runs in progress here, by node-cron's key for the task and the tick.
 *
 * @type {Map<string, import('fencelock').Lock>}
 */
const running = new Map()

setRunCoordinator({
  async shouldRun(key, leaseMs) {
    // Held for the whole lease, however short the job is: an instance whose clock is behind asks later.
    const lock = await locks.tryAcquire(key, { ttlMs: leaseMs, minHoldMs: leaseMs, renew: true })
    if (lock === null) return false
    running.set(key, lock)
    return true
  },
  async onComplete(key) {
    const lock = running.get(key)
    running.delete(key)
    await lock?.[Symbol.asyncDispose]() // releases, and never rejects: the task has run
  },
})

schedule(
  `*/${everySeconds} * * * * *`,
  async ({ date, dateLocalIso }) => {
    const token = running.get(`send-reminders:${date.toISOString()}`)?.token
    console.log(`sending the reminders of ${dateLocalIso} with token ${token}`)
  },
  { name: 'send-reminders', distributed: true, distributedLease: 30_000 },
)
process.once('SIGTERM', () => void stop())
console.log('scheduled')

async function stop() {
  await shutdown() // No more ticks; waits for the one that runs, for 5 seconds at most.
  await locks.close()
}
