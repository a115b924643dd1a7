/** Owners of equal tokens: their hash, in Redis, over HTTP, and that no update is lost with them. */
import { LockManager, StaleTokenError } from 'fencelock'
import { fencedFetch, fencingHeaders, httpFence, redisGuard } from 'fencelock/guard'
import { join } from 'node:path'
import { beforeAll, describe, expect, it } from 'vitest'

import { openClient, type Client } from '../../scripts/sql-clients/index.mjs'
import { onCleanup } from '../fixtures/cleanup'
import { clients } from '../fixtures/examples/redis-clients'
import { closing, rejection, unique } from '../fixtures/locks'
import { onBun } from '../fixtures/processes/runtimes'
import { startCluster, startRedis, type RedisServer } from '../fixtures/servers/redis'
import { tempDir } from '../fixtures/temp'
import { listen } from './http-helpers'

const OWNER = '00000000000000000000000000000001'
/** What its SHA-256 begins with, by `printf %s 00000000000000000000000000000001 | sha256sum`. */
const HASH = 'e0cca2965509df67'

async function refusal(attempt: Promise<unknown>, token: bigint): Promise<void> {
  const error = await rejection<StaleTokenError>(attempt)
  expect(error).toBeInstanceOf(StaleTokenError)
  expect(error).toMatchObject({ code: 'STALE_TOKEN', token, current: token })
  expect(error.message).toContain('from another owner of the lock')
}

describe('the owner of a lock', () => {
  it('is its property, or the first 64 bits of its SHA-256', async () => {
    const headers = { 'Fencing-Token': '5', 'Fencing-Resource': 'r', 'Fencing-Owner': HASH }
    expect(fencingHeaders({ resource: 'r', token: 5n, owner: OWNER })).toEqual(headers)
    expect(fencingHeaders({ resource: 'r', token: 5n, ownerHash: HASH })).toEqual(headers)
    expect(fencingHeaders({ resource: 'r', token: 5n, owner: 'other', ownerHash: HASH })).toEqual(headers)
    const locks = closing(new LockManager({ local: join(tempDir(), 'locks.sqlite') }))
    const lock = await locks.acquireLocal('r')
    const { owner, token } = lock
    expect(fencingHeaders(lock)).toEqual(fencingHeaders({ resource: 'r', token, owner }))
    // A message of it still has the owner.
    const message = JSON.parse(JSON.stringify(lock))
    expect(fencingHeaders({ ...message, token: BigInt(message.token) })).toEqual(fencingHeaders(lock))
  })

  it.each([
    [{ owner: '' }, RangeError],
    [{ owner: 5n }, TypeError],
    [{ owner: {} }, TypeError],
    [{ owner: '\uD800' }, TypeError],
    [{ ownerHash: HASH.slice(1) }, RangeError],
    [{ ownerHash: HASH.toUpperCase() }, RangeError],
    [{ ownerHash: `${HASH}0` }, RangeError],
    [{ ownerHash: 5n }, TypeError],
  ] as [object, typeof Error][])('is rejected if it is none: %o', (wrong, type) => {
    const write = () => fencingHeaders({ resource: 'r', token: 5n, ...wrong })
    expect(write).toThrow(type)
    expect(write).toThrow(expect.objectContaining({ code: 'INVALID_OPTION' }) as Error)
  })
})

describe('in Redis', () => {
  let redis: RedisServer
  beforeAll(async () => {
    redis = await startRedis()
  })
  const get = (key: string) => redis.cmd('GET', key)
  const ownerKey = (id: string) => `fencelock:guard{${id}}owner:${id}`

  it.each(Object.keys(clients))(
    'an equal token of another owner is refused; the same owner passes, and so does none (%s)',
    async (name) => {
      const guard = redisGuard({ client: await clients[name]!(redis.port) })
      const id = unique()
      const at = (owner?: string, token = 5n) => ({ resource: id, token, owner })
      await guard.set(at(OWNER), id, 1)
      expect([await get(guard.fenceKey(id)), await get(ownerKey(id))]).toEqual(['5', `5:${HASH}`])
      await guard.set(at(OWNER), id, 2)
      await refusal(guard.set(at('b'), id, 3), 5n)
      await refusal(guard.run(at('b'), "return redis.call('SET', KEYS[1], 3)", { keys: [id] }), 5n)
      expect(await get(id)).toBe('2')
      await guard.set(at(), id, 4)
      // An owner of an earlier token does not count.
      await guard.set(at(undefined, 6n), id, 5)
      await guard.set(at('b', 6n), id, 6)
      await refusal(guard.del(at(OWNER, 6n), id), 6n)
      expect(await rejection(guard.set(at('b'), id, 7))).toMatchObject({ token: 5n, current: 6n })
      expect(await get(id)).toBe('6')
      // A token that begins with the stored one is another.
      await guard.set(at(OWNER, 61n), id, 8)
      expect(await guard.highWater(id)).toBe(61n)
    },
  )

  it('owners of several resources are compared, and all advance or none does', async () => {
    const guard = redisGuard({ client: await clients.ioredis!(redis.port) })
    const [a, b] = [unique('a'), unique('b')]
    await guard.advance({ resource: b, token: 5n, owner: 'a' })
    const both = { resources: [a, b], token: 5n, owner: 'b' }
    expect(await rejection(guard.advance(both))).toMatchObject({ resource: b, token: 5n, current: 5n })
    expect(await guard.highWater(a)).toBe(null)
    await guard.advance({ ...both, owner: 'a' })
    const script = 'return {#KEYS, KEYS[1], #ARGV, ARGV[1]}'
    const result = await guard.run({ ...both, owner: 'a' }, script, { keys: ['k'], args: ['v'] })
    expect(result).toEqual([1, 'k', 1, 'v'])
  })

  it('a fence of an earlier version, which has no owner, works on', async () => {
    const guard = redisGuard({ client: await clients.ioredis!(redis.port) })
    const id = unique()
    await redis.cmd('SET', guard.fenceKey(id), '5')
    await guard.advance({ resource: id, token: 5n, owner: 'a' })
    await refusal(guard.advance({ resource: id, token: 5n, owner: 'b' }), 5n)
    // It raises the token, and knows nothing of the owner.
    await redis.cmd('SET', guard.fenceKey(id), '6')
    await guard.advance({ resource: id, token: 6n, owner: 'b' })
  })

  it('the owner expires with the fence, and is not overwritten if something else has its key', async () => {
    const guard = redisGuard({ client: await clients.ioredis!(redis.port), fenceTtlMs: 60_000 })
    const id = unique()
    await guard.advance({ resource: id, token: 5n, owner: 'a' })
    for (const key of [guard.fenceKey(id), ownerKey(id)]) {
      expect(Number(await redis.cmd('PTTL', key))).toBeGreaterThan(0)
    }
    await redis.cmd('DEL', ownerKey(id))
    await redis.cmd('LPUSH', ownerKey(id), 'x')
    const error = await rejection(guard.set({ resource: id, token: 5n, owner: 'a' }, id, 1))
    expect(error).toMatchObject({ code: 'UNSUPPORTED', message: expect.stringContaining(ownerKey(id)) })
    expect(await get(id)).toBe(null)
  })

  it('the owner is in the slot of the fence, whatever the name', async () => {
    const node = await startCluster()
    const guard = redisGuard({ client: await clients.ioredis!(node.port) })
    for (const resource of [unique(), `{${unique()}}:a`, 'a}b', '{}', '}{']) {
      await guard.advance({ resource, token: 5n, owner: 'a' })
      await refusal(guard.advance({ resource, token: 5n, owner: 'b' }), 5n)
    }
  })
})

describe('over HTTP', () => {
  it('an equal token of another owner is refused with 409, and the error of fencedFetch says so', async () => {
    const redis = await startRedis()
    const guard = redisGuard({ client: await clients.ioredis!(redis.port) })
    const fence = httpFence(guard)
    const url = await listen((request, response) =>
      fence.node(request, response, () => {
        const { fencing } = request as unknown as { fencing: object }
        response.end(JSON.stringify(fencing, (_, value) => (typeof value === 'bigint' ? `${value}` : value)))
      }),
    )
    const resource = unique()
    const at = (owner?: string) => ({ resource, token: 5n, owner })
    const response = await fencedFetch(at(OWNER), url)
    expect(await response.json()).toEqual({ resource, resources: [resource], token: '5', ownerHash: HASH })
    // What the service got is as good as the lock itself.
    await guard.advance({ resource, token: 5n, ownerHash: HASH })
    await guard.advance(at(OWNER))
    await refusal(fencedFetch(at('b'), url), 5n)
    const refused = await fetch(url, { headers: fencingHeaders(at('b')) })
    expect(refused.status).toBe(409)
    expect(await refused.json()).toMatchObject({
      type: 'urn:fencelock:stale-token',
      detail: 'the data has seen token 5 from another owner of the lock; nothing was done',
      token: '5',
      current: '5',
    })
    // A caller of an earlier version; and one that passes on the headers of another request.
    expect((await fetch(url, { headers: fencingHeaders(at()) })).status).toBe(200)
    const passedOn = { headers: fencingHeaders(at('b')) }
    expect((await fencedFetch(at(), url, passedOn)).status).toBe(200)
    expect((await fencedFetch(at(OWNER), url, passedOn)).status).toBe(200)
  })

  it.each(['', 'e0cca2965509df6', `${HASH}0`, `${HASH}, ${HASH}`, 'g0cca2965509df67', `0x${HASH}`])(
    'a malformed owner is refused with 400: %o',
    async (owner) => {
      const advanced: unknown[] = []
      const fence = httpFence({ advance: async (fencing) => advanced.push(fencing) })
      const headers = { 'fencing-token': '5', 'fencing-resource': 'r', 'fencing-owner': owner }
      const result = await fence.check(headers)
      expect(result).toMatchObject({ passed: false, status: 400 })
      expect(result.passed ? '' : result.body).toContain('Fencing-Owner')
      expect(advanced).toEqual([])
      const upper = await fence.check({ ...headers, 'fencing-owner': HASH.toUpperCase() })
      expect(upper).toMatchObject({ passed: true, fencing: { ownerHash: HASH } })
    },
  )
})

// Before Node 22 there is no driver.
const driver = onBun ? 'bun:sqlite' : 'node:sqlite'
const hasDriver = onBun || Number(process.versions.node.split('.')[0]) >= 22

describe.skipIf(!hasDriver)('holders of locks that may have equal tokens', () => {
  /**
   * Three holders with tokens from 1 to 2, in a random order of their steps: advance, read, and a guarded
   * write of what was read and one more. Returns how many writes passed, and the value that is left.
   */
  function play(client: Client, guard: any, random: () => number, hasOwners: boolean) {
    const resource = unique()
    client.direct(`INSERT INTO data VALUES ('${resource}', 0)`)
    const value = (): number =>
      Number(client.direct(`SELECT value FROM data WHERE id = '${resource}'`)[0].value)
    let written = 0
    const holder = (name: string) => {
      const token = BigInt(1 + Math.floor(random() * 2))
      const lock = { resource, token, owner: hasOwners ? name : undefined }
      let read = 0
      const write = (db: any) =>
        client.rows(db, `UPDATE data SET value = ${read + 1} WHERE id = '${resource}'`)
      const steps = [
        () => guard.advanceSync(lock),
        () => (read = value()),
        () => (guard.runSync(lock, write), written++),
      ]
      // Each holder goes through them up to two times.
      return [...steps, ...steps]
    }
    const holders = ['a', 'b', 'c'].map((name) => holder(name))
    while (holders.some((steps) => steps.length > 0)) {
      const active = holders.filter((steps) => steps.length > 0)
      const steps = active[Math.floor(random() * active.length)]!
      try {
        steps.shift()!()
      } catch (error) {
        if (!(error instanceof StaleTokenError)) throw error
        // It has to stop.
        steps.length = 0
      }
    }
    return { written, left: value() }
  }

  const lost = async (hasOwners: boolean, rounds: number) => {
    // Linear congruential: the same schedules each time.
    let seed = 1
    const random = () => (seed = (seed * 48_271) % 2_147_483_647) / 2_147_483_647
    const client = await openClient(driver, join(tempDir(), 'data.sqlite'))
    onCleanup(() => client.end())
    const guard = client.guard()
    guard.migrateSync()
    client.direct('CREATE TABLE data (id TEXT PRIMARY KEY, value INTEGER)')
    let count = 0
    let passed = 0
    for (let round = 0; round < rounds; round++) {
      const { written, left } = play(client, guard, random, hasOwners)
      passed += written
      if (left !== written) count++
    }
    expect(passed).toBeGreaterThan(rounds)
    return count
  }

  it('lose no update in any order, because owners are compared', { timeout: 60_000 }, async () => {
    expect(await lost(true, 1_000)).toBe(0)
  })

  it('lose some if they do not say who they are', { timeout: 60_000 }, async () => {
    expect(await lost(false, 100)).toBeGreaterThan(0)
  })
})
