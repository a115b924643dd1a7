/** What `describe()` reports about real deployments: each fact is first created, then checked. */
import { LockManager, type Guarantee, type Survives } from 'fencelock'
import { realpathSync } from 'node:fs'
import { describe, expect, it } from 'vitest'

import { closing, rejection } from '../fixtures/locks'
import { startCode } from '../fixtures/processes/processes'
import { startPrimary, startRedis, valkeyProgram, type RedisServerOptions } from '../fixtures/servers/redis'
import { tempDir } from '../fixtures/temp'
import { hasWallClock, wallClock } from '../fixtures/time/wall-clock'

const verdicts = ({ survives }: Guarantee) =>
  Object.fromEntries(Object.entries(survives).map(([event, { verdict }]) => [event, verdict]))

/** Every verdict has its reason, written as a part of a sentence. */
function expectReasons(survives: Survives): void {
  for (const { reason } of Object.values(survives)) expect(reason).toMatch(/^[a-z].{20,}[^.]$/)
}

async function strong(options: RedisServerOptions & { replicas?: number } = {}, acks?: number) {
  const { replicas = 0 } = options
  const primary =
    replicas > 0 ? (await startPrimary({ ...options, replicas })).primary : await startRedis(options)
  const locks = closing(
    new LockManager({
      redis: { url: primary.url, replicas },
      ...(acks !== undefined && { defaults: { acks } }),
    }),
  )
  return { locks, primary, guarantee: await locks.describe() }
}

describe('strong locks', () => {
  it('on a primary that flushes every write need a guard for the other failures only', async () => {
    const { guarantee, primary } = await strong({
      replicas: 1,
      config: ['appendonly yes', 'appendfsync always'],
    })
    expect(guarantee).toMatchObject({
      strategy: 'strong',
      acks: 1,
      replicas: { declared: 1, connected: 1 },
      file: null,
      warnings: [],
      server: {
        product: expect.stringMatching(/^(Redis|Valkey)$/),
        version: (await primary.info('server')).redis_version,
        role: 'primary',
        persistence: { aof: true, fsync: 'always', rdb: false },
        evictionPolicy: 'noeviction',
        maxMemoryBytes: 0,
      },
    })
    expect(verdicts(guarantee)).toEqual({
      processCrash: 'yes',
      pause: 'with a guard',
      primaryCrash: 'yes',
      failover: 'with a guard',
      partition: 'with a guard',
      clockStep: 'with a guard',
      powerLoss: 'yes',
    })
    expectReasons(guarantee.survives)
    const { clock } = guarantee.server!
    expect(Math.abs(clock!.skewMs)).toBeLessThanOrEqual(clock!.errorMs + 100)
    expect(clock!.errorMs).toBeGreaterThanOrEqual(0)
  })

  it.each([
    [
      'an append-only file flushed every second',
      ['appendonly yes', 'appendfsync everysec'],
      { aof: true, fsync: 'everysec', rdb: false },
      /last second/,
    ],
    ['snapshots', ['save 3600 1'], { aof: false, rdb: true }, /last snapshot/],
    ['no persistence', [], { aof: false, rdb: false }, /empty/],
  ])('with %s lose leases in a crash, and report how', async (_, config, persistence, reason) => {
    const { guarantee } = await strong({ config })
    expect(guarantee.server!.persistence).toMatchObject(persistence)
    for (const event of ['primaryCrash', 'powerLoss'] as const) {
      expect(guarantee.survives[event]).toEqual({
        verdict: 'with a guard',
        reason: expect.stringMatching(reason),
      })
    }
    const off = guarantee.warnings.filter((warning) => warning.includes('persistence is off'))
    expect(off.length).toBe(config.length === 0 ? 1 : 0)
  })

  it('differ by the acknowledgements that they request', async () => {
    const words = async (acks: number) => {
      const { guarantee } = await strong({ replicas: 2, config: ['appendonly yes'] }, acks)
      return { failover: guarantee.survives.failover.reason, warnings: guarantee.warnings }
    }
    expect(await words(2)).toEqual({ failover: expect.stringContaining('all 2 declared'), warnings: [] })
    expect(await words(1)).toEqual({ failover: expect.stringContaining('1 of 2'), warnings: [] })
    expect(await words(0)).toEqual({
      failover: expect.stringContaining('acks is 0'),
      warnings: [expect.stringContaining('without proof')],
    })
  })

  it('on a single server survive a partition', async () => {
    const { guarantee } = await strong({ config: ['appendonly yes'] })
    expect(guarantee.survives.partition.verdict).toBe('yes')
    expect(guarantee.warnings).toEqual([expect.stringContaining('no replicas are declared')])
  })

  it('warn of a server that evicts', async () => {
    const { locks, primary, guarantee } = await strong({
      config: ['appendonly yes', 'maxmemory-policy volatile-lru'],
    })
    expect(guarantee.server).toMatchObject({ evictionPolicy: 'volatile-lru', maxMemoryBytes: 0 })
    expect(guarantee.warnings.join()).not.toContain('evict')
    await primary.cmd('CONFIG', 'SET', 'maxmemory', '100mb')
    const limited = await locks.describe()
    expect(limited.server).toMatchObject({ maxMemoryBytes: 100 * 1024 * 1024 })
    expect(limited.warnings.join()).toMatch(/maxmemory-policy is volatile-lru.*use noeviction/)
    await primary.cmd('CONFIG', 'SET', 'maxmemory-policy', 'noeviction')
    expect((await locks.describe()).warnings.join()).not.toContain('evict')
  })

  it('refuse a replica', async () => {
    const { replicas } = await startPrimary({ replicas: 1 })
    const locks = closing(new LockManager({ redis: { url: replicas[0]!.url, replicas: 1 } }))
    expect(await rejection(locks.describe())).toMatchObject({
      code: 'BACKEND_UNAVAILABLE',
      message: expect.stringContaining('this server is a replica'),
    })
  })

  it.runIf(hasWallClock)('warn of a clock that differs by more than a second, either way', async () => {
    const clock = wallClock()
    const { locks } = await strong({ env: clock.env, config: ['appendonly yes'] })
    const skew = async (ms: number) => {
      clock.set(ms)
      const { server, warnings } = await locks.describe()
      return {
        clock: server!.clock!,
        warning: warnings.find((warning) => warning.includes('clock of the server')),
      }
    }
    for (const [ms, words] of [
      [0, undefined],
      [700, undefined],
      [3_200, /[2-4]\.\d s ahead of this host/],
      [-86_400_000, /86(399|40\d)\.\d s behind this host/],
    ] as const) {
      const seen = await skew(ms)
      expect(Math.abs(seen.clock.skewMs - ms)).toBeLessThan(seen.clock.errorMs + 100)
      if (words) expect(seen.warning).toMatch(words)
      else expect(seen.warning).toBeUndefined()
    }
  })

  it('report nothing about what a provider hides, and do not fail', async () => {
    const redis = await startRedis({ users: ['app on >p ~* &* +@all -config -time'] })
    const locks = closing(
      new LockManager({ redis: { url: redis.url, username: 'app', password: 'p', replicas: 0 } }),
    )
    const { server, survives, warnings } = await locks.describe()
    expect(server).toMatchObject({ persistence: { aof: false, fsync: null, rdb: null }, clock: null })
    expect(survives.primaryCrash).toMatchObject({
      verdict: 'with a guard',
      reason: expect.stringMatching(/cannot be seen/),
    })
    expect(warnings.join()).not.toMatch(/persistence|clock/)
  })

  it('report what is declared and what is connected, and warn of a difference', async () => {
    const redis = await startPrimary()
    const manager = (options = {}): LockManager => closing(new LockManager({ redis: redis.url, ...options }))
    expect(await manager().describe()).toMatchObject({
      strategy: 'strong',
      acks: 2,
      replicas: { declared: 2, connected: 2 },
      // The servers of the tests write nothing to disk.
      warnings: [expect.stringContaining('persistence is off')],
    })
    const fewer = await manager({ redis: { url: redis.url, replicas: 1 } }).describe()
    expect(fewer.replicas).toEqual({ declared: 1, connected: 2 })
    expect(fewer.warnings.join()).toMatch(/2 replicas are connected, 1 declared/)
    const more = await manager({ redis: { url: redis.url, replicas: 4 } }).describe()
    expect(more.warnings).not.toEqual([])
  })

  it('need the option redis', async () => {
    const locks = closing(new LockManager())
    const calls = [
      locks.acquireStrong('x'),
      locks.describe({ strategy: 'strong' }),
      locks.inspect('x', { strategy: 'strong' }),
    ]
    for (const call of calls)
      expect(await rejection(call)).toMatchObject({ name: 'TypeError', code: 'INVALID_OPTION' })
  })

  it.runIf(valkeyProgram !== undefined).each([
    ['always', 'yes', undefined],
    ['everysec', 'with a guard', /up to a second too early that a lease is on disk/],
    ['no', 'with a guard', /appendfsync is no: it never says that a lease is on disk/],
  ] as const)('with fsync on a server that flushes %s', async (appendfsync, powerLoss, warning) => {
    const config = ['appendonly yes', `appendfsync ${appendfsync}`]
    const server = await startRedis({ program: valkeyProgram!, config })
    const managerOf = (fsync: boolean): LockManager =>
      closing(new LockManager({ redis: { url: server.url, replicas: 0 }, defaults: { fsync } }))
    const aboutFsync = ({ warnings }: Guarantee): string[] =>
      warnings.filter((text) => text.includes('defaults.fsync'))

    const guarantee = await managerOf(true).describe()
    expect(aboutFsync(guarantee)).toEqual(warning ? [expect.stringMatching(warning)] : [])
    expect(guarantee.survives.powerLoss.verdict).toBe(powerLoss)
    expect(guarantee.survives.primaryCrash.verdict).toBe(appendfsync === 'no' ? 'with a guard' : 'yes')
    expectReasons(guarantee.survives)
    expect(aboutFsync(await managerOf(false).describe())).toEqual([])
  })

  it.runIf(valkeyProgram !== undefined)('recognize Valkey', async () => {
    const { guarantee } = await strong({ program: valkeyProgram! })
    expect(guarantee.server).toMatchObject({
      product: 'Valkey',
      version: expect.stringMatching(/^\d+\.\d+\.\d+/),
    })
    expect(guarantee.server!.version).not.toMatch(/^7\.2\.4/)
  })
})

describe('local locks', () => {
  const local = (durability: 'normal' | 'full' = 'normal') => {
    const path = `${tempDir()}/locks.sqlite`
    return { path, locks: closing(new LockManager({ local: { path, durability } })) }
  }
  /** Without the warning of a container's file system, where the tests may run. */
  const withoutContainers = (warnings: readonly string[]) =>
    warnings.filter((warning) => !warning.includes('overlay'))

  it.each(['normal', 'full'] as const)(
    'describe the file before and after it exists (%s)',
    async (durability) => {
      const { path, locks } = local(durability)
      const before = await locks.describe()
      expect(before).toMatchObject({
        strategy: 'local',
        acks: null,
        replicas: null,
        server: null,
        file: { path, exists: false, network: false, durability, journal: 'wal' },
      })
      expect(before.summary).toContain('does not exist yet')
      await (await locks.acquire('r')).release()
      const after = await locks.describe()
      expect(after.file).toEqual({ ...before.file, exists: true })
      expect(after.survives).toEqual(before.survives)
      expect(withoutContainers(after.warnings)).toEqual([])
      expectReasons(after.survives)
      expect(after.survives.powerLoss.reason).toContain(
        durability === 'full' ? 'every commit' : 'newest commits',
      )
    },
  )

  it('need a guard for a pause only', async () => {
    expect(verdicts(await local().locks.describe())).toEqual({
      processCrash: 'yes',
      pause: 'with a guard',
      primaryCrash: 'not applicable',
      failover: 'not applicable',
      partition: 'not applicable',
      clockStep: process.platform === 'win32' ? 'with a guard' : 'yes',
      powerLoss: 'yes',
    })
  })

  it('tell the absolute path of a relative one, and warn of it', async () => {
    const dir = tempDir()
    const script = startCode(`
      const { LockManager } = await import('fencelock')
      process.chdir(${JSON.stringify(dir)})
      for (const local of ['sub/../l.sqlite', ${JSON.stringify(`${dir}/l.sqlite`)}]) {
        const locks = new LockManager({ local })
        const { file, warnings } = await locks.describe()
        say({ path: file.path, warned: warnings.some((warning) => warning.includes('Give an absolute path')) })
        await locks.close()
      }
    `)
    script.hangUp()
    const path = `${realpathSync(dir)}/l.sqlite`
    expect(await script.next()).toEqual({ path, warned: true })
    expect(await script.next()).toMatchObject({ warned: false })
  })

  it.runIf(process.platform === 'linux')('name the file system', async () => {
    const script = startCode(`
      const { LockManager } = await import('fencelock')
      const locks = new LockManager({ local: '/dev/shm/fencelock-' + process.pid + '.sqlite' })
      say((await locks.describe()).file)
      await locks.close()
    `)
    script.hangUp()
    expect(await script.next()).toMatchObject({ filesystem: 'tmpfs', network: false, exists: false })
  })
})

it('is plain data', async () => {
  const locks = closing(new LockManager({ local: `${tempDir()}/locks.sqlite` }))
  const guarantee = await locks.describe()
  expect(JSON.parse(JSON.stringify(guarantee))).toEqual(guarantee)
})
