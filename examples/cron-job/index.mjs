// A cron job that runs once per tick, although every instance of the service schedules it.
//
//   REDIS_URL=redis://127.0.0.1:6379 node examples/cron-job/index.mjs    start it in two or three terminals
//
// One instance runs each tick. Clocks may differ by half the time between two ticks, and the job may be
// shorter than that difference. A job that is still running at the next tick keeps its lock, and that tick is
// skipped. A failed run is not repeated. An instance that was paused in the middle of a run may resume after
// another instance has started the next run: that is what the token is for.

import { LockManager } from 'fencelock'
import { schedule, shutdown } from 'node-cron'

const everySeconds = Number(process.env.EVERY_SECONDS ?? 10)

const locks = new LockManager({
  redis: {
    url: process.env.REDIS_URL ?? 'redis://127.0.0.1:6379',
    replicas: Number(process.env.REDIS_REPLICAS ?? 0),
  },
})

schedule(`*/${everySeconds} * * * * *`, async ({ dateLocalIso }) => {
  const lock = await locks.tryAcquire('send-reminders', {
    // Shorter than the time between two ticks, for an instance that is killed; renewed for a job that takes
    // longer.
    ttlMs: everySeconds * 500,
    renew: true,
    // The job is done after a moment. An instance whose clock is behind must still find the lock held then.
    minHoldMs: everySeconds * 500,
  })
  if (lock === null) return // Another instance is running this tick, or has already.
  try {
    await sendReminders(dateLocalIso, lock)
  } finally {
    await lock[Symbol.asyncDispose]() // releases, and never rejects: the reminders were sent
  }
})
process.once('SIGTERM', () => void stop())
console.log('scheduled')

/**
 * Stands for the work.
 *
 * @param {string} tick
 * @param {import('fencelock').Lock} lock
 */
async function sendReminders(tick, lock) {
  console.log(`sending the reminders of ${tick} with token ${lock.token}`)
}

async function stop() {
  await shutdown() // No more ticks; waits for the one that runs, for 5 seconds at most.
  await locks.close()
}
