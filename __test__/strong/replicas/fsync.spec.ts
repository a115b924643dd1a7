/** Strong locks that count only once they are on disk: WAITAOF, which Valkey and Redis 7.2 have. */
import { InsufficientReplicasError, LockManager, UnsupportedError } from 'fencelock'
import { beforeAll, describe, expect, it } from 'vitest'

import { allIsOnDisk, hasPowerLoss, losable, losePower } from '../../fixtures/disk/power-loss'
import { closing, rejection, unique } from '../../fixtures/locks'
import {
  redisProgram,
  startRedis,
  valkeyProgram,
  versionOf,
  type RedisServer,
} from '../../fixtures/servers/redis'
import { connected, leaseExists, leaseIsRemoved, lockKey } from '../support'

const aof = (appendfsync: string): string[] => ['appendonly yes', `appendfsync ${appendfsync}`]
const manager = (server: RedisServer, replicas: number): LockManager =>
  closing(new LockManager({ redis: { url: server.url, replicas } }))

describe.skipIf(valkeyProgram === undefined)('fsync', () => {
  const start = (config: string[]): Promise<RedisServer> => startRedis({ program: valkeyProgram!, config })
  let primary: RedisServer
  let replicas: RedisServer[]

  beforeAll(async () => {
    // One replica of each kind; only the first two can ever have a lease on disk.
    const kinds = [aof('always'), aof('always'), aof('everysec'), aof('no'), ['appendonly no']]
    const [first, ...others] = await Promise.all(kinds.map((config) => start(config)))
    primary = first!
    replicas = others
    await Promise.all(replicas.map((replica) => replica.replicate(primary)))
    await primary.waitForReplicas(replicas.length)
  })

  it('takes as long as the disks of the required replicas, and none counts that never writes', async () => {
    const locks = manager(primary, 4)
    await locks.acquireStrong(unique(), { fsync: true, acks: 1 })
    // Were `everysec` required, each grant would take up to a second, so one fast grant is enough.
    let fastest = Infinity
    for (let round = 0; round < 5 && fastest >= 500; round++) {
      const begin = performance.now()
      const fast = await locks.acquireStrong(unique(), { fsync: true, acks: 1 })
      fastest = Math.min(fastest, performance.now() - begin)
      expect(fast.acks).toMatchObject({ required: 1 })
    }
    expect(fastest).toBeLessThan(500)
    const slow = await locks.acquireStrong(unique(), { fsync: true, acks: 2, ackTimeoutMs: 4_000 })
    expect(slow.acks).toMatchObject({ required: 2, received: 2 })

    // Without fsync all of them acknowledge.
    expect((await locks.acquireStrong(unique(), { ackTimeoutMs: 4_000 })).acks).toMatchObject({ received: 4 })
    const resource = unique()
    const error = await rejection<InsufficientReplicasError>(
      locks.acquireStrong(resource, { fsync: true, acks: 3, ackTimeoutMs: 900 }),
    )
    expect(error).toMatchObject({ code: 'INSUFFICIENT_REPLICAS', required: 3, rolledBack: true })
    expect(error.received).toBeGreaterThanOrEqual(1)
    expect(error.received).toBeLessThanOrEqual(2)
    expect(error.message).toContain('the primary has it there')
    expect(error.message).toContain('check the replicas')
    expect(error.message).toContain(
      'appendfsync everysec it takes up to a second, so raise ackTimeoutMs (900)',
    )
    expect(error.message).toContain('appendfsync no never')
    expect(await primary.cmd('EXISTS', lockKey(resource))).toBe(0)
    const late = await rejection(locks.acquireStrong(resource, { fsync: true, acks: 3, ackTimeoutMs: 1_200 }))
    expect(late.message).not.toContain('everysec')
  })

  it('covers the extensions of the lease', async () => {
    const locks = manager(primary, 4)
    const lock = await locks.acquireStrong(unique(), {
      fsync: true,
      acks: 1,
      ackTimeoutMs: 1_800,
      ttlMs: 60_000,
      renew: false,
    })
    try {
      await replicas[0]!.cmd('CONFIG', 'SET', 'appendfsync', 'no')
      await replicas[1]!.cmd('CONFIG', 'SET', 'appendfsync', 'no')
      const error = await rejection(lock.extend())
      expect(error).toMatchObject({ code: 'INSUFFICIENT_REPLICAS', rolledBack: false })
      expect(error.message).toContain('the extension was not on disk within 1800 ms')
      expect(error.message).toContain('old deadline')
    } finally {
      await replicas[0]!.cmd('CONFIG', 'SET', 'appendfsync', 'always')
      await replicas[1]!.cmd('CONFIG', 'SET', 'appendfsync', 'everysec')
    }
    await lock.extend()
    expect(await lock.release()).toBe(true)
  })

  it('counts the disk of the primary alone if no replica is required', async () => {
    const locks = manager(primary, 0)
    const lock = await locks.acquireStrong(unique(), { fsync: true })
    expect(lock.acks).toBeNull()
    const calls = await primary.calls()
    expect(calls.waitaof).toBeGreaterThan(0)

    const never = await start([...aof('no'), 'hz 1'])
    const refuses = manager(never, 0)
    await refuses.connect()
    const took: number[] = []
    for (let round = 0; round < 5; round++) {
      const resource = unique()
      const begin = performance.now()
      const error = await rejection(refuses.acquireStrong(resource, { fsync: true, ackTimeoutMs: 100 }))
      took.push(performance.now() - begin)
      expect(error).toMatchObject({
        code: 'INSUFFICIENT_REPLICAS',
        required: 0,
        received: 0,
        rolledBack: true,
      })
      expect(error.message).toContain('the primary does not have it there')
      expect(error.message).toContain('check the primary:')
      expect(await never.cmd('EXISTS', lockKey(resource))).toBe(0)
    }
    // On its own this server would notice the end of the time up to a second late. Of five attempts, so that
    // a busy machine may delay two.
    expect(took.toSorted((a, b) => a - b)[2]).toBeLessThan(350)
  })

  it('is refused by a primary without an append-only file', async () => {
    const server = await start(['appendonly no'])
    const resource = unique()
    const error = await rejection(manager(server, 0).acquireStrong(resource, { fsync: true }))
    expect(error).toBeInstanceOf(UnsupportedError)
    expect(error.message).toContain('the primary writes no append-only file')
    expect(error.message).toContain('appendonly')
    await leaseIsRemoved(server, resource)
  })

  it.skipIf(!hasPowerLoss)('keeps a lease that was granted before a power loss', async () => {
    const survives = async (appendfsync: string, fsync: boolean): Promise<boolean> => {
      const config = aof(appendfsync)
      const server = await startRedis({ program: valkeyProgram!, config, env: losable() })
      const locks = await connected({ url: server.url, replicas: 0 })
      await allIsOnDisk(server)
      // Without this, a stall could let `everysec` flush it.
      if (!fsync) await server.cmd('CONFIG', 'SET', 'appendfsync', 'no')
      const resource = unique()
      await locks.acquireStrong(resource, { fsync, ttlMs: 60_000, renew: false })
      await losePower(server)
      await server.start()
      return (await server.cmd('EXISTS', lockKey(resource))) === 1
    }
    // With everysec, Valkey up to 9.1 and Redis 7.4 reply to WAITAOF before they flush, so it is not tested.
    const [control, proved] = await Promise.all([survives('everysec', false), survives('always', true)])
    expect(control, 'the fault takes what was not flushed').toBe(false)
    expect(proved).toBe(true)
  })

  it('keeps a lease through a crash of the primary', async () => {
    const server = await start(aof('everysec'))
    const resource = unique()
    await manager(server, 0).acquireStrong(resource, { fsync: true, ttlMs: 60_000, renew: false })
    await server.restart()
    await leaseExists(server, resource)
  })
})

const [major = 0, minor = 0] = versionOf(redisProgram) ?? []

it.skipIf(major > 7 || (major === 7 && minor >= 2))(
  'fsync is refused by a server that is too old for it, and WAIT never takes its place',
  async () => {
    const server = await startRedis({ config: aof('always') })
    for (const replicas of [0, 1]) {
      const resource = unique()
      const error = await rejection(manager(server, replicas).acquireStrong(resource, { fsync: true }))
      expect(error).toBeInstanceOf(UnsupportedError)
      expect(error.message).toContain('no WAITAOF')
      expect(error.message).toContain('Redis 7.2')
      await leaseIsRemoved(server, resource)
    }
    expect((await server.calls()).wait).toBeUndefined()
  },
)
