// A service behind an HTTP fence: it keeps documents in Redis, and refuses writes from clients that have lost
// their lock. `client.mjs` is such a client.
//
//   REDIS_URL=redis://127.0.0.1:6379 PORT=8080 node examples/http-fence/index.mjs
//
// - Every request carries the token of the caller's lock (`Fencing-Token`, `Fencing-Resource`). A token lower
//   than the highest one seen is answered with 409, `urn:fencelock:stale-token`; a request without a token
//   with 400.
// - The fence is as durable as the documents, because both are in the same Redis.
// - The service trusts the tokens of its callers: admit only callers that may hold the lock.

import Fastify from 'fastify'
import { httpFence, redisGuard } from 'fencelock/guard'
import { Redis } from 'ioredis'

const client = new Redis(process.env.REDIS_URL ?? 'redis://127.0.0.1:6379')
const guard = redisGuard({ client })
const fence = httpFence(guard, { resource: (request) => `document:${request.params.id}` })

const fastify = Fastify()

// `fencing` has what the headers of the request say.
fastify.put(
  '/documents/:id',
  { preHandler: fence.fastify },
  async (/** @type {any} */ { fencing, params, body }) => {
    // The fence is a gate: a newer holder may pass while this runs. So the write goes through the guard, too.
    await guard.set(fencing, `document:${params.id}`, body)
    return { written: params.id }
  },
)

// A StaleTokenError of a handler is a 409 as well.
fastify.setErrorHandler((error, _request, reply) => {
  const problem = fence.problem(error)
  if (problem === null) return reply.send(error)
  return reply.code(problem.status).headers(problem.headers).send(problem.body)
})

let stopping = false
fastify.addHook('onSend', async (_request, reply) => {
  // A client that keeps its connection open would keep the server open, too, until that times out.
  if (stopping) reply.header('connection', 'close')
})

const address = await fastify.listen({ port: Number(process.env.PORT ?? 8080) })
process.once('SIGTERM', () => void stop())
console.log(`listening on ${address}`)

async function stop() {
  stopping = true
  await fastify.close()
  client.disconnect()
}
