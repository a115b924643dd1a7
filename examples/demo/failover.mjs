// A strong lock survives the death of the primary: Sentinels promote a replica that has the lock.

import { LockManager } from '../../index.js'
import { startSentinel } from '../../scripts/servers/deployments/sentinel.mjs'
import { result, step } from './output.mjs'

/** A primary is killed while a lock is held. */
export async function failover() {
  const deployment = await startSentinel({ replicas: 2 })
  const { sentinelUrls: sentinels, name } = deployment
  // With one acknowledgement of two, locks are granted while the killed server is missing.
  /** @type {import('../../index.js').ManagerOptions} */
  const options = { redis: { sentinels, name, replicas: 2 }, defaults: { acks: 1, ackTimeoutMs: 500 } }
  const [holder, other] = [new LockManager(options), new LockManager(options)]
  try {
    await other.connect()
    const lock = await holder.acquireStrong('payment', { ttlMs: 10_000, renew: true })
    const primary = await deployment.primary()
    step(`The primary, port ${primary.port}, is killed (kill -9) while a lock is held (token ${lock.token}):`)
    const began = performance.now()
    await primary.kill()
    const info = await found(other)
    const seconds = ((performance.now() - began) / 1000).toFixed(1)
    const promoted = await deployment.primary()
    result(`after ${seconds} s the Sentinels have promoted port ${promoted.port}`)
    const kept = lock.held && info?.owner === lock.owner
    result(`the lock is ${kept ? 'still held, and is' : 'LOST, and is not'} on the new primary`)
    const refused = (await other.tryAcquireStrong('payment')) === null
    result(`a second client is ${refused ? 'refused' : 'NOT REFUSED'}`)
    await lock.release()
    const next = await other.acquireStrong('payment')
    result(`after its release the second client gets it, with token ${next.token}`)
    if (!kept || !refused || next.token <= lock.token) throw new Error('the lock did not survive')
    await next.release()
  } finally {
    await Promise.all([holder, other].map((each) => each.close({ drainMs: 0 })))
    await deployment.stop()
  }
}

/** Asks for the lock until a primary replies. @param {LockManager} manager */
async function found(manager) {
  for (;;) {
    try {
      return await manager.inspect('payment')
    } catch (error) {
      const { code } = /** @type {import('../../index.js').LockError} */ (error)
      if (code !== 'BACKEND_UNAVAILABLE') throw error
      await new Promise((resolve) => setTimeout(resolve, 20))
    }
  }
}
