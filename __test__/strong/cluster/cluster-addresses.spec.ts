/** A Redis Cluster whose nodes announce names, with and without TLS, and whose addresses change. */
import { LockManager, type RedisOptions } from 'fencelock'
import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'

import { closing, rejection, unique } from '../../fixtures/locks'
import { startRedisCluster, type RedisCluster } from '../../fixtures/servers/cluster'
import { makeCertificates } from '../../fixtures/servers/tls'
import { lockKey } from '../support'

/** Locks in all shards are granted. */
async function useShards(cluster: RedisCluster, redis: RedisOptions): Promise<void> {
  const locks = closing(new LockManager({ redis }))
  const seen = new Set<string>()
  while (seen.size < cluster.nodes.length) {
    const resource = unique()
    seen.add((await cluster.ownerOf(lockKey(resource))).id)
    expect(await (await locks.acquireStrong(resource)).release()).toBe(true)
  }
}

test('announced addresses are replaced by those of the map', async () => {
  const cluster = await startRedisCluster({ primaries: 2, replicas: 0, hostname: 'node.invalid' })
  const [first] = cluster.urls
  const nodeAddressMap = Object.fromEntries(
    cluster.nodes.map(({ port }) => [`node.invalid:${port}`, { host: '127.0.0.1', port }]),
  )
  await useShards(cluster, { cluster: first!, replicas: 0, nodeAddressMap })
  const lost = closing(new LockManager({ redis: { cluster: first!, replicas: 0 } }))
  const refused = await rejection(lost.acquireStrong(unique()))
  expect(refused).toMatchObject({ code: 'BACKEND_UNAVAILABLE' })
  expect(refused.message).toContain('node.invalid')
})

test('certificates are checked against the announced name', async () => {
  const { ca, cert, key } = makeCertificates()
  const tls = { ca, cert, key }
  const options = { primaries: 2, replicas: 0, tls }
  const [right, wrong] = await Promise.all([
    startRedisCluster({ ...options, hostname: 'localhost' }),
    // An address of this host that the certificate does not have.
    startRedisCluster({ ...options, hostname: '127.0.0.2', config: ['bind 127.0.0.1 127.0.0.2'] }),
  ])
  const trust = { ca: readFileSync(ca, 'utf8') }
  await useShards(right, { cluster: right.urls[0]!, replicas: 0, tls: trust })
  const locks = closing(new LockManager({ redis: { cluster: wrong.urls[0]!, replicas: 0, tls: trust } }))
  const refused = await rejection(locks.acquireStrong(unique()))
  expect(refused).toMatchObject({ code: 'BACKEND_UNAVAILABLE' })
  expect(refused.message).toContain('127.0.0.2')
  expect(refused.message).toMatch(/certificate/i)
})

test('a primary that returns on another port is found', async () => {
  const cluster = await startRedisCluster({ primaries: 2, replicas: 0, appendonly: true })
  const locks = closing(new LockManager({ redis: { cluster: cluster.urls, replicas: 0 } }))
  const resource = unique()
  const lock = await locks.acquireStrong(resource, { ttlMs: 60_000 })
  await cluster.restartElsewhere(await cluster.ownerOf(lockKey(resource)))
  await cluster.ready()
  expect(await locks.tryAcquireStrong(resource)).toBeNull()
  expect(await lock.release()).toBe(true)
  expect(await (await locks.acquireStrong(resource)).release()).toBe(true)
})
