// An actor of the demo: a process with a lock manager of its own, told by its parent what to do.

import { LockManager } from '../index.js'

const manager = new LockManager(JSON.parse(process.argv[2]))
let lock

const actions = {
  /** Tries until it gets the lock. */
  async acquire({ resource, ttlMs }) {
    const began = performance.now()
    for (;;) {
      lock = await manager.tryAcquire(resource, { ttlMs })
      if (lock) return { token: String(lock.token), acks: lock.acks, tookMs: performance.now() - began }
      await new Promise((resolve) => setTimeout(resolve, 5))
    }
  },
  /** Connects, so that what is measured later is the lock alone. */
  warmUp: () => manager.connect(),
  /** The token it believes in, whatever became of the lease. */
  token: async () => ({ token: String(lock.token), held: lock.held }),
  release: async () => lock.release(),
}

process.on('message', ({ id, action, ...parameters }) => {
  actions[action](parameters).then(
    (value) => process.send({ id, value }),
    (error) => process.send({ id, error: { message: error.message, code: error.code } }),
  )
})
process.on('disconnect', () => process.exit())
