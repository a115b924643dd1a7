// A BullMQ worker: jobs of one customer never run at the same time, on however many workers; jobs of
// different customers do.
//
//   REDIS_URL=redis://127.0.0.1:6379 node examples/queue-worker/index.mjs      start it twice
//   REDIS_URL=redis://127.0.0.1:6379 node examples/queue-worker/enqueue.mjs alice bob alice
//
// BullMQ's own lock protects a job: while that lock lasts, no other worker gets the job. It knows nothing of
// customers, and does not protect what the job writes. An event-loop timer renews it. So a worker that is
// blocked or paused for longer than `lockDuration` (30 s) loses its job to another worker ("stalled"), and
// then continues to work on it.
//
// - A job takes a lock on its customer. If the lock is held, the job goes back to the queue for a moment.
//   Waiting here would occupy a slot of the worker, and jobs of a busy customer would soon occupy all slots.
// - Jobs of a customer are not ordered: a delayed job may be overtaken. (A delay does not count as a failed
//   attempt.)
// - If the lock is lost, `lock.signal` ends the work, and the job fails and is retried. A worker that has not
//   noticed the loss cannot write: the ledger refuses tokens lower than the highest it has seen.
// - A job may run again after its write, for example if its worker is killed before BullMQ knows that the job
//   is done. So the ledger has one entry per job, and the second run replaces it.

import { DelayedError, Worker } from 'bullmq'
import { LockManager } from 'fencelock'
import { redisGuard } from 'fencelock/guard'
import { Redis } from 'ioredis'
import { setTimeout as sleep } from 'node:timers/promises'

const url = process.env.REDIS_URL ?? 'redis://127.0.0.1:6379'
const workMs = Number(process.env.WORK_MS ?? 1_000)
const locks = new LockManager({ redis: { url, replicas: Number(process.env.REDIS_REPLICAS ?? 0) } })
const client = new Redis(url, { maxRetriesPerRequest: null }) // as BullMQ wants it for workers
const guard = redisGuard({ client })

/** @type {Worker<{ customer: string, amount: number }>} */
const worker = new Worker(
  'invoices',
  async (job, token) => {
    const { customer, amount } = job.data
    const lock = await locks.tryAcquire(`customer:${customer}`, { ttlMs: 5_000, renew: true })
    if (lock === null) {
      console.log(`job ${job.id} of ${customer} comes back later`)
      // A random time, so that those that come back do not meet again.
      await job.moveToDelayed(Date.now() + workMs * (0.5 + Math.random()), token)
      throw new DelayedError()
    }
    try {
      await bill(lock, { job: job.id, customer, amount })
      console.log(`job ${job.id} of ${customer} is done`)
    } finally {
      await lock[Symbol.asyncDispose]() // releases, and never rejects: what is done must not be tried again
    }
  },
  { connection: client, concurrency: 5 },
)
worker.on('failed', (job, error) => console.log(`job ${job?.id} failed: ${error.message}`))
worker.on('error', (error) => console.error(error))
await worker.waitUntilReady()
process.once('SIGTERM', () => void stop())
console.log('working')

/**
 * Stands for the work, and writes its result.
 *
 * @param {import('fencelock').Lock} lock
 * @param {{ job: string | undefined, customer: string, amount: number }} invoice
 */
async function bill(lock, invoice) {
  const from = Date.now()
  await sleep(workMs, undefined, { signal: lock.signal })
  const entry = JSON.stringify({ ...invoice, by: process.pid, from, to: Date.now() })
  // The fence of a resource and the keys that it protects are in one slot of a cluster: hence the braces.
  const keys = [`{customer:${invoice.customer}}:ledger`]
  const args = [String(invoice.job), entry]
  await guard.run(lock, "redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])", { keys, args })
}

async function stop() {
  await worker.close() // Takes no more jobs, and waits for those that run, whose locks are still renewed.
  await locks.close()
  client.disconnect()
}
