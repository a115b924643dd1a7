/** What the specs of strong locks share: connected managers, keys on the server, the state of replication. */
import { type LockError, LockManager, type RedisOptions } from 'fencelock'

import { onCleanup } from '../fixtures/cleanup'
import { closing, rejection, unique } from '../fixtures/locks'
import { type Deployment, type RedisServer } from '../fixtures/servers/redis'
import { eventually, sleep } from '../fixtures/temp'

/**
 * For tests that are not about it: what is to be granted is granted on a busy machine, too, whose replicas
 * take longer than the default.
 */
export const patient = { ackTimeoutMs: 2_000 }

/** A manager that is connected, with its scripts loaded. */
export async function connected(redis: string | RedisOptions): Promise<LockManager> {
  const locks = closing(new LockManager({ redis, defaults: patient }))
  await (await locks.acquireStrong(unique())).release()
  return locks
}

/**
 * How a call fails after the servers were killed. What is sent before their end was noticed has an unknown
 * outcome, so it may take a second call.
 */
export async function rejectionOnceAway(locks: LockManager): Promise<LockError> {
  const attempt = () => rejection<LockError>(locks.acquireStrong(unique()))
  const first = await attempt()
  return first.code === 'OUTCOME_UNKNOWN' ? attempt() : first
}

export const lockKey = (resource: string): string => `fencelock:{${resource}}:lock`
export const fenceKey = (resource: string): string => `fencelock:{${resource}}:fence`
export const queueKey = (resource: string): string => `fencelock:{${resource}}:line`

/** Waits until the server has a lease of the resource. */
export async function leaseExists(server: RedisServer, resource: string): Promise<void> {
  await eventually('the lease is there', async () => (await server.cmd('EXISTS', lockKey(resource))) === 1)
}

/** Waits until the server has no lease of the resource. */
export async function leaseIsRemoved(
  server: RedisServer,
  resource: string,
  withinMs?: number,
): Promise<void> {
  await eventually(
    'the lease is removed',
    async () => (await server.cmd('EXISTS', lockKey(resource))) === 0,
    withinMs,
  )
}

/**
 * Waits until the replicas have acknowledged everything, and stops the primary's own pings to them. From then
 * on a WAIT returns at once with all replicas unless its connection has written something: a false
 * acknowledgement would show.
 */
export async function replicationIsIdle({ primary, replicas }: Deployment): Promise<void> {
  onCleanup(() => primary.cmd('CONFIG', 'SET', 'repl-ping-replica-period', 1).catch(() => undefined))
  await primary.cmd('CONFIG', 'SET', 'repl-ping-replica-period', 3600)
  await eventually('the replicas have acknowledged everything', async () => {
    const { master_repl_offset: all, ...info } = await primary.info('replication')
    return replicas.every((_, index) => info[`slave${index}`]?.includes(`,offset=${all},`))
  })
}

/**
 * Waits until no script was called for a moment: a waiter that was queued has made its attempts. One that
 * breaks an attempt that is under way makes its outcome unknown, and ends the wait.
 */
export async function scriptsAreDone(server: RedisServer): Promise<void> {
  const calls = async (): Promise<string | undefined> =>
    /cmdstat_evalsha:calls=\d+/.exec(String(await server.cmd('INFO', 'commandstats')))?.[0]
  let [last, quiet] = [await calls(), 0]
  await eventually('no more scripts are called', async () => {
    await sleep(50)
    const now = await calls()
    quiet = now === last ? quiet + 1 : 0
    last = now
    // Several times: none is called while the machine stalls, either, but they go on afterwards.
    return quiet === 4
  })
}
