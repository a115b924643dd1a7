/** A manager that nothing is asked of, and that holds nothing, sends nothing. */
import { LockManager, type RedisOptions } from 'fencelock'
import { beforeAll, expect, it } from 'vitest'

import { closing, unique } from '../../fixtures/locks'
import { startRedisCluster } from '../../fixtures/servers/cluster'
import { startProxy, type FaultProxy } from '../../fixtures/servers/proxy'
import { startPrimary } from '../../fixtures/servers/redis'
import { startSentinel } from '../../fixtures/servers/sentinel'
import { eventually, sleep } from '../../fixtures/temp'

/** What was under way has ended: after a doubt, nodes or Sentinels are asked for some seconds. */
const settledMs = 8000
/** Longer than anything that is looked at in turn while locks are used, except the map of a cluster. */
const idleMs = 13_000

interface Observed {
  redis: RedisOptions
  /** Everything that the manager sends goes through these. */
  proxies: FaultProxy[]
}

async function observed(ports: number[]): Promise<{ proxies: FaultProxy[]; urls: string[] }> {
  const proxies = await Promise.all(ports.map((port) => startProxy(port, { record: true })))
  return { proxies, urls: proxies.map(({ url }) => url) }
}

/** The places of servers, each replaced by its proxy. */
function mapped(servers: { port: number }[], proxies: FaultProxy[]): RedisOptions['nodeAddressMap'] {
  const place = ({ port }: { port: number }) => ({ host: '127.0.0.1', port })
  return Object.fromEntries(servers.map(({ port }, at) => [`127.0.0.1:${port}`, place(proxies[at]!)]))
}

const deployments: Record<string, () => Promise<Observed>> = {
  async 'one primary'() {
    const { primary } = await startPrimary({ replicas: 1 })
    const { proxies, urls } = await observed([primary.port])
    return { redis: { url: urls[0]!, replicas: 1 }, proxies }
  },
  async Sentinels() {
    const { sentinels, servers, name } = await startSentinel({ replicas: 1 })
    const all = [...sentinels, ...servers]
    const { proxies, urls } = await observed(all.map(({ port }) => port))
    const nodeAddressMap = mapped(all, proxies)
    return {
      redis: { sentinels: urls.slice(0, sentinels.length), name, replicas: 1, nodeAddressMap },
      proxies,
    }
  },
  async 'a cluster'() {
    const { nodes } = await startRedisCluster({ primaries: 2 })
    const { proxies, urls } = await observed(nodes.map(({ port }) => port))
    return { redis: { cluster: urls, replicas: 1, nodeAddressMap: mapped(nodes, proxies) }, proxies }
  },
}

/** Each kind of call, with a second owner that waits. */
async function useAll(locks: LockManager): Promise<void> {
  const options = { ackTimeoutMs: 2000, ttlMs: 4500 }
  const resource = unique()
  const lock = await locks.acquireStrong(resource, { ...options, renew: true })
  const waiting = locks.acquireStrong(resource, { ...options, waitMs: 10_000 })
  await eventually('it waits', () => locks.stats().waiting === 1)
  await lock.extend()
  await sleep(2000) // It is renewed.
  expect(await lock.release()).toBe(true)
  expect(await (await waiting).release()).toBe(true)
  expect(await locks.inspect(resource, { strategy: 'strong' })).toBeNull()
  await locks.describe({ strategy: 'strong' })
}

/** What each proxy has seen so far. */
const seen = (proxies: FaultProxy[]) =>
  proxies.map(({ accepted, recorded }) => {
    const texts = recorded.filter(([direction]) => direction === 'toServer').map(([, text]) => text)
    return { connections: accepted, sent: texts.join('') }
  })

async function staysSilent(start: () => Promise<Observed>): Promise<void> {
  const { redis, proxies } = await start()
  const locks = closing(new LockManager({ redis }))
  await useAll(locks)
  await sleep(settledMs)
  const before = seen(proxies)
  expect(before.some(({ sent }) => sent.includes('EVALSHA'))).toBe(true)
  await sleep(idleMs)
  expect(seen(proxies)).toEqual(before)
  // It is all there still.
  expect(await (await locks.acquireStrong(unique(), { ackTimeoutMs: 2000 })).release()).toBe(true)
}

// All at once: they wait nearly all of the time. A test for each looks at its outcome.
const outcomes = new Map<string, PromiseSettledResult<void>>()
beforeAll(async () => {
  const names = Object.keys(deployments)
  const settled = await Promise.allSettled(names.map((name) => staysSilent(deployments[name]!)))
  for (const [at, name] of names.entries()) outcomes.set(name, settled[at]!)
}, 60_000)

it.each(Object.keys(deployments))('an idle manager of %s sends nothing', (name) => {
  const outcome = outcomes.get(name)
  if (outcome?.status !== 'fulfilled') throw outcome?.reason ?? new Error('it did not run')
})
