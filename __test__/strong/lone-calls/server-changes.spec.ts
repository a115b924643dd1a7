/** Calls that are made one after another, while their server is replaced, full, or forgets what it knew. */
import { LockManager } from 'fencelock'
import { describe, expect, it } from 'vitest'

import { closing, rejection, unique } from '../../fixtures/locks'
import { slotOf, startRedisCluster } from '../../fixtures/servers/cluster'
import { onProducts } from '../../fixtures/servers/products'
import { startPrimary, startRedis } from '../../fixtures/servers/redis'
import { startSentinel } from '../../fixtures/servers/sentinel'
import { eventually } from '../../fixtures/temp'
import { lockKey } from '../support'
import { ALL, alone, commandsWith, isInline, open, ownConnection } from './support'

/** Open connections to the server at this port. */
const openAt = (locks: LockManager, port: number): number =>
  locks.stats().connections.find((each) => each.serverPort === port)?.open ?? 0

describe('lone calls behind Sentinels', () => {
  it('end at once in a failover, and then go to the new primary', { timeout: 60_000 }, async () => {
    await onProducts(async ({ name: product, program }) => {
      const deployment = await startSentinel({ program })
      const { sentinelUrls: sentinels, name } = deployment
      const locks = await alone({ sentinels, name, replicas: 2, commandTimeoutMs: 20_000 })
      const old = await deployment.primary()
      const timeline = await deployment.watch()
      const held = await locks.acquireStrong(unique(), { ttlMs: 60_000, ackTimeoutMs: 2_000 })
      if (product === 'Valkey') {
        await deployment.failOver()
        await timeline.until('told')
      } else {
        old.pause()
        const acquiring = rejection(locks.acquireStrong(unique(), { ttlMs: 60_000, ackTimeoutMs: 15_000 }))
        const told = await timeline.until('told')
        expect(await acquiring).toMatchObject({ code: 'OUTCOME_UNKNOWN' })
        // Long before its time limit.
        expect(performance.now() - told).toBeLessThan(8_000)
      }
      const next = await eventually(
        'locks are granted again',
        () => locks.acquireStrong(unique(), { acks: 1, ackTimeoutMs: 2_000 }).catch(() => undefined),
        20_000,
      )
      expect(await next.release()).toBe(true)
      expect(await held.release()).toBe(true)
      const primary = await deployment.primary()
      expect(primary).not.toBe(old)
      await eventually('lone calls have a connection to the new primary', async () => {
        // The old primary, or a Sentinel, may break connections meanwhile.
        const lock = await locks.acquireStrong(unique(), { acks: 1, ackTimeoutMs: 2_000 }).catch(() => null)
        await lock?.release().catch(() => undefined)
        return openAt(locks, primary.port) >= ALL
      })
      // The event loop reads it a little after it was made.
      const own = () => ownConnection(primary, locks, { acks: 1 }).catch(() => undefined)
      if (isInline) await eventually('a call and its release come over it', own)
      await eventually('none to the old one', () => openAt(locks, old.port) === 0)
      timeline.stop()
    })
  })
})

describe('lone calls whose server accepts no more clients', () => {
  it('use the connections that there are, and have their own once it does', { timeout: 60_000 }, async () => {
    const server = await startRedis()
    const locks = closing(new LockManager({ redis: { url: server.url, replicas: 0 } }))
    const refused = async (): Promise<number> => Number((await server.info('stats'))['rejected_connections'])
    await locks.connect()
    const clients = Number((await server.info('clients'))['connected_clients'])
    await server.cmd('CONFIG', 'SET', 'maxclients', clients)
    const call = async (): Promise<void> => {
      expect(await (await locks.acquireStrong(unique())).release()).toBe(true)
    }
    for (const end = performance.now() + 3_000; performance.now() < end;) await call()
    expect(open(locks)).toBe(1)
    expect(await refused()).toBe(isInline ? 1 : 0)
    await server.cmd('CONFIG', 'SET', 'maxclients', clients + 10)
    await eventually(
      'they have their own',
      async () => {
        await call()
        return open(locks) === ALL - 1
      },
      20_000,
    )
  })
})

describe('lone calls that must be sent again', () => {
  it('take effect once, and cost no connection, when the server has forgotten the script', async () => {
    const redis = await startPrimary({ replicas: 1, replicaProxies: true })
    const locks = await alone({ url: redis.url, replicas: 1 })
    const connections = async (): Promise<number> =>
      Number((await redis.primary.info('stats'))['total_connections_received'])
    const before = await connections()
    for (let round = 0; round < 5; round++) {
      const resource = unique()
      const commands = await commandsWith(resource, redis.primary, async () => {
        await redis.primary.cmd('SCRIPT', 'FLUSH')
        const lock = await locks.acquireStrong(resource, { ackTimeoutMs: 2_000 })
        await redis.primary.cmd('SCRIPT', 'FLUSH')
        expect(await lock.release()).toBe(true)
      })
      const written = commands.filter(({ command }) => /^"(set|del)" "[^"]*:lock"/i.test(command))
      expect(written.map(({ command }) => command.slice(1, 4).toUpperCase())).toEqual(['SET', 'DEL'])
    }
    // Those of the monitors. A call that is not alone makes another one, because its WAIT is in the way.
    if (isInline) expect((await connections()) - before).toBe(5)
    redis.links[0]!.hold('toServer')
    // Something that it does not acknowledge.
    expect(await (await locks.acquireStrong(unique(), { acks: 0 })).release()).toBe(true)
    await redis.primary.cmd('SCRIPT', 'FLUSH')
    const began = performance.now()
    const error = await rejection(locks.acquireStrong(unique(), { ackTimeoutMs: 1_000 }))
    expect(error).toMatchObject({ code: 'INSUFFICIENT_REPLICAS', rolledBack: true })
    // The server tells of it when the first WAIT has ended, and the second one proves nothing.
    expect(performance.now() - began).toBeLessThan(4_500)
  })

  it('follow a slot that moves, and none is lost or made twice', { timeout: 60_000 }, async () => {
    await onProducts(async (product) => {
      const cluster = await startRedisCluster({ program: product.program, replicas: 0 })
      const locks = closing(new LockManager({ redis: { cluster: cluster.urls, replicas: 0 } }))
      const resource = unique()
      const slot = slotOf(lockKey(resource))
      let last = 0n
      const call = async (): Promise<void> => {
        const lock = await locks.acquireStrong(resource, { ttlMs: 60_000 })
        expect(lock.token).toBeGreaterThan(last)
        last = lock.token
        expect(await lock.release()).toBe(true)
      }
      for (let round = 0; round < 4; round++) {
        for (let count = 0; count < 50; count++) await call()
        const source = await cluster.ownerOf(slot)
        const target = (await cluster.primaries()).find((node) => node !== source)!
        const moving = { isOver: false }
        const move =
          product.name === 'Valkey'
            ? cluster.moveSlotsAtomically([slot, slot], target)
            : cluster.moveSlot(slot, target)
        const moved = move.finally(() => (moving.isOver = true))
        while (!moving.isOver) await call()
        await moved
      }
      const owner = await cluster.ownerOf(slot)
      await eventually('lone calls have a connection to its owner', async () => {
        expect(await (await locks.acquireStrong(resource)).release()).toBe(true)
        return openAt(locks, owner.port) === ALL - 1
      })
    })
  })
})
