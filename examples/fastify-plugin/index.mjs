// A Fastify plugin that takes a lock for each request to a route.
//
//   REDIS_URL=redis://127.0.0.1:6379 PORT=3000 node examples/fastify-plugin/index.mjs
//   curl -i -X POST http://127.0.0.1:3000/invoices/42/pay    twice at the same time
//
// While a request holds the lock, other requests for the same invoice, on all instances, get 409 with
// Retry-After. The lock is renewed as long as the handler runs, even after the client has disconnected, and
// is free when the client has the response. If the lease is lost, `request.lock.signal` aborts. On SIGTERM,
// requests in progress are answered and their locks released before the process exits. Only a fence can
// refuse what a handler writes after a loss: pass on `request.lock.token`.

import Fastify from 'fastify'
import { Readable } from 'node:stream'
import { setTimeout as sleep } from 'node:timers/promises'

import { locks } from './locks.mjs'

const fastify = Fastify()

await fastify.register(locks, {
  redis: {
    url: process.env.REDIS_URL ?? 'redis://127.0.0.1:6379',
    replicas: Number(process.env.REDIS_REPLICAS ?? 0),
  },
})

/** @param {import('fastify').FastifyRequest} request */
const invoiceOf = (request) => `invoice:${/** @type {{ id: string }} */ (request.params).id}`

fastify.post('/invoices/:id/pay', { config: { lock: invoiceOf } }, async ({ lock }) => {
  console.log(`paying with token ${lock?.token}`)
  // Stands for the work. What it calls gets the signal, so that it ends when the lease is lost.
  await sleep(Number(process.env.WORK_MS ?? 3_000), undefined, { signal: lock?.signal })
  console.log('paid')
  return { paid: true }
})

// A stream is still under the lock.
fastify.get('/invoices/:id/export', { config: { lock: invoiceOf } }, () =>
  Readable.from(['begin\n', sleep(Number(process.env.WORK_MS ?? 3_000), 'end\n')]),
)

let stopping = false
fastify.addHook('onSend', async (_request, reply) => {
  if (stopping) reply.header('connection', 'close')
})

const address = await fastify.listen({ port: Number(process.env.PORT ?? 3000) })
process.once('SIGTERM', () => {
  // A client that keeps its connection open would keep the server open, too, until that times out.
  stopping = true
  void fastify.close()
})
console.log(`listening on ${address}`)
