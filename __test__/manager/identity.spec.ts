/** Locks and managers as objects: compared, copied, and wrapped by a Proxy. */
import { LockManager } from 'fencelock'
import { fencingHeaders, httpFence, redisGuard, sqliteGuard } from 'fencelock/guard'
import assert from 'node:assert'
import { join } from 'node:path'
import { isDeepStrictEqual } from 'node:util'
import { expect, it } from 'vitest'

import { closing, unique } from '../fixtures/locks'
import { onBun } from '../fixtures/processes/runtimes'
import { tempDir } from '../fixtures/temp'

const local = (): LockManager => closing(new LockManager({ local: join(tempDir(), 'l.sqlite') }))

/** As containers for dependencies and tracers do it: everything is passed on, and what is returned, too. */
function transparent<T extends object>(target: T): T {
  return new Proxy(target, {
    get: (object, key, receiver) => Reflect.get(object, key, receiver) as unknown,
  })
}

it('locks that differ are not equal to any deep comparison, and a lock is equal to itself', async () => {
  const locks = local()
  const resource = unique()
  const first = await locks.acquireLocal(resource)
  await first.release()
  const second = await locks.acquireLocal(resource)
  await second.release()
  for (const [a, b] of [
    [first, second],
    [locks, local()],
    [
      redisGuard({ client: { evalsha: async () => 1, eval: async () => 1 } }),
      redisGuard({ client: { evalsha: async () => 1, eval: async () => 1 } }),
    ],
  ] as const) {
    expect(isDeepStrictEqual(a, b)).toBe(false)
    assert.notDeepStrictEqual(a, b)
    // The legacy comparison, which ignores symbols.
    assert.notDeepEqual(a, b)
    expect(a).not.toEqual(b)
    expect(a).not.toStrictEqual(b)
    if (onBun) expect((globalThis as any).Bun.deepEquals(a, b)).toBe(false)
    expect(isDeepStrictEqual(a, a)).toBe(true)
    expect({ lock: a }).toEqual({ lock: a })
  }
})

it('a lock is not cloned to an empty object: that fails, and says what to use', async () => {
  const lock = await local().acquireLocal(unique())
  expect(() => structuredClone(lock)).toThrow(expect.objectContaining({ name: 'DataCloneError' }))
  // Not in the message of every runtime.
  if (!onBun) expect(() => structuredClone(lock)).toThrow(/lock\.toJSON\(\)/)
  expect(() => structuredClone({ ...lock })).toThrow(expect.objectContaining({ name: 'DataCloneError' }))
  expect(structuredClone(lock.toJSON())).toMatchObject({ resource: lock.resource, token: String(lock.token) })
  expect(() => structuredClone(local())).toThrow(expect.objectContaining({ name: 'DataCloneError' }))
})

it('a manager works behind a transparent Proxy, and so do its locks', async () => {
  const locks = transparent(local())
  const resource = unique()
  const lock = transparent(await locks.acquireLocal(resource, { ttlMs: 60_000 }))
  expect([lock.resource, lock.resources, lock.held]).toEqual([resource, [resource], true])
  expect(lock.token).toBeGreaterThan(0n)
  expect(lock.signal.aborted).toBe(false)
  await lock.extend()
  expect(JSON.parse(JSON.stringify(lock))).toMatchObject({ resource, held: true })
  expect(await locks.tryAcquireLocal(resource)).toBeNull()
  expect(await locks.inspect(resource)).toMatchObject({ owner: lock.owner })
  expect(lock.releaseSync()).toBe(true)
  expect(await locks.withLock(resource, (inner) => inner.strategy)).toBe('local')
  locks.tryAcquireLocalSync(resource)?.[Symbol.dispose]()
  expect(locks.stats().held).toBe(0)
  await locks.close()
})

it('a guard works behind a transparent Proxy', async () => {
  const answers: unknown[] = []
  const client = { evalsha: async () => answers.shift(), eval: async () => answers.shift() }
  const guard = transparent(redisGuard({ client }))
  answers.push(['done', 'OK'])
  expect(await guard.set({ resource: 'r', token: 1n }, 'k', 'v')).toBe(true)
  const adapter = {
    transaction: <T>(work: (tx: number) => Promise<T>) => work(1),
    query: async () => ({ rows: [{ resource: '72', token: '1' }] }),
  }
  expect(await transparent(sqliteGuard({ adapter })).run({ resource: 'r', token: 1n }, () => 'ran')).toBe(
    'ran',
  )
})

it('the fence of an HTTP service works behind a transparent Proxy', async () => {
  const fence = transparent(httpFence({ advance: async () => {} }))
  const fencing = { resource: 'r', resources: ['r'], token: 1n }
  expect(await fence.check(new Headers(fencingHeaders(fencing)))).toEqual({ passed: true, fencing })
  const handle = fence.fetch((_: Request, { token }) => new Response(String(token)))
  const response = await handle(new Request('http://localhost', { headers: fencingHeaders(fencing) }))
  expect(await response.text()).toBe('1')
})

it('the methods keep their names', () => {
  expect(LockManager.prototype.acquireLocal.name).toBe('acquireLocal')
  expect(LockManager.prototype.withLock.length).toBe(1)
})
