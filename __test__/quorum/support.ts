/** What the specs of quorum locks share: nodes behind proxies, managers, and what nodes still have. */
import { LockManager, type Lock, type QuorumOptions } from 'fencelock'

import { closing } from '../fixtures/locks'
import { startProxy, type FaultProxy } from '../fixtures/servers/proxy'
import { startNodes, type RedisServer, type RedisServerOptions } from '../fixtures/servers/redis'
import { inTime } from '../fixtures/stalls'
import { eventually } from '../fixtures/temp'

export const lockKey = (resource: string): string => `fencelock:{${resource}}:lock`

/** The shortest `maxTtlMs` that is not shorter than what a node does not vote for after a restart. */
export const maxTtlMs = 2000

/** A node, and the proxy through which clients reach it. */
export interface ProxiedNode {
  server: RedisServer
  proxy: FaultProxy
  url: string
}

/** Starts independent servers, each behind a proxy. */
export async function startProxiedNodes(
  count: number,
  options: RedisServerOptions = {},
): Promise<ProxiedNode[]> {
  const servers = await startNodes(count, options)
  return Promise.all(
    servers.map(async (server) => {
      const proxy = await startProxy(server.port)
      return { server, proxy, url: proxy.url }
    }),
  )
}

/** A manager that is closed after the test. Its time limits are the usual ones: machines are busy. */
export function managerOf(
  nodes: readonly { url: string }[],
  options: Partial<QuorumOptions> = {},
): LockManager {
  const urls = nodes.map(({ url }) => url)
  return closing(new LockManager({ quorum: { nodes: urls, maxTtlMs, ...options } }))
}

/** Waits until all nodes vote for managers that connect from now on. */
export async function allVote(
  nodes: readonly { url: string }[],
  options: Partial<QuorumOptions> = {},
): Promise<void> {
  await eventually('all nodes vote', async () => {
    // A new one each time: what it reads of the uptime is up to a second less than it is.
    const manager = managerOf(nodes, options)
    const { warnings } = await manager.describe()
    await manager.close()
    return !warnings.some((warning) => /does not vote|cannot be asked/.test(warning))
  })
}

/**
 * Acquires a lock where only as many nodes are left as must vote: they are asked again if this process
 * stalled, and their votes came too late.
 */
export function acquireOfAll(manager: LockManager, resource: string, ttlMs: number): Promise<Lock> {
  return inTime(ttlMs / 4 - 10, () => manager.acquireQuorum(resource, { ttlMs, waitMs: 10_000 }))
}

/** The nodes that have a lease of the resource, by their place in the list. */
export async function holdersOf(
  nodes: readonly { server: RedisServer }[],
  resource: string,
): Promise<number[]> {
  const exist = await Promise.all(nodes.map(({ server }) => server.cmd('EXISTS', lockKey(resource))))
  return exist.flatMap((exists, place) => (exists === 1 ? [place] : []))
}

/** Waits until no node has a lease of the resource. Much sooner than it would expire, so it was removed. */
export async function nothingIsLeft(
  nodes: readonly { server: RedisServer }[],
  resource: string,
  withinMs?: number,
): Promise<void> {
  await eventually(
    'no node has a lease',
    async () => (await holdersOf(nodes, resource)).length === 0,
    withinMs,
  )
}
