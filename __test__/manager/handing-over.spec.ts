/** Leases that pass from process to process, and processes that die on the way. */
import { type Lock, LockManager, type ManagerOptions, StaleTokenError } from 'fencelock'
import { fencingHeaders, httpFence } from 'fencelock/guard'
import { join } from 'node:path'
import { beforeAll, describe, expect, it } from 'vitest'

import { closing, rejection, unique } from '../fixtures/locks'
import { runCode, type Script, startCode } from '../fixtures/processes/processes'
import { strategies } from '../fixtures/strategies'
import { eventually, sleep, tempDir } from '../fixtures/temp'
import { hasWallClock, wallClock } from '../fixtures/time/wall-clock'

/** A process with its own manager. It acquires, hands over and adopts as it is told, and says how it went. */
function startHolder(options: ManagerOptions, env: NodeJS.ProcessEnv = {}): Script {
  return startCode(
    `const { LockManager } = await import('fencelock')
     const locks = new LockManager(${JSON.stringify(options)})
     await locks.connect()
     let lock
     const actions = {
       acquire: async ({ resource, ttlMs, renew }) => { lock = await locks.acquire(resource, { ttlMs, renew }) },
       handOver: async () => ({ ticket: await lock.handOver() }),
       adopt: async ({ ticket, ...options }) => { lock = await locks.adopt(ticket, options) },
     }
     say('ready')
     for await (const { action, ...given } of hear()) {
       const done = await actions[action](given).catch(({ code }) => ({ code }))
       say({ ...done, token: String(lock?.token), held: lock?.held })
     }`,
    { env },
  )
}

interface Said {
  ticket: string
  code?: string
  token: string
  held: boolean
}

async function ask(script: Script, action: string, given: object = {}): Promise<Said> {
  script.tell({ action, ...given })
  return script.next<Said>()
}

/** A holder that is ready. */
async function holder(options: ManagerOptions, env?: NodeJS.ProcessEnv): Promise<Script> {
  const script = startHolder(options, env)
  await script.next()
  return script
}

/** A ticket from a process that is killed then. */
async function ticketOfTheDead(options: ManagerOptions, resource: string, ttlMs: number): Promise<Said> {
  const giver = await holder(options)
  await ask(giver, 'acquire', { resource, ttlMs, renew: true })
  const said = await ask(giver, 'handOver')
  await giver.kill()
  return said
}

describe.each(strategies.filter(({ strategy }) => strategy !== 'quorum'))('$name', ({ strategy, start }) => {
  let options: ManagerOptions
  beforeAll(async () => {
    options = await start()
  })
  const manager = (): LockManager => closing(new LockManager(options))

  it('a ticket is adopted by another process, whose token is higher', async () => {
    const [giver, taker] = await Promise.all([holder(options), holder(options)])
    const resource = unique()
    const given = await ask(giver, 'acquire', { resource, ttlMs: 30_000, renew: true })
    const { ticket, held } = await ask(giver, 'handOver')
    expect(held).toBe(false)
    const taken = await ask(taker, 'adopt', { ticket, renew: true })
    expect(taken.code).toBeUndefined()
    expect(BigInt(taken.token)).toBeGreaterThan(BigInt(given.token))
    // It lives and dies without the giver.
    await giver.kill()
    await sleep(500)
    expect(await manager().tryAcquire(resource)).toBeNull()
    expect(await ask(taker, 'adopt', { ticket })).toMatchObject({ code: 'LOCK_LOST', held: true })
  })

  it('the giver’s death does not end the lease, which can still be adopted', async () => {
    const resource = unique()
    const { ticket } = await ticketOfTheDead(options, resource, 30_000)
    const locks = manager()
    await sleep(1_000)
    expect(await locks.tryAcquire(resource)).toBeNull()
    expect(await locks.inspect(resource)).not.toBeNull()
    const lock = await locks.adopt(ticket)
    expect(lock.held).toBe(true)
    expect(await lock.release()).toBe(true)
  })

  it('without an adoption the lease ends with its TTL, and the ticket with it', async () => {
    const resource = unique()
    const { ticket, token } = await ticketOfTheDead(options, resource, 4_000)
    const locks = manager()
    const next = await locks.acquire(resource, { waitMs: 20_000 })
    expect(next.token).toBeGreaterThan(BigInt(token))
    expect(await rejection(locks.adopt(ticket))).toMatchObject({ code: 'LOCK_LOST' })
    expect(next.held).toBe(true)
  })

  it('of several processes that adopt at the same time exactly one gets the lease', async () => {
    const takers = await Promise.all(Array.from({ length: 4 }, () => holder(options)))
    const locks = manager()
    for (let round = 0; round < 10; round++) {
      const lock = await locks.acquire(unique(), { ttlMs: 60_000 })
      const ticket = await lock.handOver()
      const said = await Promise.all(takers.map((taker) => ask(taker, 'adopt', { ticket })))
      const codes = said.map(({ code }) => code ?? 'adopted').toSorted()
      expect(codes).toEqual(['LOCK_LOST', 'LOCK_LOST', 'LOCK_LOST', 'adopted'])
    }
  })

  it('a guard that has seen the new token refuses what the giver still writes', async () => {
    const [giver, taker] = [manager(), manager()]
    const given = await giver.acquire(unique(), { ttlMs: 30_000 })
    const highest = new Map<string, bigint>()
    const fence = httpFence({
      async advance({ resource, token }) {
        const current = highest.get(resource) ?? 0n
        if (token < current) throw new StaleTokenError('stale', { resource, token, current })
        highest.set(resource, token)
      },
    })
    const write = async (lock: Lock): Promise<boolean> => {
      const { passed } = await fence.check(new Headers(fencingHeaders(lock)))
      return passed
    }
    expect(await write(given)).toBe(true)
    const lock = await taker.adopt(await given.handOver())
    expect(await write(given)).toBe(true)
    expect(await write(lock)).toBe(true)
    expect(await write(given)).toBe(false)
    expect(await write(lock)).toBe(true)
  })

  it.runIf(strategy === 'local')('the death of the process that adopted it frees a local lease', async () => {
    const resource = unique()
    const { ticket } = await ticketOfTheDead(options, resource, 60_000)
    const taker = await holder(options)
    expect((await ask(taker, 'adopt', { ticket, renew: true })).code).toBeUndefined()
    const locks = manager()
    expect(await locks.tryAcquire(resource)).toBeNull()
    await taker.kill()
    await eventually('the lease is free', async () => (await locks.tryAcquire(resource)) !== null, 5_000)
  })

  it.runIf(strategy === 'local')('the next process hands a local lease over like the first one', async () => {
    const resource = unique()
    const first = await ticketOfTheDead(options, resource, 60_000)
    const second = await holder(options)
    await ask(second, 'adopt', { ticket: first.ticket })
    const { ticket } = await ask(second, 'handOver')
    await second.kill()
    const locks = manager()
    await sleep(500)
    expect(await locks.tryAcquire(resource)).toBeNull()
    expect((await locks.adopt(ticket)).token).toBeGreaterThan(BigInt(first.token))
  })

  it.runIf(strategy === 'local' && hasWallClock)('a wall clock that is wrong changes nothing', async () => {
    const clock = wallClock()
    const giver = await holder(options, clock.env)
    const locks = manager()
    const ticketAt = async (
      ms: number,
      ttlMs = 60_000,
    ): Promise<{ resource: string; ticket: string; token: bigint }> => {
      const resource = unique()
      clock.set(ms)
      const { token } = await ask(giver, 'acquire', { resource, ttlMs })
      return { resource, token: BigInt(token), ticket: (await ask(giver, 'handOver')).ticket }
    }
    const behind = await ticketAt(-3_600_000)
    const ahead = await ticketAt(3_600_000)
    for (const { resource, ticket, token } of [behind, ahead]) {
      expect(await locks.tryAcquire(resource)).toBeNull()
      const lock = await locks.adopt(ticket)
      expect(lock.token).toBeGreaterThan(token)
      await lock.release()
    }
    const late = await ticketAt(3_600_000, 4_000)
    await sleep(4_500)
    expect(await rejection(locks.adopt(late.ticket))).toMatchObject({ code: 'LOCK_LOST' })
  })
})

describe('a handle', () => {
  /** Blocks this thread until the addon has noted that the lease is over; fails after 10 s. */
  const blockUntilOver = (lock: Lock): void => {
    for (const end = performance.now() + 10_000; lock.held && performance.now() < end;);
    expect(lock.held).toBe(false)
  }
  const local = (): LockManager => closing(new LockManager({ local: join(tempDir(), 'locks.sqlite') }))

  it('whose signal is first read while it is handed over does not abort it', async () => {
    const lock = await local().acquire('r', { ttlMs: 30_000 })
    const handingOver = lock.handOver()
    // The lease is no longer held, and this thread does not know it yet.
    blockUntilOver(lock)
    const { signal } = lock
    await handingOver
    await sleep(50)
    expect(signal.aborted).toBe(false)
  })

  it('whose lease has ended meanwhile aborts it', async () => {
    const locks = local()
    const lock = await locks.acquire('r', { ttlMs: 30_000 })
    await locks.forceRelease('r')
    const handingOver = lock.handOver()
    blockUntilOver(lock)
    const { signal } = lock
    expect(await rejection(handingOver)).toMatchObject({ code: 'LOCK_LOST' })
    expect(signal.aborted).toBe(true)
    expect(signal.reason).toMatchObject({ code: 'LOCK_LOST' })
  })

  it('of a routine that goes on does not keep the process alive', async () => {
    const { code, stdout } = await runCode(
      `const { LockManager } = await import('fencelock')
       const locks = new LockManager({ local: ${JSON.stringify(join(tempDir(), 'locks.sqlite'))} })
       void locks.withLock('r', { ttlMs: 60_000 }, async (lock) => {
         say((await lock.handOver()).length > 0)
         await new Promise(() => {})
       })`,
      { limitMs: 25_000 },
    )
    expect({ code, stdout }).toEqual({ code: 0, stdout: 'true\n' })
  })

  it('that is collected after it was handed over is not missed', async () => {
    const { code, stdout } = await runCode(
      `const { LockManager } = await import('fencelock')
       const warnings = []
       process.on('warning', ({ message }) => warnings.push(message))
       const collect = globalThis.Bun ? () => Bun.gc(true) : gc
       const locks = new LockManager({ local: ${JSON.stringify(join(tempDir(), 'locks.sqlite'))} })
       await (async () => {
         await (await locks.acquire('given', { ttlMs: 60_000, renew: true })).handOver()
         await (await locks.acquire('given too', { ttlMs: 60_000 })).handOver()
         await locks.acquire('dropped', { ttlMs: 60_000 })
       })()
       for (let turn = 0; turn < 200 && warnings.length === 0; turn++) {
         collect()
         await new Promise((resolve) => setTimeout(resolve, 20))
       }
       for (let turn = 0; turn < 5; turn++) {
         collect()
         await new Promise((resolve) => setTimeout(resolve, 20))
       }
       await locks.close({ drainMs: 0 })
       say(warnings.map((message) => /"(.*?)"/.exec(message)[1]))`,
      { nodeArgs: ['--expose-gc'] },
    )
    expect({ code, stdout }).toEqual({ code: 0, stdout: '["dropped"]\n' })
  })
})
