/** Calls that are made one after another, whose event loop is blocked, cannot read, or ends. */
import { beforeAll, describe, expect, it } from 'vitest'

import { rejection, unique } from '../../fixtures/locks'
import { runCode, startCode } from '../../fixtures/processes/processes'
import { startProxy } from '../../fixtures/servers/proxy'
import { startPrimary, startRedis, type Deployment } from '../../fixtures/servers/redis'
import { eventually } from '../../fixtures/temp'
import { leaseIsRemoved, lockKey } from '../support'
import { ALL, alone, aloneInScript, blockOnceSent, isInline } from './support'

describe('a lone call while the event loop is blocked', () => {
  let redis: Deployment
  beforeAll(async () => {
    redis = await startPrimary({ replicas: 1 })
  })

  it('gets what the server replied in time, however long that is after its time limit', async () => {
    const locks = await alone({ url: redis.url, replicas: 1, commandTimeoutMs: 1_000 })
    for (let round = 0; round < 2; round++) {
      const acquiring = locks.acquireStrong(unique(), { ttlMs: 60_000, ackTimeoutMs: 1_000 })
      blockOnceSent(2_500)
      const lock = await acquiring
      expect(lock.held).toBe(true)
      const releasing = lock.release()
      blockOnceSent(1_500)
      expect(await releasing).toBe(true)
    }
  })

  it('keeps its lease if that is renewed', async () => {
    const locks = await alone({ url: redis.url, replicas: 1 })
    for (const [ttlMs, blockedMs] of [
      [2_600, 3_200],
      [10_000, 1_000],
    ] as const) {
      const acquiring = locks.acquireStrong(unique(), { ttlMs, renew: true, ackTimeoutMs: 1_300 })
      blockOnceSent(blockedMs)
      const lock = await acquiring
      expect(lock.held).toBe(true)
      await lock.release()
    }
  })

  it('holds nothing up that the other thread has to undo', async () => {
    const own = await startPrimary({ replicas: 1, replicaProxies: true })
    const script = startCode(
      `const { LockManager } = await import('fencelock')
       const locks = new LockManager({ redis: { url: ${JSON.stringify(own.primary.url)}, replicas: 1 } })
       for (let round = 0; round < 60; round++) await (await locks.acquireStrong('r', { acks: 0 })).release()
       const held = await locks.acquireStrong('held', { acks: 0, ttlMs: 60_000 })
       for await (const names of hear()) {
         const unproved = names.map((name) => locks.acquireStrong(name, { ttlMs: 60_000, ackTimeoutMs: 150 }).catch((error) => error.code))
         await new Promise((resolve) => setTimeout(resolve, 20))
         const releasing = held.release()
         process.nextTick(() => process.nextTick(() => {
           say('blocked')
           const end = Date.now() + 4_000
           while (Date.now() < end);
           say('free')
         }))
         say([await releasing, await Promise.all(unproved)])
         await locks.close()
       }`,
    )
    own.links[0]!.hold('toServer')
    const names = [unique(), unique()]
    script.tell(names)
    expect(await script.next()).toBe('blocked')
    for (const name of names) await leaseIsRemoved(own.primary, name)
    expect(script.said).not.toContain('free')
    expect(await script.next()).toBe('free')
    expect(await script.next()).toEqual([true, ['INSUFFICIENT_REPLICAS', 'INSUFFICIENT_REPLICAS']])
    script.hangUp()
    expect(await script.ended).toMatchObject({ code: 0, stderr: '' })
  })

  it('is not held any more if its lease ended meanwhile', async () => {
    const locks = await alone({ url: redis.url, replicas: 1 })
    const resource = unique()
    const acquiring = rejection(locks.acquireStrong(resource, { ttlMs: 3_200 }))
    blockOnceSent(3_500)
    expect(await acquiring).toMatchObject({ code: 'LOCK_LOST' })
    expect(await redis.primary.cmd('EXISTS', lockKey(resource))).toBe(0)
  })

  it('is given up and undone by the other thread if the server does not reply', async () => {
    const proxy = await startProxy(redis.primary.port)
    const script = startCode(
      `const { LockManager } = await import('fencelock')
       const locks = new LockManager({ redis: { url: ${JSON.stringify(proxy.url)}, replicas: 1, commandTimeoutMs: 1_600 } })
       ${aloneInScript(ALL)}
       for await (const resource of hear()) {
         const acquiring = locks.acquireStrong(resource, { ttlMs: 60_000, ackTimeoutMs: 100 }).catch((error) => say(error.code))
         setImmediate(() => { say('blocked'); const end = Date.now() + 6_000; while (Date.now() < end); say('free') })
         await acquiring
         await locks.close()
         break
       }`,
    )
    expect(await script.next()).toBe(ALL)
    const resource = unique()
    const answered = proxy.when(resource, { act: 'swallow' })
    script.tell(resource)
    expect(await script.next()).toBe('blocked')
    await answered
    // Long before the event loop is free.
    await leaseIsRemoved(redis.primary, resource)
    expect(script.said).not.toContain('free')
    expect(await script.next()).toBe('free')
    expect(await script.next()).toBe('OUTCOME_UNKNOWN')
    script.hangUp()
    expect(await script.ended).toMatchObject({ code: 0, stderr: '' })
  })
})

describe.runIf(isInline)('a lone call whose event loop cannot read its connection', () => {
  const program = (url: string, commandTimeoutMs: number, stub: string): string => `
    const { createRequire } = await import('node:module')
    const require = createRequire(process.cwd() + '/x.js')
    const net = require('node:net')
    const { Socket } = net
    ${stub}
    const { LockManager } = require('fencelock')
    const locks = new LockManager({ redis: { url: ${JSON.stringify(url)}, replicas: 0, commandTimeoutMs: ${commandTimeoutMs} } })
    const codes = new Set()
    const began = Date.now()
    for (let round = 0; round < 300; round++)
      await locks.acquireStrong('r' + round, { ttlMs: 60_000 }).then((lock) => lock.release()).catch((error) => codes.add(error.code))
    say({ codes: [...codes], ms: Date.now() - began })
    process.exit()`

  it.each([
    ['is refused', `constructor() { throw new Error('on purpose') }`],
    ['is not one of Node', `unref() {} destroy() {}`],
  ])('goes to the other thread when the socket %s, and is not tried all the time', async (_, members) => {
    const server = await startRedis()
    const before = Number((await server.info('stats'))['total_connections_received'])
    const ending = await runCode(program(server.url, 5_000, `net.Socket = class { ${members} }`))
    expect(ending).toMatchObject({ code: 0, stderr: '' })
    expect(JSON.parse(ending.stdout)).toMatchObject({ codes: [] })
    const after = Number((await server.info('stats'))['total_connections_received'])
    expect(after - before).toBeLessThan(8)
  })

  it('ends when the socket is never read', async () => {
    const server = await startRedis()
    const ending = await runCode(
      program(server.url, 300, `net.Socket = class { unref() {} on() {} once() {} destroy() {} }`),
    )
    expect(ending).toMatchObject({ code: 0, stderr: '' })
    const { codes, ms } = JSON.parse(ending.stdout) as { codes: string[]; ms: number }
    expect(codes.every((code) => code === 'OUTCOME_UNKNOWN')).toBe(true)
    expect(ms).toBeLessThan(15_000)
  })
})

describe('a lone call whose event loop has a fake process.nextTick, as tests make it', () => {
  it('ends when its connection does', async () => {
    const server = await startRedis()
    const script = startCode(
      `const { LockManager } = await import('fencelock')
       const redis = { url: ${JSON.stringify(server.url)}, replicas: 0, commandTimeoutMs: 20_000 }
       const locks = new LockManager({ redis, defaults: { ackTimeoutMs: 2_000 } })
       ${aloneInScript(ALL - 1)}
       const { nextTick } = process
       for await (const resource of hear()) {
         process.nextTick = () => {}
         const outcome = await locks.acquireStrong(resource).catch((error) => error.code)
         process.nextTick = nextTick
         say(outcome)
         await locks.close()
         break
       }`,
    )
    expect(await script.next()).toBe(ALL - 1)
    await server.cmd('CLIENT', 'PAUSE', 20_000, 'WRITE')
    script.tell(unique())
    await eventually('it is sent', async () => Number((await server.info('clients')).blocked_clients) > 0)
    // An end, not a break: only that has streams wait for the next tick.
    await server.cmd('CLIENT', 'KILL', 'TYPE', 'normal')
    await server.cmd('CLIENT', 'UNPAUSE')
    const began = performance.now()
    expect(await script.next()).toBe('OUTCOME_UNKNOWN')
    expect(performance.now() - began).toBeLessThan(5_000)
    script.hangUp()
    expect(await script.ended).toMatchObject({ code: 0, stderr: '' })
  })
})

describe('a lone call whose thread ends', () => {
  let redis: Deployment
  beforeAll(async () => {
    redis = await startPrimary({ replicas: 1 })
  })
  const options = (): string =>
    JSON.stringify({ redis: { url: redis.url, replicas: 1 }, defaults: { ackTimeoutMs: 2_000 } })

  it('is undone when a worker is terminated with it in flight', { timeout: 60_000 }, async () => {
    const code = `
      void (async () => {
        const { workerData, parentPort } = await import('node:worker_threads')
        const { LockManager } = await import('fencelock')
        const locks = new LockManager(workerData)
        for (let round = 0, told = false; ; round++) {
          const lock = await locks.acquireStrong('worker ' + (round % 50), { ttlMs: 300_000, waitMs: 10_000 })
          if (!told && round >= 30 && locks.stats().connections[0].open === ${ALL}) {
            told = true
            parentPort.postMessage('it has them')
          }
          await lock.release()
        }
      })()`
    const script = startCode(
      `const { Worker } = await import('node:worker_threads')
       // A busy machine takes a second to start a worker.
       const end = performance.now() + 15_000
       for (let round = 0; round < 10 || (round < 40 && performance.now() < end); round++) {
         const worker = new Worker(${JSON.stringify(code)}, { eval: true, workerData: ${options()} })
         await new Promise((resolve, reject) => worker.once('message', resolve).once('error', reject))
         await new Promise((resolve) => setTimeout(resolve, Math.random() * 10))
         await worker.terminate()
       }
       say('done')
       for await (const line of hear()) {}`,
      { limitMs: 50_000 },
    )
    expect(await script.next(45_000)).toBe('done')
    for (let name = 0; name < 50; name++) await leaseIsRemoved(redis.primary, `worker ${name}`)
    script.hangUp()
    expect(await script.ended).toMatchObject({ code: 0, signal: null, stderr: '' })
  })

  it('is released or undone by a process that exits with it in flight', { timeout: 60_000 }, async () => {
    for (const call of ['acquire', 'release']) {
      const resource = unique()
      const ending = await runCode(
        `const { LockManager } = await import('fencelock')
         const locks = new LockManager(${options()})
         for (let round = 0; round < 50; round++) await (await locks.acquireStrong('r' + round, { ackTimeoutMs: 2_000 })).release()
         const acquire = () => locks.acquireStrong(${JSON.stringify(resource)}, { ttlMs: 300_000 })
         if (${call === 'acquire'}) void acquire()
         else void (await acquire()).release()
         process.nextTick(() => queueMicrotask(() => queueMicrotask(() => queueMicrotask(() => process.exit()))))`,
      )
      expect(ending).toMatchObject({ code: 0, signal: null, stderr: '' })
      await leaseIsRemoved(redis.primary, resource)
    }
  })
})
