/** Timers, queues and clocks that a test has replaced before it imports the package. */
import { join } from 'node:path'
import { expect, it } from 'vitest'

import { runCode } from '../fixtures/processes/processes'
import { root, tempDir } from '../fixtures/temp'

/**
 * Code that replaces everything that the usual fakes can, and puts it back with `restore`. Nothing ever
 * fires.
 */
const fakes = `
  const timers = await import('node:timers')
  const promises = await import('node:timers/promises')
  const hosts = [
    [globalThis, ['setTimeout', 'setInterval', 'setImmediate', 'clearTimeout', 'clearInterval', 'clearImmediate', 'queueMicrotask']],
    [timers.default, ['setTimeout', 'setInterval', 'setImmediate']],
    [promises.default, ['setTimeout', 'setInterval', 'setImmediate']],
    [process, ['nextTick', 'hrtime']],
    [performance, ['now']],
    [Date, ['now']],
  ]
  const real = hosts.map(([host, names]) => names.map((name) => host[name]))
  const fired = []
  const replace = (host, name, value) => Object.defineProperty(host, name, { value, configurable: true, writable: true })
  const restore = () => { hosts.forEach(([host, names], i) => names.forEach((name, k) => replace(host, name, real[i][k]))); clearInterval(alive) }
  const install = () => hosts.forEach(([host, names]) => names.forEach((name) => {
    if (host === promises.default) replace(host, name, () => new Promise(() => {}))
    else replace(host, name, name === 'now' ? () => 1_000 : () => ({ ref() {}, unref() {}, hasRef: () => true }))
  }))
  const { createRequire } = await import('node:module')
  const require = createRequire(${JSON.stringify(join(root, 'index.js'))})
  // What a test runner does, too.
  const alive = setInterval(() => {}, 1_000)
  install()
`

const run = (code: string) => runCode(fakes + code, { limitMs: 25_000 })

it('decide about no call', async () => {
  const path = join(tempDir(), 'locks.sqlite')
  const ending = await run(`
    const { LockManager } = require('./index.js')
    const locks = new LockManager({ local: ${JSON.stringify(path)} })
    const results = []
    // More than once: no place for a call is lost.
    for (let round = 0; round < 3; round++) {
      const lock = await locks.acquireLocal('a', { renew: true })
      const controller = new AbortController()
      const waiting = locks.acquireLocal('a', { waitMs: 60_000, signal: controller.signal }).catch((error) => error)
      const next = locks.acquireLocal('a', { waitMs: 60_000 })
      controller.abort('enough')
      const busy = await locks.tryAcquireLocal('a')
      results.push(await waiting, busy, await lock.release(), await (await next).release())
      results.push(await locks.withLock('b', () => 'done'))
      results.push((await Promise.all(Array.from({ length: 40 }, (_, i) => locks.acquireLocal('many' + i).then((one) => one.release())))).every(Boolean))
    }
    // Reported by a native timer.
    const ends = await locks.acquireLocal('short', { ttlMs: 2_000 })
    await new Promise((resolve) => ends.signal.addEventListener('abort', resolve))
    results.push(ends.signal.reason.code)
    await locks.close()
    restore()
    say(results)`)
  expect(ending).toMatchObject({ code: 0, signal: null, stderr: '' })
  const round = ['enough', null, true, true, 'done', true]
  expect(JSON.parse(ending.stdout)).toEqual([...round, ...round, ...round, 'LOCK_LOST'])
})

it('decide about no listing', async () => {
  const ending = await run(`
    const { LockManager } = require('./index.js')
    const locks = new LockManager({ local: ':memory:' })
    globalThis.kept = await locks.acquire('a', { ttlMs: 60_000 })
    const found = []
    for (let round = 0; round < 3; round++) for await (const { resource } of locks.list()) found.push(resource)
    await locks.close({ drainMs: 0 })
    restore()
    say(found)`)
  expect(ending).toMatchObject({ code: 0, signal: null, stderr: '' })
  expect(JSON.parse(ending.stdout)).toEqual(['a', 'a', 'a'])
})

it('decide about no retry of a guard', async () => {
  const ending = await run(`
    const { retry } = require('./guard/sql/retry.js')
    const { uptime } = process
    let calls = 0
    const done = await retry(() => { if (++calls < 4) throw new Error('conflict'); return 'done' }, () => true)
    const began = uptime()
    let tries = 0
    let first
    const failed = await retry(() => { tries++; first ??= uptime() - began; throw new Error('conflict ' + (uptime() - began > 0.15)) }, () => true, 150).catch((error) => error.message)
    const took = uptime() - began
    restore()
    say({ done, calls, failed, patient: (tries > 1 || first > 0.1) && tries < 31 && took < 10 })`)
  expect(ending).toMatchObject({ code: 0, signal: null, stderr: '' })
  expect(JSON.parse(ending.stdout)).toEqual({
    done: 'done',
    calls: 4,
    failed: 'conflict true',
    patient: true,
  })
})
