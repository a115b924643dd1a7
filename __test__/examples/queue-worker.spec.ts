/** `examples/queue-worker`: jobs of a customer one after the other, on several workers. */
import { LockManager } from 'fencelock'
import { redisGuard } from 'fencelock/guard'
import { beforeEach, expect, it } from 'vitest'

import { clients } from '../fixtures/examples/redis-clients'
import { closing } from '../fixtures/locks'
import { type Script } from '../fixtures/processes/processes'
import { startRedis, type RedisServer } from '../fixtures/servers/redis'
import { eventually } from '../fixtures/temp'
import { line, lines, startExample } from './support'

interface Entry {
  job: string
  by: number
  from: number
  to: number
}

let redis: RedisServer
// One for each test: its queue is empty.
beforeEach(async () => {
  redis = await startRedis()
})

async function startWorker(workMs: number): Promise<Script> {
  const worker = startExample('queue-worker/index.mjs', {
    env: { REDIS_URL: redis.url, WORK_MS: String(workMs) },
  })
  await line(worker, /^working$/)
  return worker
}

async function enqueue(...args: string[]): Promise<void> {
  const ending = await startExample('queue-worker/enqueue.mjs', { env: { REDIS_URL: redis.url }, args }).ended
  expect(ending).toMatchObject({ code: 0, stderr: '' })
}

async function ledger(customer: string): Promise<Entry[]> {
  const entries = await redis.cmd('HVALS', `{customer:${customer}}:ledger`)
  return (entries as string[]).map((entry) => JSON.parse(entry) as Entry)
}

const overlap = (a: Entry, b: Entry) => a.from < b.to && b.from < a.to

it('runs the jobs of a customer one after the other, and those of others beside them', async () => {
  const workers = await Promise.all([startWorker(200), startWorker(200)])
  // More jobs of alice than the two workers have slots.
  await enqueue(...Array.from({ length: 18 }, () => 'alice'), 'bob', 'bob', 'bob')
  const done = async () => (await ledger('alice')).length === 18 && (await ledger('bob')).length === 3
  await eventually('all jobs are done', done, 40_000)
  const [alice, bob] = [await ledger('alice'), await ledger('bob')]
  expect(new Set([...alice, ...bob].map(({ job }) => job)).size).toBe(21)
  for (const jobs of [alice, bob]) {
    const ordered = jobs.toSorted((a, b) => a.from - b.from)
    for (const [index, job] of ordered.slice(1).entries()) {
      expect(job.from, 'after the one before').toBeGreaterThanOrEqual(ordered[index]!.to)
    }
  }
  expect(new Set(alice.map(({ by }) => by)).size, 'both workers ran some').toBe(2)
  expect(bob.some((one) => alice.some((other) => overlap(one, other)))).toBe(true)
  const last = (jobs: Entry[]) => Math.max(...jobs.map(({ to }) => to))
  expect(last(bob), 'no slot is taken by a job that waits').toBeLessThan(last(alice))
  expect(workers.some((worker) => lines(worker, /of alice comes back later$/).length > 0)).toBe(true)
  for (const worker of workers) expect(await worker.kill('SIGTERM')).toMatchObject({ code: 0, stderr: '' })
})

it('ends a job that lost its lock, refuses the write of one that does not know it, and tries both again', async () => {
  const worker = await startWorker(5_000)
  const locks = closing(new LockManager({ redis: { url: redis.url, replicas: 0 } }))
  const guard = redisGuard({ client: await clients.ioredis!(redis.port) })
  await enqueue('alice', 'bob')
  await eventually('both run', () => locks.inspect('customer:alice').then(Boolean))
  const bob = await eventually('both run', () => locks.inspect('customer:bob'))

  expect(await locks.forceRelease('customer:alice')).toBe(true)
  await guard.advance({ resource: 'customer:bob', token: bob.token + 1n })
  // The renewal finds it out within a third of the lease, and so before the work is done.
  await line(worker, /^job \d+ failed: The operation was aborted/)
  await line(worker, /^job \d+ failed: .*stale/i)
  for (const customer of ['alice', 'bob']) {
    await line(worker, new RegExp(`of ${customer} is done$`))
    expect(await ledger(customer)).toHaveLength(1)
  }
  expect(await worker.kill('SIGTERM')).toMatchObject({ code: 0 })
})
