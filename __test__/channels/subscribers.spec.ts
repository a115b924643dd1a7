/** What subscribers may count on, and what they cannot harm: contexts of callers, throwing, and no cost. */
import { LockManager } from 'fencelock'
import type { ManagerOptions } from 'fencelock'
import { AsyncLocalStorage } from 'node:async_hooks'
import { subscribe, tracingChannel, unsubscribe } from 'node:diagnostics_channel'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { beforeAll, beforeEach, describe, expect, it, vi } from 'vitest'

import { onCleanup } from '../fixtures/cleanup'
import { closing, rejection, unique } from '../fixtures/locks'
import { runCode } from '../fixtures/processes/processes'
import { onBun } from '../fixtures/processes/runtimes'
import { strategies } from '../fixtures/strategies'
import { eventually, root } from '../fixtures/temp'
import { record } from './support'

describe.each(strategies)('subscribers: $name', ({ start }) => {
  let options: ManagerOptions
  beforeAll(async () => {
    options = await start()
  })
  let locks: LockManager
  beforeEach(() => {
    locks = closing(new LockManager(options))
  })

  it('run in the asynchronous context of the caller, of each of many calls', async () => {
    const storage = new AsyncLocalStorage<number>()
    const seen: [string, number | undefined][] = []
    const note = (event: string): void => void seen.push([event, storage.getStore()])
    for (const name of ['acquire', 'wait', 'extend', 'release'] as const) {
      record(`fencelock:${name}`, (event) => note(`${name} ${event}`))
    }
    const held = closing(new LockManager(options))
    const taken = Array.from({ length: 20 }, () => unique())
    const first = await Promise.all(taken.map((name) => held.acquire(name)))
    seen.length = 0
    const all = taken.map((name, index) =>
      storage.run(index, async () => {
        const lock = await locks.acquire(name, { waitMs: 20_000 })
        await lock.extend()
        await lock.release()
      }),
    )
    await eventually('all wait', () => seen.filter(([event]) => event === 'wait start').length === 20)
    await Promise.all(first.map((lock) => lock.release()))
    await Promise.all(all)
    for (const name of ['acquire', 'wait', 'extend', 'release']) {
      for (const event of ['start', 'end', 'asyncStart', 'asyncEnd']) {
        const stores = seen.filter(([each]) => each === `${name} ${event}`).map(([, store]) => store)
        const own = stores.filter((store) => store !== undefined).toSorted((a, b) => a - b)
        expect([name, event, own]).toEqual([name, event, taken.map((_, index) => index)])
      }
    }
  })

  it('may bind a store to the start of a call, as for any tracing channel', async () => {
    const storage = new AsyncLocalStorage<string>()
    const tracing = tracingChannel('fencelock:acquire')
    tracing.start.bindStore(storage, () => 'bound')
    onCleanup(() => void tracing.start.unbindStore(storage))
    const seen: (string | undefined)[] = []
    record('fencelock:acquire', () => seen.push(storage.getStore()))
    await locks.acquire(unique())
    expect(seen).toEqual(['bound', 'bound', 'bound', 'bound'])
    expect(storage.getStore()).toBeUndefined()
  })

  it('may throw: the call and its lock are not affected, and the runtime reports it', async () => {
    const uncaught: Error[] = []
    const listeners = process.listeners('uncaughtException')
    process.removeAllListeners('uncaughtException')
    process.on('uncaughtException', (error) => void uncaught.push(error))
    onCleanup(() => {
      process.removeAllListeners('uncaughtException')
      for (const listener of listeners) process.on('uncaughtException', listener)
    })
    const thrown: string[] = []
    for (const name of ['acquire', 'wait', 'extend', 'release'] as const) {
      record(`fencelock:${name}`, (event) => {
        thrown.push(`${name} ${event}`)
        throw new Error(`${name} ${event}`)
      })
    }
    const throwing = (): never => {
      thrown.push('lost')
      throw new Error('lost')
    }
    subscribe('fencelock:lost', throwing)
    onCleanup(() => {
      unsubscribe('fencelock:lost', throwing)
    })
    const other = closing(new LockManager(options))
    const resource = unique()
    const first = await other.acquire(resource)
    expect(await locks.tryAcquire(resource)).toBeNull()
    const second = locks.acquire(resource, { waitMs: 20_000 })
    await eventually('it waits', () => thrown.includes('wait end'))
    await first.release()
    const lock = await second
    await lock.extend()
    await locks.forceRelease(resource)
    expect(await lock.release()).toBe(false)
    await eventually('the loss was published', () => thrown.includes('lost'))
    await eventually('all are reported', () => uncaught.length === thrown.length)
    expect(new Set(uncaught.map(({ message }) => message))).toEqual(new Set(thrown))
    expect(locks.stats()).toMatchObject({ pending: 0, held: 0, lost: 1 })
  })

  it('keep the caller in the stack of an error', async () => {
    const resource = unique()
    await closing(new LockManager(options)).acquire(resource)
    for (const name of ['acquire', 'extend', 'release'] as const) record(`fencelock:${name}`)
    async function theCaller(): Promise<unknown> {
      const lock = await locks.acquire(resource)
      return lock
    }
    expect((await rejection(theCaller())).stack).toMatch(onBun ? /LockHeldError/ : /theCaller/)
  })

  it('may call the library', async () => {
    const inner: Promise<unknown>[] = []
    const seen = record('fencelock:acquire', (event, context) => {
      if (event !== 'asyncEnd' || context.resources[0]!.startsWith('inner')) return
      inner.push(locks.acquire(unique('inner')).then((lock) => lock.release()))
    })
    await (await locks.acquire(unique())).release()
    expect(await Promise.all(inner)).toEqual([true])
    expect(seen).toHaveLength(8)
  })
})

describe('without subscribers', () => {
  const require = createRequire(import.meta.url)
  const code = `
    const { createRequire } = await import('node:module')
    const require = createRequire(process.cwd() + '/index.js')
    const { LockManager } = require('fencelock')
    const { channel, tracingChannel } = require('node:diagnostics_channel')
    const built = () => Object.keys(require.cache).filter((file) => /lib.channels.(acquires|leases|trace|events)/.test(file))
    const use = async (locks) => {
      const lock = await locks.acquire('a')
      const waiting = locks.acquire('a', { waitMs: 5_000 })
      await lock.extend()
      await new Promise((resolve) => setTimeout(resolve, 50))
      await lock.release()
      await (await waiting).release()
      locks.tryAcquireLocalSync('b').releaseSync()
      await (await locks.acquire('c', { ttlMs: 3_000, renew: true })).release()
      await locks.connect()
    }
    const locks = new LockManager({ local: ':memory:' })
    await use(locks)
    say(built().length)
    const handler = () => {}
    channel('fencelock:lost').subscribe(handler)
    await use(locks)
    say(built().length)
    channel('fencelock:lost').unsubscribe(handler)
    tracingChannel('fencelock:acquire').subscribe({ end: handler })
    await use(locks)
    say(built().length > 0)
    await locks.close()`

  it('no code that builds a context is even loaded', async () => {
    const { stdout, stderr } = await runCode(code)
    expect([stdout.trim().split('\n'), stderr]).toEqual([['0', '0', 'true'], ''])
  })

  it('no context is built, and nothing is reported by the addon, once they have unsubscribed', async () => {
    const locks = closing(new LockManager({ local: ':memory:' }))
    const name = 'tracing:fencelock:acquire:start'
    const handler = (): void => {}
    subscribe(name, handler)
    await (await locks.acquire(unique())).release()
    unsubscribe(name, handler)
    const acquires = require(join(root, 'lib/channels/acquires.js')) as { Acquire: { prototype: object } }
    const calls = require(join(root, 'lib/native/call-batch.js')) as {
      ManagerCalls: { prototype: { server: () => unknown } }
    }
    expect(acquires.Acquire).toBeDefined()
    // Each context asks for the server.
    const asked = vi.spyOn(calls.ManagerCalls.prototype, 'server')
    const lock = await locks.acquire(unique())
    await lock.extend()
    await lock.release()
    expect(await rejection(locks.acquire(''))).toBeInstanceOf(Error)
    expect(asked).not.toHaveBeenCalled()
  })
})
