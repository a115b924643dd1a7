/**
 * The guard for data in Redis on clients as they come: they reconnect, wait for their server, and some send
 * again what they had sent before.
 */
import { BackendUnavailableError, OutcomeUnknownError, StaleTokenError, redisGuard } from 'fencelock/guard'
import { beforeAll, describe, expect, it, vi } from 'vitest'

import { onCleanup } from '../fixtures/cleanup'
import { ioredis, load, nodeRedis } from '../fixtures/examples/redis-clients'
import { rejection, unique } from '../fixtures/locks'
import { onBun, onBun12 } from '../fixtures/processes/runtimes'
import { startProxy, type FaultProxy } from '../fixtures/servers/proxy'
import { startCluster, startRedis, type RedisServer } from '../fixtures/servers/redis'
import { eventually, sleep } from '../fixtures/temp'

let redis: RedisServer
beforeAll(async () => {
  redis = await startRedis()
})

/** With the options of a README: only the address. */
const clients: Record<string, (port: number) => Promise<any>> = {
  ioredis: async (port) => ioredis(new (load('ioredis'))(port)),
  'node-redis': (port) => nodeRedis(load('redis').createClient({ url: `redis://127.0.0.1:${port}` })),
  ...(onBun && {
    'Bun.RedisClient': async (port) => {
      const { RedisClient } = (globalThis as any).Bun
      const client = new RedisClient(`redis://127.0.0.1:${port}`)
      onCleanup(() => client.close())
      await client.connect()
      return client
    },
  }),
}

const withoutResend = async (port: number) =>
  ioredis(new (load('ioredis'))(port, { autoResendUnfulfilledCommands: false }))

/** The guard of a client behind a proxy, connected, with its scripts in the server. */
async function behindProxy(connect: (port: number) => Promise<any>, options = {}) {
  const proxy = await startProxy(redis.port)
  const client = await connect(proxy.port)
  const guard = redisGuard({ client, ...options })
  const resource = unique()
  await guard.set({ resource, token: 1n }, resource, 'first')
  return { proxy, guard, resource }
}

/** Starts a call whose script runs and whose answer is lost; resolves when it has run. */
async function losingAnswer(proxy: FaultProxy, call: () => Promise<unknown>, ran: () => Promise<boolean>) {
  proxy.hold('toClient')
  const outcome = rejection(call())
  await eventually('it ran', ran)
  return {
    outcome,
    breakConnection: () => {
      proxy.cut()
      proxy.flow()
    },
  }
}

const holds = (key: string, value: string) => async () => (await redis.cmd('GET', key)) === value

/** Bun 1.2 never settles what it had sent before a break, except with the answer to a later command. */
const bounded = onBun12 ? { timeoutMs: 1_000 } : {}

describe.each(Object.keys(clients))('%s as it comes', (kind) => {
  const connect = clients[kind]!
  const isBun12 = onBun12 && kind === 'Bun.RedisClient'

  it('never reports a write that stands as refused, when its answer is lost and a newer holder follows', async () => {
    const { proxy, guard, resource } = await behindProxy(connect, bounded)
    const own = redisGuard({ client: await connect(redis.port) })
    const write = () => guard.set({ resource, token: 5n }, resource, 'written')
    const { outcome, breakConnection } = await losingAnswer(proxy, write, holds(resource, 'written'))
    await own.advance({ resource, token: 6n })
    breakConnection()
    const error = await outcome
    expect(error).toBeInstanceOf(OutcomeUnknownError)
    expect(error).toMatchObject({ code: 'OUTCOME_UNKNOWN', resource })
    expect(await redis.cmd('GET', resource)).toBe('written')
    // The connection is back, and no break is left over from before.
    const stale = await rejection(guard.set({ resource, token: 5n }, resource, 'again'))
    // The client of Bun 1.2 gives its answer to the write before.
    expect(stale).toBeInstanceOf(isBun12 ? OutcomeUnknownError : StaleTokenError)
  })

  it('never takes the answer to another command for its own, after one was lost', async () => {
    const { proxy, guard, resource } = await behindProxy(connect, bounded)
    const key = unique()
    const write = () => guard.set({ resource, token: 5n }, key, 'mine', { if: 'absent' })
    const { outcome, breakConnection } = await losingAnswer(proxy, write, holds(key, 'mine'))
    breakConnection()
    // Clients reconnect after 50 to 100 ms; what is called before that may be rejected.
    await sleep(300)
    const codeOf = (call: Promise<unknown>) =>
      call.then(String, ({ code, message }: { code?: string; message: string }) => `${code} ${message}`)
    // Each of these would get the answer to the next one.
    const codes = await Promise.all([
      codeOf(guard.set({ resource, token: 1n }, resource, 'stale')),
      codeOf(guard.highWater(resource)),
      codeOf(guard.highWater(unique())),
      codeOf(guard.hset({ resource, token: 5n }, resource, { a: 1 })),
      codeOf(guard.set({ resource, token: 5n }, unique(), 'last')),
    ])
    const own = [/STALE_TOKEN/, /^5$/, /^null$/, /WRONGTYPE/, /^true$/]
    for (const [index, code] of codes.entries()) {
      if (!/OUTCOME_UNKNOWN|BACKEND_UNAVAILABLE/.test(code)) expect(code).toMatch(own[index]!)
    }
    expect(await outcome).toBeInstanceOf(OutcomeUnknownError)
    expect(await redis.cmd('GET', resource)).toBe('first')
  })

  it('never reports a condition as failed that failed because of the lost answer’s own write', async () => {
    const { proxy, guard, resource } = await behindProxy(connect, bounded)
    const key = unique()
    const write = () => guard.set({ resource, token: 5n }, key, 'mine', { if: 'absent' })
    const { outcome, breakConnection } = await losingAnswer(proxy, write, holds(key, 'mine'))
    breakConnection()
    expect(await outcome).toBeInstanceOf(OutcomeUnknownError)
  })

  it('settles within timeoutMs when the server does not answer or is away', async () => {
    const { proxy, guard, resource } = await behindProxy(connect, { timeoutMs: 60_000 })
    proxy.swallow('toClient')
    const at = { resource, token: 5n }
    const begin = performance.now()
    const silent = await rejection(guard.set(at, resource, 'x', { timeoutMs: 200 }))
    expect(silent).toBeInstanceOf(OutcomeUnknownError)
    expect(silent.message).toContain('none within 200 ms')
    proxy.refusing = true
    proxy.cut()
    const limit = { timeoutMs: 200 }
    const errors = await Promise.all(
      [
        guard.set(at, resource, 'x', limit),
        guard.hset(at, unique(), { a: 1 }, limit),
        guard.del(at, unique(), limit),
        guard.run(at, 'return 1', limit),
        guard.advance(at, limit),
      ].map((call) => rejection(call)),
    )
    for (const { name } of errors) expect(name).toMatch(/OutcomeUnknownError|BackendUnavailableError/)
    const read = await rejection(guard.highWater(resource, limit))
    expect(read).toBeInstanceOf(BackendUnavailableError)
    expect(read.message).not.toMatch(/written/)
    expect(performance.now() - begin).toBeLessThan(10_000)
  })
})

it('ends the wait for what ioredis drops without settling it, when the connection breaks', async () => {
  const { proxy, guard, resource } = await behindProxy(withoutResend, { timeoutMs: Infinity })
  const write = () => guard.set({ resource, token: 5n }, resource, 'written')
  const { outcome, breakConnection } = await losingAnswer(proxy, write, holds(resource, 'written'))
  breakConnection()
  const error = await outcome
  expect(error).toBeInstanceOf(OutcomeUnknownError)
  expect(error.message).toContain('the connection was closed')
  await guard.set({ resource, token: 5n }, resource, 'again')
  expect(await redis.cmd('GET', resource)).toBe('again')
})

it('ends the wait for what the connections of an ioredis cluster drop', async () => {
  const node = await startCluster()
  const proxy = await startProxy(node.port)
  const cluster = new (load('ioredis').Cluster)([{ host: '127.0.0.1', port: proxy.port }], {
    natMap: { [`127.0.0.1:${node.port}`]: { host: '127.0.0.1', port: proxy.port } },
    clusterNodeRetryStrategy: () => 20,
    redisOptions: { autoResendUnfulfilledCommands: false },
  })
  const guard = redisGuard({ client: ioredis(cluster), timeoutMs: Infinity })
  const resource = unique()
  const at = { resource, token: 5n }
  await guard.set(at, resource, 'first')
  const ran = async () => (await node.cmd('GET', resource)) === 'written'
  const { outcome, breakConnection } = await losingAnswer(
    proxy,
    () => guard.set(at, resource, 'written'),
    ran,
  )
  breakConnection()
  expect(await outcome).toBeInstanceOf(OutcomeUnknownError)
  await guard.set(at, resource, 'again')
  expect(await node.cmd('GET', resource)).toBe('again')
})

it('a read that was not answered, or refused, says nothing of a write', async () => {
  const { proxy, guard, resource } = await behindProxy(clients.ioredis!)
  const controller = new AbortController()
  const reason = new Error('enough')
  const { signal } = controller
  proxy.swallow('toClient')
  const [silent, aborted] = [
    guard.highWater(resource, { timeoutMs: 100 }),
    guard.highWater(resource, { signal }),
  ]
  expect(await rejection(silent)).toMatchObject({
    code: 'BACKEND_UNAVAILABLE',
    resource,
    message: expect.stringMatching(
      /^the fence of .* cannot be read: there was no answer \(none within 100 ms\)/,
    ),
  })
  controller.abort(reason)
  expect(await rejection(aborted)).toBe(reason)
  // The client sends it again, and the answer to that is as good as one to the first attempt.
  const again = guard.highWater(resource)
  await redis.cmd('SET', guard.fenceKey(resource), 'no token')
  proxy.cut()
  proxy.flow()
  const odd = await rejection(again)
  expect(odd).toMatchObject({
    code: 'UNSUPPORTED',
    message: expect.stringContaining('does not hold a token'),
  })
  expect(odd.message).not.toMatch(/written/)
})

it('a read after a break is repeated on a server that has forgotten its script', async () => {
  const { proxy, guard, resource } = await behindProxy(clients.ioredis!)
  proxy.swallow('toClient')
  await redis.resetStats()
  const read = guard.highWater(resource)
  await eventually('it ran', async () => ((await redis.calls()).get ?? 0) > 0)
  await redis.cmd('SCRIPT', 'FLUSH')
  proxy.cut()
  proxy.flow()
  expect(await read).toBe(1n)
})

it('ends the wait with the signal: with its reason before anything is sent, and as unknown afterwards', async () => {
  const { proxy, guard, resource } = await behindProxy(clients.ioredis!)
  const at = { resource, token: 5n }
  const reason = new Error('enough')
  await redis.resetStats()
  await expect(guard.set(at, resource, 'x', { signal: AbortSignal.abort(reason) })).rejects.toBe(reason)
  expect((await redis.calls()).evalsha).toBeUndefined()
  const controller = new AbortController()
  const { outcome } = await losingAnswer(
    proxy,
    () => guard.set(at, resource, 'written', { signal: controller.signal }),
    holds(resource, 'written'),
  )
  controller.abort(reason)
  const error = await outcome
  expect(error).toBeInstanceOf(OutcomeUnknownError)
  expect(error.cause).toMatchObject({ cause: reason })
})

it('listens to a signal once, however many calls wait on it, and no longer than they do', async () => {
  const { guard, resource } = await behindProxy(clients.ioredis!)
  const { signal } = new AbortController()
  const listen = vi.spyOn(signal, 'addEventListener')
  const unlisten = vi.spyOn(signal, 'removeEventListener')
  const write = () => guard.set({ resource, token: 5n }, resource, 'x', { signal })
  await Promise.all(Array.from({ length: 20 }, write))
  expect(listen).toHaveBeenCalledTimes(1)
  expect(unlisten).toHaveBeenCalledTimes(1)
})

it('sends nothing if a signal cannot be listened to, and rejects with its error', async () => {
  const { guard, resource } = await behindProxy(clients.ioredis!)
  const failure = new Error('no listeners today')
  const addEventListener = (): never => {
    throw failure
  }
  const signal = { aborted: false, addEventListener, removeEventListener: () => {} } as never
  await redis.resetStats()
  expect(await rejection(guard.set({ resource, token: 5n }, resource, 'x', { signal }))).toBe(failure)
  expect((await redis.calls()).evalsha).toBeUndefined()
})

it('never reports a script as failed that failed because of what its first, unanswered run wrote', async () => {
  const { proxy, guard, resource } = await behindProxy(clients.ioredis!)
  const key = unique()
  const script = `if redis.call('EXISTS', KEYS[1]) == 1 then error('exists') end redis.call('SET', KEYS[1], 'mine')`
  const run = (at = key) => guard.run({ resource, token: 5n }, script, { keys: [at] })
  await run(unique()) // The server knows the script from now on.
  const { outcome, breakConnection } = await losingAnswer(proxy, () => run(), holds(key, 'mine'))
  breakConnection()
  const error = await outcome
  expect(error).toBeInstanceOf(OutcomeUnknownError)
  expect(error.message).toContain('exists')
  expect((await rejection(run())).message).toContain('exists')
})

it('is not hurried by a test that turns its clock forward', async () => {
  const { proxy, guard, resource } = await behindProxy(clients.ioredis!)
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
  onCleanup(() => vi.useRealTimers())
  proxy.hold('toClient')
  const call = guard.set({ resource, token: 5n }, resource, 'written')
  vi.advanceTimersByTime(60_000)
  vi.useRealTimers()
  await eventually('it was written', holds(resource, 'written'))
  proxy.flow()
  expect(await call).toBe(true)
})

it('listens to a client once, however many guards it has', async () => {
  const client = await clients.ioredis!(redis.port)
  const before = client.listenerCount('close') as number
  for (let count = 0; count < 30; count++) redisGuard({ client, prefix: `p${count}` })
  expect(client.listenerCount('close')).toBe(before + 1)
})

it.each([
  [{ timeoutMs: 0 }, 'RangeError', 'timeoutMs'],
  [{ timeoutMs: '5' }, 'TypeError', 'timeoutMs'],
  [{ timeoutMs: 86_400_001 }, 'RangeError', 'timeoutMs'],
  [{ signal: {} }, 'TypeError', 'signal must be an AbortSignal'],
  [{ timeoutms: 5 }, 'TypeError', 'did you mean "timeoutMs"?'],
])('refuses %o', async (options, name, message) => {
  const guard = redisGuard({ client: await clients.ioredis!(redis.port) })
  const at = { resource: 'r', token: 1n }
  for (const call of [
    () => guard.set(at, 'k', 'v', options as never),
    () => guard.hset(at, 'k', { a: 1 }, options as never),
    () => guard.del(at, 'k', options as never),
    () => guard.run(at, 'return 1', options as never),
    () => guard.advance(at, options as never),
    () => guard.highWater('r', options as never),
  ]) {
    const error = await rejection(call())
    expect(error).toMatchObject({ name, code: 'INVALID_OPTION' })
    expect(error.message).toContain(message)
  }
})
