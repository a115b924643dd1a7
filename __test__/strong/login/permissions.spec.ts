/** Users of an ACL with the least rights, on every product and deployment; and what each rule is for. */
import { BackendUnavailableError, LockManager, type RedisOptions } from 'fencelock'
import { redisGuard, UnsupportedError } from 'fencelock/guard'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'

import { ioredis, load } from '../../fixtures/examples/redis-clients'
import { closing, rejection, unique } from '../../fixtures/locks'
import { slotOf, startRedisCluster } from '../../fixtures/servers/cluster'
import { onProducts } from '../../fixtures/servers/products'
import { startPrimary, startRedis } from '../../fixtures/servers/redis'
import { startSentinel } from '../../fixtures/servers/sentinel'
import { eventually, root, sleep } from '../../fixtures/temp'
import { leaseIsRemoved, lockKey } from '../support'
import * as rules from './permission-rules'

const { newUser, rulesFor, without } = rules

/** Its time limits are for a busy machine. */
function managerOf(redis: RedisOptions, defaults: { fsync?: boolean } = {}): LockManager {
  const patient = { connectTimeoutMs: 10_000, commandTimeoutMs: 10_000 }
  const options = { redis: { ...patient, ...redis }, defaults: { ackTimeoutMs: 5_000, ...defaults } }
  return closing(new LockManager(options))
}

/** Every kind of call. */
async function useAll(locks: LockManager): Promise<void> {
  const resource = unique()
  const held = await locks.acquireStrong(resource, { ttlMs: 20_000 })
  expect(await locks.tryAcquireStrong(resource)).toBeNull()
  await held.extend(40_000)
  expect(held.remainingMs).toBeGreaterThan(20_000)
  const { owner, token } = held
  expect(await locks.inspect(resource, { strategy: 'strong' })).toMatchObject({ owner, token })
  const calls = [true, false].map((fair) => locks.acquireStrong(resource, { waitMs: 30_000, fair }))
  await eventually('they wait', () => locks.stats().waiting === 2)
  expect(await held.release()).toBe(true)
  const next = await Promise.race(calls)
  expect(await next.release()).toBe(true)
  const last = (await Promise.all(calls)).find((lock) => lock !== next)
  expect(await locks.forceRelease(resource, { strategy: 'strong' })).toBe(true)
  expect(await last?.release()).toBe(false)
  const several = [unique('{tag}'), unique('{tag}')]
  await locks.withLock(several, { ttlMs: 2_600 }, async ({ signal }) => {
    await sleep(2_800)
    expect(signal.aborted).toBe(false)
  })
}

/** What a call without a permission rejects with. */
async function lacks(call: Promise<unknown>, rule: string): Promise<void> {
  const error = await rejection<BackendUnavailableError>(call)
  expect(error).toBeInstanceOf(BackendUnavailableError)
  expect(error.message).toContain(rule)
}

/** The same for one that says exactly what is missing, and what else is needed. */
async function lacksOnly(call: Promise<unknown>, rule: string, all: string[]): Promise<void> {
  await lacks(call, `allow the user ${rule}; all that it needs: `)
  const { message } = await rejection(call)
  expect(message.split(/[ ,]/)).toEqual(expect.arrayContaining(all))
}

const strong = { strategy: 'strong' } as const

describe('a primary with a replica', () => {
  const { needed, optional } = rulesFor('replicas')

  test('needs these rules, and no others', { timeout: 120_000 }, async () => {
    await onProducts(async ({ program }) => {
      const { primary, replicas, url } = await startPrimary({ program, replicas: 1 })
      const as = async (list: string[], options: Partial<RedisOptions> = {}) => {
        const user = await newUser([primary, ...replicas], list)
        return managerOf({ url, replicas: 1, ...user, ...options } as RedisOptions)
      }

      const locks = await as([...needed, ...optional])
      await useAll(locks)
      const guarantee = await locks.describe(strong)
      expect(guarantee.replicas).toEqual({ declared: 1, connected: 1 })
      expect(guarantee.server?.persistence).toMatchObject({ aof: false, rdb: false })
      expect(guarantee.warnings.join()).not.toContain('allow')
      await useAll(await as(needed))

      for (const rule of rules.required) {
        const all = [...needed, ...without(optional, ...rules.optional.slice(1))]
        await lacksOnly((await as(without(needed, rule))).acquireStrong(unique()), rule, all)
      }
      for (const rule of rules.forWaiting) {
        const deaf = await as(without(needed, rule))
        const resource = unique()
        const held = await deaf.acquireStrong(resource)
        expect(await deaf.tryAcquireStrong(resource)).toBeNull()
        await lacks(deaf.acquireStrong(resource, { waitMs: 20_000 }), rule)
        expect(await held.release()).toBe(true)
      }
      const unproved = await as(without(needed, '+wait'))
      await lacks(unproved.acquireStrong(unique()), '+wait')
      await (await unproved.acquireStrong(unique(), { acks: 0 })).release()
      await lacks((await as(needed, { db: 1 })).acquireStrong(unique()), '+select')
      await useAll(await as([...needed, '+select'], { db: 1 }))
    })
  })

  test('tells what is missing also when it is taken away later', { timeout: 60_000 }, async () => {
    await onProducts(async ({ program }) => {
      const primary = await startRedis({ program })
      const user = await newUser([primary], [...needed, ...optional])
      const locks = managerOf({ url: primary.url, replicas: 0, ...user })
      const change = (...list: string[]) => primary.cmd('ACL', 'SETUSER', user.username, ...list)
      const resource = unique()
      const held = await locks.acquireStrong(resource, { ttlMs: 60_000 })
      await change('-pexpire')
      await lacks(held.extend(), '+pexpire')
      await change('+pexpire', '-get')
      await lacks(held.extend(), '+get')
      await lacks(locks.inspect(resource, strong), '+get')
      await change('+get', '-mget')
      await lacks(held.release(), '+mget')
      await change('+mget')
      await leaseIsRemoved(primary, resource)
      await change('-evalsha')
      await lacks(locks.acquireStrong(unique()), 'allow the user +evalsha;')
      await change('+evalsha', '-exists')
      await lacks(locks.acquireStrong(unique()), '+exists')
      // Now it has looked.
      await lacks(locks.acquireStrong(unique()), 'allow the user +exists;')
      await change('+exists')
      await (await locks.acquireStrong(unique())).release()
    })
  })

  test('works without each of the optional rules, with less', { timeout: 120_000 }, async () => {
    await onProducts(async ({ program }) => {
      const { primary, replicas, url } = await startPrimary({ program, replicas: 1 })
      const outcomes = optional.map(async (rule) => {
        const user = await newUser([primary, ...replicas], without([...needed, ...optional], rule))
        const locks = managerOf({ url, replicas: 1, ...user })
        await useAll(locks)
        return [rule, { user, guarantee: await locks.describe(strong) }] as const
      })
      const found = Object.fromEntries(await Promise.all(outcomes))
      const warnings = (rule: string) => found[rule]?.guarantee.warnings.join('\n') ?? ''
      expect(warnings('+publish')).toContain('allow +publish and the channels &fencelock:wake:*')
      expect(warnings('+info')).toContain('allow +info')
      expect(found['+info']?.guarantee.replicas).toEqual({ declared: 1, connected: null })
      expect(found['+info']?.guarantee.server).toMatchObject({ version: null, evictionPolicy: null })
      expect(found['+config|get']?.guarantee.server?.persistence).toMatchObject({ fsync: null, rdb: null })
      for (const rule of ['+script|load', '+unlink', '+client|setname', '+scan']) {
        expect(warnings(rule)).not.toContain('allow')
      }
      const clients = String(await primary.cmd('CLIENT', 'LIST')).split('\n')
      const named = (rule: string) =>
        clients.filter(
          (line) => line.includes(` user=${found[rule]?.user.username} `) && / name=\w/.test(line),
        )
      expect(named('+client|setname')).toEqual([])
      expect(named('+publish').length).toBeGreaterThan(0)
    })
  })

  test('needs +waitaof for fsync', async () => {
    await onProducts(async ({ name, program }) => {
      if (name !== 'Valkey') return
      const server = await startRedis({ program, config: ['appendonly yes', 'appendfsync always'] })
      const as = async (list: string[]) =>
        managerOf({ url: server.url, replicas: 0, ...(await newUser([server], list)) }, { fsync: true })
      await lacks((await as(needed)).acquireStrong(unique()), '+waitaof')
      await useAll(await as([...without(needed, '+wait'), '+waitaof']))
      await useAll(await as([...without(needed, '+wait'), '+waitaof', '+client|setinfo']))
    })
  })
})

test('a guard needs these rules, and those of the data', { timeout: 60_000 }, async () => {
  await onProducts(async ({ program }) => {
    const server = await startRedis({ program })
    const write = async (list: string[]) => {
      const user = await newUser([server], [...list, '~stock', '+hset'])
      const Redis = load('ioredis')
      const options = { port: server.port, ...user, enableReadyCheck: false, retryStrategy: () => null }
      const guard = redisGuard({ client: ioredis(new Redis(options)) })
      const resource = unique()
      await guard.advance({ resource, token: 1n })
      await guard.hset({ resource, token: 2n }, 'stock', { left: 3 })
    }
    await write(rules.ofGuards)
    expect(await server.cmd('HGET', 'stock', 'left')).toBe('3')
    for (const rule of without(rules.ofGuards, '+eval')) {
      await expect(write(without(rules.ofGuards, rule))).rejects.toThrow(/permission|can't|ACL/)
    }
    // Only a server that does not know the script yet needs it.
    await server.cmd('SCRIPT', 'FLUSH')
    await expect(write(without(rules.ofGuards, '+eval'))).rejects.toBeInstanceOf(UnsupportedError)
  })
})

test('Sentinels and their servers have users of their own', { timeout: 240_000 }, async () => {
  const { needed } = rulesFor('replicas')
  const ofSentinels = [...rules.requiredOfSentinels, ...rules.optionalOfSentinels]
  await onProducts(async ({ program }) => {
    const deployment = await startSentinel({
      program,
      replicas: 1,
      data: { users: [] },
      watchers: { users: [] },
    })
    const user = await newUser(deployment.servers, needed)
    const as = async (list: string[]) => {
      const watcher = await newUser(deployment.sentinels, list)
      return managerOf({
        sentinels: deployment.sentinelUrls,
        name: deployment.name,
        replicas: 1,
        ...user,
        sentinelUsername: watcher.username,
        sentinelPassword: watcher.password,
      })
    }
    await useAll(await as(ofSentinels))
    const least = await as(rules.requiredOfSentinels)
    await useAll(least)
    for (const rule of rules.requiredOfSentinels) {
      const call = (await as(without(ofSentinels, rule))).acquireStrong(unique())
      await lacks(call, `allow the user ${rule}; all that it needs: &+switch-master`)
      expect((await rejection(call)).message).toContain('Sentinel')
    }
    for (const rule of rules.optionalOfSentinels) {
      await (await (await as(without(ofSentinels, rule))).acquireStrong(unique())).release()
    }
    // Also with the fewest rules a failover is followed.
    await (await deployment.primary()).kill()
    // A call that was under way has an unknown outcome.
    const again = () => least.acquireStrong(unique(), { acks: 0 }).catch(() => undefined)
    await (await eventually('locks are granted again', again, 60_000)).release()
  })
})

test('a cluster', { timeout: 240_000 }, async () => {
  const { needed, optional } = rulesFor('cluster')
  await onProducts(async ({ name, program }) => {
    const cluster = await startRedisCluster({ program, users: [] })
    const as = async (list: string[]) =>
      managerOf({ cluster: cluster.urls, replicas: 1, ...(await newUser(cluster.nodes, list)) })
    const locks = await as([...needed, ...optional])
    await useAll(locks)
    expect((await locks.describe(strong)).warnings.join()).not.toContain('allow')
    await useAll(await as(needed))
    if (name !== 'Redis 6.2') await useAll(await as([...needed, ...optional, ...rules.shardedChannels]))
    await useAll(await as(without([...needed, ...optional], '+cluster|info')))
    await lacks((await as(without(needed, '+cluster|slots'))).acquireStrong(unique()), '+cluster|slots')
    for (const rule of rules.required) {
      await lacks((await as(without(needed, rule))).acquireStrong(unique()), `allow the user ${rule}; all`)
    }

    const [may, mayNot] = [await as(needed), await as(without(needed, '+asking'))]
    for (const [manager, isAllowed] of [
      [may, true],
      [mayNot, false],
    ] as const) {
      const resource = unique()
      const lock = await manager.acquireStrong(resource, { ttlMs: 120_000 })
      const source = await cluster.ownerOf(lockKey(resource))
      const target = (await cluster.primaries()).find((node) => node !== source)!
      const migration = await cluster.migrate(slotOf(lockKey(resource)), target)
      await migration.begin()
      await migration.moveKeys()
      if (isAllowed) await lock.extend()
      else await lacks(lock.extend(), 'allow the user +asking; all that it needs: ')
      await migration.finish()
      await lock.extend()
      expect(await lock.release()).toBe(true)
    }
  })
})

describe('docs/guide/permissions.md', () => {
  const page = readFileSync(join(root, 'docs/guide/permissions.md'), 'utf8')
  const section = (title: string) => page.split(/^## /m).find((part) => part.startsWith(`${title}\n`)) ?? ''
  const isRule = (word: string) => /^[~&+]/.test(word)
  /** The rules of the commands of a section: those that are needed, and those that are not. */
  const commands = (title: string) =>
    [...section(title).matchAll(/^ACL SETUSER (.*)$/gm)].map(([, line = '']) =>
      line.split(' ').filter(isRule),
    )

  test.each([
    ['One primary', 'standalone'],
    ['A primary with replicas', 'replicas'],
  ] as const)('%s', (title, deployment) => {
    const { needed, optional } = rulesFor(deployment)
    expect(commands(title)).toEqual([needed, optional])
  })

  test('Cluster', () => {
    const { needed, optional } = rulesFor('cluster')
    expect(commands('Cluster')).toEqual([needed, optional, rules.shardedChannels])
  })

  test('Sentinel', () => {
    const { needed, optional } = rulesFor('replicas')
    const { requiredOfSentinels, optionalOfSentinels } = rules
    expect(commands('Sentinel')).toEqual([needed, optional, requiredOfSentinels, optionalOfSentinels])
  })

  test('the tables explain each rule once for each kind of user', () => {
    const rows = (title: string) =>
      [...section(title).matchAll(/^\| (`.*?`) *(?<!\\)\|/gm)].flatMap(([, cell = '']) =>
        cell.split(', ').map((rule) => rule.replaceAll(/[`\\]/g, '')),
      )
    const { needed, optional } = rulesFor('cluster')
    const data = [...needed, ...optional, ...rules.shardedChannels, ...rules.forOptions]
    expect(rows('What each rule is for').toSorted()).toEqual(data.toSorted())
    const sentinel = [...rules.requiredOfSentinels, ...rules.optionalOfSentinels]
    expect(rows('What each rule of a Sentinel is for').toSorted()).toEqual(sentinel.toSorted())
    expect(rows('Guards').toSorted()).toEqual(rules.ofGuards.toSorted())
  })
})
