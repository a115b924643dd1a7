/** What happens to a lease while it is held: it is renewed, or it is lost and its holder is notified. */
import { LockManager, type ManagerOptions, type RenewOptions } from 'fencelock'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { beforeAll, describe, expect, it } from 'vitest'

import { collectUntil } from '../fixtures/leaks'
import { closing, fencelockWarnings, unique } from '../fixtures/locks'
import { type Script, startCode } from '../fixtures/processes/processes'
import { strategies } from '../fixtures/strategies'
import { eventually, sleep, tempDir } from '../fixtures/temp'

/** A renewal may be late by a second and a half, and the lease goes on. */
const ttlMs = 3_000

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
     const { existsSync } = await import('node:fs')
     const { setTimeout: sleep } = await import('node:timers/promises')
     const nap = () => globalThis.Bun ? Bun.sleepSync(10) : Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 10)
     const blockUntil = (file) => { while (!existsSync(file)) nap() }
     const aborted = () => new Promise((resolve) => signal.aborted ? resolve() : signal.addEventListener('abort', resolve))
     const report = () => say({ held: lock.held, aborted: signal.aborted, why: signal.reason?.message ?? '' })
     say([String(lock.token), Date.now()])
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

  it('outlives an event loop that is blocked for twice its TTL, and is granted to no other owner', async () => {
    const locks = manager()
    const resource = unique()
    const go = join(tempDir(), 'go')
    const child = holder(
      resource,
      { ttlMs, renew: true },
      `blockUntil(${JSON.stringify(go)}); await sleep(50); report(); for await (const _ of hear()) { say(await lock.release()); break }`,
    )
    await child.next()
    const until = performance.now() + 2 * ttlMs + 200
    let tries = 0
    for (; performance.now() < until; tries++) {
      expect(await locks.tryAcquire(resource)).toBeNull()
      await sleep(20)
    }
    expect(tries).toBeGreaterThan(50)
    writeFileSync(go, '')
    expect(await child.next()).toEqual({ held: true, aborted: false, why: '' })
    child.tell('release')
    expect(await child.next()).toBe(true)
  })

  it('ends when the event loop is blocked for longer than maxStallMs', async () => {
    const locks = manager()
    const resource = unique()
    const go = join(tempDir(), 'go')
    const maxStallMs = 3_500
    const child = holder(
      resource,
      { ttlMs, renew: { maxStallMs } },
      `blockUntil(${JSON.stringify(go)}); await aborted(); report()`,
    )
    const [token, began] = await child.next<[string, number]>()
    const next = await eventually('another owner gets the lock', () => locks.tryAcquire(resource), 15_000)
    // Not at the end of its TTL.
    expect(Date.now() - began).toBeGreaterThan(maxStallMs)
    expect(next.token).toBeGreaterThan(BigInt(token))
    expect(child.said).toHaveLength(1) // still blocked
    writeFileSync(go, '')
    const end = await child.next<{ why: string }>()
    expect(end).toMatchObject({ held: false, aborted: true })
    expect(end.why).toContain(`maxStallMs (${maxStallMs})`)
  })

  it('is kept while the event loop is idle, however short maxStallMs is', async () => {
    const locks = manager()
    const lock = await locks.acquire(unique(), { ttlMs, renew: { maxStallMs: 200 } })
    await sleep(ttlMs + 300)
    expect(lock.held).toBe(true)
  })

  it('is lost while its process is stopped, and the process notices when it resumes', async () => {
    const locks = manager()
    const resource = unique()
    const child = holder(
      resource,
      { ttlMs, renew: true },
      `for await (const _ of hear()) { await aborted(); report(); say(await lock.release()); break }`,
    )
    const [token] = await child.next<[string]>()
    await sleep(ttlMs + 300) // renewed meanwhile
    expect(await locks.tryAcquire(resource)).toBeNull()
    await child.pauseBetweenWrites()
    const next = await eventually('another owner gets the lock', () =>
      locks.tryAcquire(resource, { ttlMs: 60_000 }),
    )
    expect(next.token).toBeGreaterThan(BigInt(token))
    // The process is to notice it late.
    await sleep(300)
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
    const { began, ended } = await (async () => {
      const own = new LockManager(options)
      await own.acquire(name, { ttlMs, renew: { maxHoldMs: ttlMs + 800 } })
      return { began: performance.now(), ended: new WeakRef(own) }
    })()
    expect(await collectUntil(() => ours().length > 0)).toBe(true)
    expect(ours()[0]).toMatchObject({ code: 'FENCELOCK_LOCK_DROPPED' })
    expect(ours()[0]!.message).toContain('its lease goes on')
    expect(await collectUntil(() => performance.now() > began + ttlMs + 200)).toBe(true)
    expect(await two.tryAcquire(name)).toBeNull()
    await eventually('the lease ends at maxHoldMs', () => two.tryAcquire(name))
    expect(await collectUntil(() => ended.deref() === undefined, 5_000)).toBe(true)
    expect(ours()).toHaveLength(1)
  })

  it('of a routine that waits for ever is kept, although nothing else refers to either', async () => {
    const [one, two] = [manager(), manager()]
    const warnings = fencelockWarnings()
    const name = unique('for ever')
    for (const renew of [true, false]) {
      let runs = false
      void one.withLock([name, unique()], { ttlMs, renew }, () => {
        runs = true
        return new Promise(() => {})
      })
      await eventually('the routine runs', () => runs)
      expect(await collectUntil(() => warnings.length > 0, renew ? ttlMs + 200 : 300)).toBe(false)
      if (renew) expect(await two.tryAcquire(name)).toBeNull()
      await two.forceRelease(name)
    }
  })

  it('is renewed, and its loss reported, when only a listener of its signal is left', async () => {
    const locks = manager()
    const resource = unique()
    let reason: unknown
    await (async () => {
      const { signal } = await locks.acquire(resource, { ttlMs, renew: true })
      signal.addEventListener('abort', () => (reason = signal.reason))
    })()
    expect(await collectUntil(() => locks.stats().held === 0, ttlMs + 500)).toBe(false)
    expect(reason).toBeUndefined()
    await locks.forceRelease(resource)
    await eventually('the signal aborts', () => reason !== undefined)
    expect(reason).toMatchObject({ code: 'LOCK_LOST', resource })
  })

  it('uses the defaults of its manager where the call states nothing', async () => {
    const defaults = { ttlMs, renew: { maxHoldMs: ttlMs + 800 } }
    const locks = manager({ defaults })
    const [byDefault, asTrue, longer, not] = await Promise.all([
      locks.acquire(unique()),
      locks.acquire(unique(), { renew: true }),
      locks.acquire(unique(), { renew: { maxHoldMs: Infinity } }),
      locks.acquire(unique(), { renew: false }),
    ])
    await eventually('the one that is not renewed ends', () => !not.held)
    expect([byDefault, asTrue, longer].map((lock) => lock.held)).toEqual([true, true, true])
    await eventually('those with the default end', () => !byDefault.held && !asTrue.held)
    expect(longer.held).toBe(true)
  })
})

it('a lease of a synchronous call is renewed, too', async () => {
  const locks = closing(new LockManager({ local: join(tempDir(), 'locks.sqlite') }))
  const lock = locks.tryAcquireLocalSync(unique(), { ttlMs, renew: true })!
  await sleep(ttlMs + 500)
  expect(lock.held).toBe(true)
  expect(lock.releaseSync()).toBe(true)
})
