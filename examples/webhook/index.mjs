// A webhook handler that books each event once, however often the sender repeats it, on however many
// instances.
//
//   REDIS_URL=redis://127.0.0.1:6379 DATABASE_URL=postgres://… PORT=8080 node examples/webhook/index.mjs
//   curl localhost:8080/webhooks/payments --json '{"id":"event-1","account":"alice","amount":5}'
//
// - The first request for an event takes its lock. Another request meanwhile is answered with 409, and a
//   later one with the stored answer.
// - The event's changes, its answer and the fence are one transaction. If the instance dies before the
//   transaction ends, everything is rolled back, and a repeated request does the work as soon as the lease
//   has expired.
// - An instance that was paused for longer than its lease is refused by the fence, and answers 503.
// - The call to another service in between may happen twice, so pass the event's id on with it.
//
// docs/guide/idempotent-handlers.md explains the purpose of each part. Check the sender's signature before
// all of this. You can delete the rows of an event and of its fence once the sender no longer repeats it.

import Fastify from 'fastify'
import { LockManager } from 'fencelock'
import { postgresGuard } from 'fencelock/guard'
import { setTimeout as sleep } from 'node:timers/promises'
import { Pool } from 'pg'

const locks = new LockManager({
  redis: {
    url: process.env.REDIS_URL ?? 'redis://127.0.0.1:6379',
    replicas: Number(process.env.REDIS_REPLICAS ?? 0),
  },
})
const pool = new Pool({
  connectionString: process.env.DATABASE_URL,
  // An instance that is paused in its transaction holds the row of the fence for no longer than this.
  idle_in_transaction_session_timeout: 10_000,
})
// An idle connection that breaks, as when the database restarts, would otherwise end the process.
pool.on('error', (error) => console.error(error))
const guard = postgresGuard({ client: pool })
const fastify = Fastify()

/** @typedef {{ id: string, account: string, amount: number }} Event */

// What is not an event is answered with 400. Its id is part of the lock's name, which is 512 bytes at most.
const schema = {
  body: {
    type: 'object',
    required: ['id', 'account', 'amount'],
    properties: {
      id: { type: 'string', minLength: 1, maxLength: 100 },
      account: { type: 'string' },
      amount: { type: 'integer' },
    },
  },
}

fastify.post('/webhooks/payments', { schema }, async (request, reply) => {
  const event = /** @type {Event} */ (request.body)
  // Booked before: the same answer again, without a lock.
  const known = await storedAnswer(event)
  if (known !== undefined) return known

  const lock = await locks.tryAcquire(`event:${event.id}`, { ttlMs: 3_000, renew: true })
  if (lock === null) {
    reply.code(409).header('Retry-After', '1')
    return { error: 'in progress' }
  }
  try {
    // The holder before may have stored its answer since. After the fence it cannot any more.
    await guard.advance(lock)
    return (await storedAnswer(event)) ?? (await book(event, lock))
  } finally {
    await lock[Symbol.asyncDispose]() // releases, and never rejects: the answer stands
  }
})

fastify.setErrorHandler((/** @type {import('fastify').FastifyError} */ error, _request, reply) => {
  if (error.statusCode !== undefined && error.statusCode < 500) return reply.send(error)
  console.error(error)
  // Nothing was committed, or it is not known, or another instance has the lock now: the next try finds out.
  return reply.code(503).header('Retry-After', '1').send({ error: 'try again' })
})

/** @param {Event} event */
async function storedAnswer({ id }) {
  const { rows } = await pool.query('SELECT answer FROM webhook_answer WHERE event = $1', [id])
  return rows[0]?.answer
}

/**
 * Does the work, and stores the answer.
 *
 * @param {Event} event
 * @param {import('fencelock').Lock} lock
 */
async function book(event, lock) {
  console.log(`booking ${event.id} with token ${lock.token}`)
  await askPartner(event, lock.signal)
  return guard.run(lock, async (tx) => {
    const change = 'UPDATE account SET balance = balance + $2 WHERE id = $1 RETURNING balance'
    const { rows } = await tx.query(change, [event.account, event.amount])
    // Another try would not help, so this is not a 503. Nothing is committed.
    if (rows.length === 0) throw Object.assign(new Error('no such account'), { statusCode: 422 })
    const answer = { booked: event.id, balance: Number(rows[0].balance) }
    await tx.query('INSERT INTO webhook_answer (event, answer) VALUES ($1, $2)', [event.id, answer])
    return answer
  })
}

/**
 * Stands for a call to another service.
 *
 * @param {Event} event
 * @param {AbortSignal} signal
 */
async function askPartner(event, signal) {
  await sleep(Number(process.env.WORK_MS ?? 100), event.id, { signal })
}

let stopping = false
fastify.addHook('onSend', async (_request, reply) => {
  // A sender that keeps its connection open would keep the server open, too, until that times out.
  if (stopping) reply.header('connection', 'close')
})

// One instance at a time, because CREATE TABLE IF NOT EXISTS may fail in two sessions at once. See
// ../migrations for real ones.
await locks.withLock('webhook:tables', async () => {
  await guard.migrate()
  await pool.query(
    'CREATE TABLE IF NOT EXISTS webhook_answer (event text PRIMARY KEY, answer jsonb NOT NULL)',
  )
})
const address = await fastify.listen({ port: Number(process.env.PORT ?? 8080) })
process.once('SIGTERM', () => void stop())
console.log(`listening on ${address}`)

async function stop() {
  stopping = true
  await fastify.close() // What is in flight is answered, and needs its lock and its connection.
  await locks.close()
  await pool.end()
}
