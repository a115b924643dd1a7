/** What happens to a lease while it is held: it is renewed, or it is lost and its holder is notified. */
import { LockManager, type ManagerOptions, type RenewOptions } from 'fencelock'
import { join } from 'node:path'
import { beforeAll, describe, expect, it } from 'vitest'

import { collectUntil } from '../fixtures/leaks'
import { closing, fencelockWarnings, unique } from '../fixtures/locks'
import { type Script, startCode } from '../fixtures/processes/processes'
import { strategies } from '../fixtures/strategies'
import { eventually, sleep, tempDir } from '../fixtures/temp'

const block = '(ms) => { for (const end = performance.now() + ms; performance.now() < end;); }'
const pause = '(ms) => new Promise((resolve) => setTimeout(resolve, ms))'

/** A process that holds a lock, and then runs its code. */
function startHolder(
  manager: ManagerOptions,
  resource: string,
  options: { ttlMs: number; renew: boolean | RenewOptions },
  code: string,
): Script {
  return startCode(
    `const { LockManager } = await import('fencelock')
     const locks = new LockManager(${JSON.stringify(manager)})
     const lock = await locks.acquire(${JSON.stringify(resource)}, ${JSON.stringify(options)})
     const { signal } = lock
     const block = ${block}
     const sleep = ${pause}
     const report = async () => { await sleep(50); say({ held: lock.held, aborted: signal.aborted, why: signal.reason?.message ?? '' }) }
     say(String(lock.token))
     ${code}`,
  )
}

describe.each(strategies)('a $name lease', ({ start }) => {
  let options: ManagerOptions
  beforeAll(async () => {
    options = await start()
  })
  const manager = (more: ManagerOptions = {}): LockManager =>
    closing(new LockManager({ ...options, ...more }))
  const holder = (resource: string, lease: { ttlMs: number; renew: boolean | RenewOptions }, code: string) =>
    startHolder(options, resource, lease, code)

  it('outlives an event loop that is blocked for three TTLs, and is granted to no other owner', async () => {
    const locks = manager()
    const resource = unique()
    const child = holder(
      resource,
      { ttlMs: 1_500, renew: true },
      `block(4_500); await report(); say(await lock.release())`,
    )
    await child.next()
    const until = performance.now() + 4_400
    let tries = 0
    for (; performance.now() < until; tries++) {
      expect(await locks.tryAcquire(resource)).toBeNull()
      await sleep(20)
    }
    expect(tries).toBeGreaterThan(50)
    expect(await child.next()).toEqual({ held: true, aborted: false, why: '' })
    expect(await child.next()).toBe(true)
  })

  it('ends when the event loop is blocked for longer than maxStallMs', async () => {
    const locks = manager()
    const resource = unique()
    const child = holder(
      resource,
      { ttlMs: 1_500, renew: { maxStallMs: 2_000 } },
      `block(6_000); await report()`,
    )
    const token = BigInt(await child.next<string>())
    const began = performance.now()
    const next = await eventually('another owner gets the lock', () => locks.tryAcquire(resource), 5_500)
    expect(performance.now() - began).toBeGreaterThan(2_500)
    expect(next.token).toBeGreaterThan(token)
    expect(child.said).toHaveLength(1) // still blocked
    const end = await child.next<{ why: string }>()
    expect(end).toMatchObject({ held: false, aborted: true })
    expect(end.why).toContain('maxStallMs (2000)')
  })

  it('is kept while the event loop is idle, however short maxStallMs is', async () => {
    const locks = manager()
    const lock = await locks.acquire(unique(), { ttlMs: 1_500, renew: { maxStallMs: 200 } })
    await sleep(4_000)
    expect(lock.held).toBe(true)
  })

  it('is lost while its process is stopped, and the process notices when it resumes', async () => {
    const locks = manager()
    const resource = unique()
    const child = holder(
      resource,
      { ttlMs: 2_000, renew: true },
      `for await (const _ of hear()) { await report(); say(await lock.release()); break }`,
    )
    const token = BigInt(await child.next<string>())
    await sleep(2_500) // renewed meanwhile
    expect(await locks.tryAcquire(resource)).toBeNull()
    await child.pauseBetweenWrites()
    await sleep(4_000)
    const next = await eventually('another owner gets the lock', () =>
      locks.tryAcquire(resource, { ttlMs: 60_000 }),
    )
    expect(next.token).toBeGreaterThan(token)
    child.resume()
    child.tell('go')
    const end = await child.next<{ why: string }>()
    expect(end).toMatchObject({ held: false, aborted: true })
    expect(end.why).toMatch(/the lease ended \d{3,} ms before this was reported: .*(stopped|not answered)/)
    expect(await child.next()).toBe(false)
    expect(next.held).toBe(true)
    expect(await locks.inspect(resource)).toMatchObject({ owner: next.owner })
  })

  it('goes on being renewed once its handle and its manager were dropped, and a warning names it', async () => {
    const two = manager()
    const warnings = fencelockWarnings()
    const ours = (): Error[] => warnings.filter(({ message }) => message.includes(name))
    const name = unique('dropped')
    const { ended } = await (async () => {
      const own = new LockManager(options)
      await own.acquire(name, { ttlMs: 900, renew: { maxHoldMs: 2_500 } })
      return { ended: new WeakRef(own) }
    })()
    expect(await collectUntil(() => ours().length > 0)).toBe(true)
    expect(ours()[0]).toMatchObject({ code: 'FENCELOCK_LOCK_DROPPED' })
    expect(ours()[0]!.message).toContain('its lease goes on')
    const began = performance.now()
    expect(await collectUntil(() => false, 1_000)).toBe(false)
    expect(await two.tryAcquire(name)).toBeNull()
    await eventually('the lease ends at maxHoldMs', () => two.tryAcquire(name), 5_000)
    expect(performance.now() - began).toBeGreaterThan(1_000)
    expect(await collectUntil(() => ended.deref() === undefined, 5_000)).toBe(true)
    expect(ours()).toHaveLength(1)
  })

  it('of a routine that waits for ever is kept, although nothing else refers to either', async () => {
    const [one, two] = [manager(), manager()]
    const warnings = fencelockWarnings()
    const name = unique('for ever')
    for (const renew of [true, false]) {
      let runs = false
      void one.withLock([name, unique()], { ttlMs: 900, renew }, () => {
        runs = true
        return new Promise(() => {})
      })
      await eventually('the routine runs', () => runs)
      expect(await collectUntil(() => warnings.length > 0, renew ? 1_500 : 300)).toBe(false)
      if (renew) expect(await two.tryAcquire(name)).toBeNull()
      await two.forceRelease(name)
    }
  })

  it('is renewed, and its loss reported, when only a listener of its signal is left', async () => {
    const locks = manager()
    const resource = unique()
    let reason: unknown
    await (async () => {
      const { signal } = await locks.acquire(resource, { ttlMs: 1_000, renew: true })
      signal.addEventListener('abort', () => (reason = signal.reason))
    })()
    expect(await collectUntil(() => locks.stats().held === 0, 2_500)).toBe(false)
    expect(reason).toBeUndefined()
    await locks.forceRelease(resource)
    await eventually('the signal aborts', () => reason !== undefined)
    expect(reason).toMatchObject({ code: 'LOCK_LOST', resource })
  })

  it('uses the defaults of its manager where the call states nothing', async () => {
    const defaults = { ttlMs: 1_000, renew: { maxHoldMs: 1_500 } }
    const locks = manager({ defaults })
    const [byDefault, asTrue, longer, not] = await Promise.all([
      locks.acquire(unique()),
      locks.acquire(unique(), { renew: true }),
      locks.acquire(unique(), { renew: { maxHoldMs: Infinity } }),
      locks.acquire(unique(), { renew: false }),
    ])
    await sleep(1_300)
    expect([byDefault, asTrue, longer, not].map((lock) => lock.held)).toEqual([true, true, true, false])
    await sleep(2_000)
    expect([byDefault, asTrue, longer].map((lock) => lock.held)).toEqual([false, false, true])
  })
})

it('a lease of a synchronous call is renewed, too', async () => {
  const locks = closing(new LockManager({ local: join(tempDir(), 'locks.sqlite') }))
  const lock = locks.tryAcquireLocalSync(unique(), { ttlMs: 1_000, renew: true })!
  await sleep(2_500)
  expect(lock.held).toBe(true)
  expect(lock.releaseSync()).toBe(true)
})
