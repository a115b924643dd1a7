// A child process of the demo: it has a lock manager of its own and does what its parent requests.

import { LockManager } from '../../index.js'

const manager = new LockManager(JSON.parse(String(process.argv[2])))
/** @type {import('../../index.js').Lock} */
let lock

/** @type {Record<string, (request: { resource: string, ttlMs: number }) => unknown>} */
const actions = {
  /** Tries until it gets the lock. */
  async acquire({ resource, ttlMs }) {
    const began = performance.now()
    for (;;) {
      const granted = await manager.tryAcquire(resource, { ttlMs })
      if (granted) {
        lock = granted
        return { token: String(lock.token), acks: lock.acks, tookMs: performance.now() - began }
      }
      await new Promise((resolve) => setTimeout(resolve, 5))
    }
  },
  /** Connects, so that later measurements cover the lock alone. */
  warmUp: () => manager.connect(),
  /** The token of its last lock, whether or not the lease has ended. */
  token: () => ({ token: String(lock.token), held: lock.held }),
  release: () => lock.release(),
}

/** @param {{ id: number, action: string, resource: string, ttlMs: number }} message */
async function reply({ id, action, ...request }) {
  try {
    process.send?.({ id, value: await actions[action]?.(request) })
  } catch (error) {
    const { message, code } = /** @type {import('../../index.js').LockError} */ (error)
    process.send?.({ id, error: { message, code } })
  }
}

process.on('message', (message) => void reply(/** @type {any} */ (message)))
process.on('disconnect', () => process.exit())
