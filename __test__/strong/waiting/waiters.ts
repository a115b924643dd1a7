/** Processes that wait for strong locks, and their queue as the server has it. */
import { startCode, type Script } from '../../fixtures/processes/processes'
import { type RedisServer } from '../../fixtures/servers/redis'
import { eventually } from '../../fixtures/temp'
import { patient, queueKey } from '../support'

/**
 * A process that waits for the locks named to it, says `[name, token]` on each grant, and releases the lock
 * after `holdMs`, or never without that.
 */
export function startWaiter(url: string, options = ''): Script {
  return startCode(`
    const { LockManager } = await import('fencelock')
    const redis = ${JSON.stringify(url)}
    const locks = new LockManager({ redis, defaults: ${JSON.stringify(patient)} })
    for await (const { name, resource, holdMs, ...more } of hear()) {
      locks.acquireStrong(resource, { waitMs: 20_000, ttlMs: 20_000, ${options} ...more }).then(async (lock) => {
        say([name, String(lock.token)])
        if (holdMs === undefined) return
        await new Promise((resolve) => setTimeout(resolve, holdMs))
        await lock.release()
      }, (error) => say([name, error.code]))
      say('waits')
    }
  `)
}

/** Waits until this number of processes is queued for a resource. */
export async function waitUntilQueued(server: RedisServer, resource: string, count: number): Promise<void> {
  await eventually(`${count} are queued`, async () => {
    return (await server.cmd('ZCOUNT', queueKey(resource), 1e14, '+inf')) === count
  })
}
