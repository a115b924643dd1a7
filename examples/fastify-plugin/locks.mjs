// The plugin: it adds `fastify.locks`, and a lock for each route with `config: { lock: (request) =>
// `invoice:${request.params.id}` }`.

import fp from 'fastify-plugin'
import { LockHeldError, LockManager } from 'fencelock'
import { finished } from 'node:stream'

/**
 * @param {import('fastify').FastifyInstance} fastify
 * @param {import('fencelock').ManagerOptions} options
 */
async function locksPlugin(fastify, options) {
  const locks = new LockManager(options)
  await locks.connect() // A wrong configuration fails at start-up.
  fastify.decorate('locks', locks)
  // Fastify calls this when the last response has been sent. A handler whose client has left may still run:
  // `close` waits for its lock, for 4 seconds at most.
  fastify.addHook('onClose', () => locks.close())

  fastify.decorateRequest('lock', null)

  // After validation: a request that is refused takes no lock.
  fastify.addHook('preHandler', async (request, reply) => {
    const resource = request.routeOptions.config.lock?.(request)
    if (resource === undefined) return
    try {
      // A handler that never replies, or that calls `reply.hijack()`, keeps the lock for a minute at most.
      request.lock = await locks.acquire(resource, { ttlMs: 5_000, renew: { maxHoldMs: 60_000 } })
    } catch (error) {
      if (!(error instanceof LockHeldError)) throw error
      // The lease may be renewed, so this is the earliest time at which it can make sense.
      reply.header('retry-after', Math.max(1, Math.ceil((error.remainingMs ?? 0) / 1000)))
      throw Object.assign(new Error(`${resource} is in use`, { cause: error }), { statusCode: 409 })
    }
  })

  // Before the response is sent, so that a client that has it can send its next request. Not when the
  // connection ends: the handler goes on after its client has left.
  fastify.addHook('onSend', async (request, reply, payload) => {
    const { lock } = request
    if (lock === null) return
    // Never rejects: an unreachable Redis does not spoil the response.
    const release = () => lock[Symbol.asyncDispose]()
    // All else is a stream, of Node.js or of the web, or a Response, and has only begun. `finished` calls its
    // function, too, if the connection has already ended.
    if (typeof (payload ?? '') === 'string' || ArrayBuffer.isView(payload)) await release()
    else finished(reply.raw, () => void release())
  })
}

export const locks = fp(locksPlugin, { fastify: '5.x', name: 'locks' })
