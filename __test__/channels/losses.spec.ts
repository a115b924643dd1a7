/** What is a loss, with its cause, and what is none: on the channel, in stats() and in the metrics. */
import { LockLostError, LockManager } from 'fencelock'
import type { LossCause, ManagerOptions } from 'fencelock'
import { renameSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { beforeAll, describe, expect, it } from 'vitest'

import { closing, rejection, unique } from '../fixtures/locks'
import { startProxy } from '../fixtures/servers/proxy'
import { startPrimary, startRedis } from '../fixtures/servers/redis'
import { block } from '../fixtures/stalls'
import { strategies } from '../fixtures/strategies'
import { eventually, tempDir } from '../fixtures/temp'
import { instrumented } from '../otel/sdk'
import { listen, record } from './support'

const none = { expired: 0, taken: 0, failover: 0, file: 0 }

/** The losses that the metrics count, by cause. */
async function counted({ metrics }: ReturnType<typeof instrumented>): Promise<Record<string, number>> {
  const points = (await metrics())['fencelock.losses']?.points ?? []
  return Object.fromEntries(
    points.map(({ attributes, value }) => [attributes['fencelock.loss.cause'], Number(value)]),
  )
}

/** Loses a lease in this way, and checks that it is told everywhere, once. */
async function expectLoss(options: ManagerOptions, cause: LossCause, lose: () => Promise<void> | void) {
  const metrics = instrumented()
  const lost = listen('fencelock:lost')
  const locks = closing(new LockManager(options))
  const lock = await locks.acquire(unique(), { ttlMs: 60_000 })
  await lose()
  await eventually('it is published', () => lost.length > 0)
  await lock.release().catch(() => false)
  const { resources, owner, token } = lock
  expect(lost).toHaveLength(1)
  expect(lost[0]).toMatchObject({ resources, owner, token, cause, error: expect.any(LockLostError) })
  expect(locks.stats()).toMatchObject({ lost: 1, losses: { ...none, [cause]: 1 } })
  expect(await counted(metrics)).toEqual({ [cause]: 1 })
}

describe('a loss', () => {
  it.each(['deleted', 'replaced'])('has the cause `file` when the lock file is %s', async (how) => {
    const dir = tempDir()
    const path = join(dir, 'locks.sqlite')
    const other = closing(new LockManager({ local: join(dir, 'other.sqlite') }))
    await (await other.acquire('x')).release()
    await other.close()
    await expectLoss({ local: path }, 'file', () => {
      if (how === 'replaced') renameSync(join(dir, 'other.sqlite'), path)
      else rmSync(path)
    })
  })

  it('has the cause `failover` when a replica took over that did not have the lease', async () => {
    const { primary, replicas } = await startPrimary({ replicas: 1 })
    const [replica] = replicas
    const proxy = await startProxy(primary.port)
    // From here on it gets nothing of the primary.
    await replica!.cmd('REPLICAOF', 'NO', 'ONE')
    const options = { redis: { url: proxy.url, replicas: 0 } }
    await expectLoss(options, 'failover', () => proxy.switchTo(replica!.port, { cut: true }))
  })

  it('has the cause `failover` when the server was restarted without it', async () => {
    const server = await startRedis()
    await expectLoss({ redis: { url: server.url, replicas: 0 } }, 'failover', async () => {
      await server.kill()
      await server.start()
    })
  })
})

describe.each(strategies)('no loss: $name', ({ start }) => {
  let options: ManagerOptions
  beforeAll(async () => {
    options = await start()
  })

  it('is what the closing of the manager ends', async () => {
    const metrics = instrumented()
    const lost = listen('fencelock:lost')
    const locks = new LockManager(options)
    const { signal } = await locks.acquire(unique(), { ttlMs: 60_000 })
    await locks.close({ drainMs: 0 })
    await eventually('its holder is told', () => signal.aborted)
    // What the addon reports comes after what it reported before.
    await (await closing(new LockManager(options)).acquire(unique())).release()
    expect(lost).toEqual([])
    expect(locks.stats()).toMatchObject({ lost: 0, losses: none })
    expect(await counted(metrics)).toEqual({})
  })

  it('is a grant that came too late, because it was never held', async () => {
    const metrics = instrumented()
    const lost = listen('fencelock:lost')
    const acquires = record('fencelock:acquire')
    const locks = closing(new LockManager(options))
    await locks.connect()
    const call = rejection(locks.acquire(unique(), { ttlMs: 1_000 }))
    // It is sent by then, and nothing can have come back yet.
    for (let reactions = 0; reactions < 20; reactions++) await Promise.resolve()
    block(2_300)
    expect(await call).toBeInstanceOf(LockLostError)
    expect(acquires.at(-1)!.outcome).toBe('late')
    await eventually('it is released', () => locks.stats().pending === 0)
    await (await locks.acquire(unique())).release()
    expect(lost).toEqual([])
    expect(locks.stats()).toMatchObject({ lost: 0, losses: none, holdMs: { count: 1 } })
    expect(await counted(metrics)).toEqual({})
  })
})
