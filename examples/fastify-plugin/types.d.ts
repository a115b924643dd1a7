import type { Lock, LockManager } from 'fencelock'

declare module 'fastify' {
  interface FastifyInstance {
    locks: LockManager
  }
  interface FastifyRequest {
    /** The lock of the route; `null` if it has none. Pass on its token and its signal. */
    lock: Lock | null
  }
  interface FastifyContextConfig {
    /** Names what the route locks while it handles the request; `undefined` for nothing. */
    lock?: (request: FastifyRequest) => string | undefined
  }
}
