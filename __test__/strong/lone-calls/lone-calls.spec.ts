/**
 * Calls that are made one after another. On Node and Unix they have a connection of their own, which
 * JavaScript's thread writes to and its event loop reads.
 */
import { LockManager } from 'fencelock'
import { readFileSync } from 'node:fs'
import { connect, createServer, type AddressInfo } from 'node:net'
import { Duplex } from 'node:stream'
import { TLSSocket } from 'node:tls'
import { beforeAll, describe, expect, it } from 'vitest'

import { onCleanup } from '../../fixtures/cleanup'
import { closing, rejection, unique } from '../../fixtures/locks'
import { runCode, startCode } from '../../fixtures/processes/processes'
import { startProxy } from '../../fixtures/servers/proxy'
import { startPrimary, startRedis, type Deployment } from '../../fixtures/servers/redis'
import { makeCertificates } from '../../fixtures/servers/tls'
import { eventually, sleep } from '../../fixtures/temp'
import { leaseIsRemoved } from '../support'
import { ALL, alone, aloneInScript, open, SHARED } from './support'

describe('calls that are made one after another', () => {
  let redis: Deployment
  beforeAll(async () => {
    redis = await startPrimary({ replicas: 1 })
  })
  const declared = (url: string) => ({ url, replicas: 1 })

  it('get a connection of their own when they are frequent, and no other calls use it', async () => {
    const locks = closing(new LockManager({ redis: declared(redis.url), defaults: { ackTimeoutMs: 2_000 } }))
    for (let call = 0; call < 3; call++) {
      await (await locks.acquireStrong(unique())).release()
      await sleep(400)
    }
    expect(open(locks)).toBe(SHARED)
    for (let round = 0; round < 20; round++)
      await Promise.all([1, 2].map(async () => (await locks.acquireStrong(unique())).release()))
    expect(open(locks)).toBeLessThanOrEqual(SHARED + 1)
    const own = await alone(declared(redis.url))
    expect(open(own)).toBe(ALL)
    const lock = await own.acquireStrong(unique(), { renew: true, ttlMs: 2_600 })
    await sleep(2_800)
    expect(lock.held).toBe(true)
    await lock.release()
  })

  it('have one for each thread', async () => {
    const ending = await runCode(
      `const { Worker } = await import('node:worker_threads')
       const code = ${JSON.stringify(`
         void (async () => {
           const { workerData, parentPort } = await import('node:worker_threads')
           const { LockManager } = await import('fencelock')
           const locks = new LockManager({ redis: workerData, defaults: { ackTimeoutMs: 2_000 } })
           for (let round = 0; round < 300; round++) await (await locks.acquireStrong('r' + (round % 3), { waitMs: 20_000 })).release()
           parentPort.postMessage(locks.stats().connections[0].open)
           await locks.close()
         })()`)}
       const run = () => new Promise((resolve, reject) => {
         const worker = new Worker(code, { eval: true, workerData: ${JSON.stringify(declared(redis.url))} })
         let open
         worker.on('message', (value) => { open = value }).on('error', reject).on('exit', () => resolve(open))
       })
       say(await Promise.all([run(), run()]))`,
    )
    expect(ending).toMatchObject({ code: 0, stderr: '' })
    const all = JSON.parse(ending.stdout) as number[]
    for (const count of all) expect(count).toBeGreaterThanOrEqual(ALL)
  })

  it('do not keep the process alive, and end with it', async () => {
    for (const end of ['', 'process.exit()', 'await locks.close()']) {
      const began = performance.now()
      const ending = await runCode(
        `const { LockManager } = await import('fencelock')
         const locks = new LockManager({ redis: ${JSON.stringify(declared(redis.url))}, defaults: { ackTimeoutMs: 2_000 } })
         ${aloneInScript(ALL)}
         ${end}`,
      )
      expect(ending).toMatchObject({ code: 0, signal: null, stderr: '', stdout: `${ALL}\n` })
      expect(performance.now() - began).toBeLessThan(10_000)
    }
  })

  it('work through TLS, and over a Unix socket', async () => {
    const files = makeCertificates()
    const [encrypted, local] = await Promise.all([
      startRedis({ tls: files }),
      startRedis({ unixSocket: true }),
    ])
    const tls = {
      ca: readFileSync(files.ca),
      cert: readFileSync(files.clientCert),
      key: readFileSync(files.clientKey),
    }
    for (const options of [
      { url: encrypted.tlsUrl, replicas: 0, tls },
      { url: local.socketUrl, replicas: 0 },
    ]) {
      const locks = closing(new LockManager({ redis: options }))
      let token = 0n
      for (let round = 0; round < 100; round++) {
        const lock = await locks.acquireStrong('the same')
        expect(lock.token).toBeGreaterThan(token)
        token = lock.token
        expect(await lock.release()).toBe(true)
      }
      // Without replicas there is no WAIT, and all others share one connection.
      await eventually('lone calls have their connection', async () => {
        await (await locks.acquireStrong('the same')).release()
        return open(locks) === ALL - 1
      })
    }
  })

  it('are undone in the background when their connection breaks, whatever had arrived', async () => {
    for (const deliver of ['before', 'through'] as const) {
      const proxy = await startProxy(redis.primary.port)
      const locks = await alone(declared(proxy.url))
      const resource = unique()
      const cut = proxy.when(resource, { deliver, act: 'cut' })
      expect(await rejection(locks.acquireStrong(resource, { ttlMs: 1_000 }))).toMatchObject({
        code: 'OUTCOME_UNKNOWN',
      })
      await cut
      await eventually('the cleanup has ended', () => locks.stats().cleanups === 0)
      await leaseIsRemoved(redis.primary, resource)
      await (await locks.acquireStrong(resource)).release()
    }
  })

  it('are released after a break in the middle of the release', async () => {
    const proxy = await startProxy(redis.primary.port)
    const locks = await alone(declared(proxy.url))
    const lock = await locks.acquireStrong(unique(), { ttlMs: 60_000 })
    const cut = proxy.when(lock.owner, { deliver: 'before', act: 'cut' })
    expect(await rejection(lock.release())).toMatchObject({ code: 'OUTCOME_UNKNOWN' })
    await cut
    await leaseIsRemoved(redis.primary, lock.resource)
  })

  it('make another connection after a break', async () => {
    const proxy = await startProxy(redis.primary.port)
    const locks = await alone(declared(proxy.url))
    proxy.cut()
    await eventually('the break is noticed', () => open(locks) === 0)
    // Those that find their connection broken take another one.
    for (let round = 0; round < 20; round++)
      expect(await (await locks.acquireStrong(unique())).release()).toBe(true)
    await eventually('it is there', () => proxy.open >= 2)
    expect(await (await locks.acquireStrong(unique())).release()).toBe(true)
  })

  it('go on with a server that has forgotten the scripts', async () => {
    const locks = await alone(declared(redis.url))
    await redis.primary.cmd('SCRIPT', 'FLUSH')
    for (let round = 0; round < 3; round++)
      expect(await (await locks.acquireStrong(unique())).release()).toBe(true)
  })

  it('are told at once that another owner has the lock, while replicas lag', async () => {
    const own = await startPrimary({ replicas: 1, replicaProxies: true })
    const locks = await alone(declared(own.url))
    const held = await locks.acquireStrong(unique(), { ttlMs: 60_000 })
    own.links[0]!.hold('toServer')
    const began = performance.now()
    expect(await locks.tryAcquireStrong(held.resource, { ackTimeoutMs: 5_000 })).toBeNull()
    expect(performance.now() - began).toBeLessThan(3_000)
    const error = await rejection(locks.acquireStrong(unique(), { ackTimeoutMs: 200 }))
    expect(error).toMatchObject({ code: 'INSUFFICIENT_REPLICAS', rolledBack: true })
    own.links[0]!.flow()
    await eventually('locks are granted again', async () => {
      const lock = await locks.tryAcquireStrong(unique(), { ackTimeoutMs: 2_000 }).catch(() => null)
      return lock === null ? false : lock.release()
    })
  })

  it('wait like all others, and are woken', async () => {
    const [one, two] = [await alone(declared(redis.url)), await alone(declared(redis.url))]
    for (let round = 0; round < 20; round++) {
      const lock = await one.acquireStrong('contended', { waitMs: 5_000 })
      const waiting = two.acquireStrong('contended', { waitMs: 5_000 })
      await sleep(10)
      await lock.release()
      await (await waiting).release()
    }
  })

  it('stay calls of their strategy: an abort, a close and an expired lease end them as usual', async () => {
    const locks = await alone(declared(redis.url))
    const held = await locks.acquireStrong(unique(), { ttlMs: 60_000 })
    const abort = new AbortController()
    const waiting = locks.acquireStrong(held.resource, { waitMs: 60_000, signal: abort.signal })
    await sleep(50)
    abort.abort(new Error('on purpose'))
    expect((await rejection(waiting)).message).toBe('on purpose')
    const brief = await locks.acquireStrong(unique(), { ttlMs: 2_000, acks: 0 })
    await sleep(2_100)
    expect(await brief.release()).toBe(false)
    const last = locks.acquireStrong(unique()).catch((error: unknown) => error)
    await locks.close()
    expect(await last).toSatisfy((end: any) => end.code === 'CLOSED' || end.held === false)
  })
})

it('bytes behind the end of an encrypted connection do not stop its event loop', async () => {
  const files = makeCertificates()
  const server = await startRedis()
  const ends: (() => void)[] = []
  // Ends TLS, and then sends more over the connection that carried it.
  const proxy = createServer((raw) => {
    const wire = new Duplex({
      read() {},
      write: (bytes: Buffer, _, done) => void raw.write(bytes, () => done()),
      final: (done) => done(),
    })
    raw.on('data', (bytes) => wire.push(bytes)).on('error', () => undefined)
    const client = new TLSSocket(wire, {
      isServer: true,
      key: readFileSync(files.key),
      cert: readFileSync(files.cert),
    })
    const upstream = connect(server.port, '127.0.0.1')
    for (const one of [client, upstream]) one.on('error', () => undefined)
    client.on('data', (bytes) => upstream.write(bytes))
    upstream.on('data', (bytes) => client.write(bytes))
    onCleanup(() => {
      raw.destroy()
      upstream.destroy()
    })
    ends.push(() => {
      client.end()
      setTimeout(() => raw.write(Buffer.from([23, 3, 3, 0, 0])), 50)
    })
  })
  await new Promise<void>((resolve) => proxy.listen(0, '127.0.0.1', resolve))
  onCleanup(() => proxy.close())
  const { port } = proxy.address() as AddressInfo
  const tls = { ca: readFileSync(files.ca) }
  const redis = { url: `rediss://127.0.0.1:${port}`, replicas: 0, tls }
  const script = startCode(
    `const { LockManager } = await import('fencelock')
     const redis = ${JSON.stringify({ ...redis, tls: { ca: String(tls.ca) } })}
     const locks = new LockManager({ redis, defaults: { ackTimeoutMs: 2_000 } })
     for (let round = 0; round < 50; round++) await (await locks.acquireStrong('r')).release()
     say('ready')
     for await (const line of hear()) {
       for (;;) if (await locks.acquireStrong('r').then((lock) => lock.release(), () => false)) break
       say('works')
       await locks.close()
     }`,
  )
  expect(await script.next()).toBe('ready')
  for (const end of ends.splice(0)) end()
  await sleep(300)
  script.tell('on')
  expect(await script.next()).toBe('works')
  script.hangUp()
  expect(await script.ended).toMatchObject({ code: 0, stderr: '' })
})
