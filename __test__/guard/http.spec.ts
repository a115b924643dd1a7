/** Fencing over HTTP: the headers, the check, and the real frameworks. */
import { LockManager } from 'fencelock'
import {
  type Fencing,
  LockLostError,
  StaleTokenError,
  fencedFetch,
  fencingHeaders,
  httpFence,
  redisGuard,
} from 'fencelock/guard'
import { createServer, request as httpRequest, type RequestListener } from 'node:http'
import type { AddressInfo } from 'node:net'
import { beforeAll, describe, expect, it, vi } from 'vitest'

import { onCleanup } from '../fixtures/cleanup'
import { clients, load, runExample } from '../fixtures/examples/redis-clients'
import { closing, rejection, unique } from '../fixtures/locks'
import { startRedis, type RedisServer } from '../fixtures/servers/redis'
import { tempDir } from '../fixtures/temp'

/** A guard in memory: what the check does with one is the same for all. */
function memoryGuard(fail?: Error) {
  const stored = new Map<string, bigint>()
  return {
    stored,
    async advance({ resources, token }: { resources: readonly string[]; token: bigint }) {
      if (fail) throw fail
      for (const resource of resources) {
        const current = stored.get(resource) ?? 0n
        // As the guards do it.
        if (current > token)
          throw new StaleTokenError('stale', {
            code: 'STALE_TOKEN',
            resource,
            strategy: undefined,
            token,
            current,
          } as any)
      }
      for (const resource of resources) stored.set(resource, token)
    },
  }
}

const headers = (token: string, resource: string) => ({
  'fencing-token': token,
  'fencing-resource': resource,
})

describe('the headers', () => {
  it('carry token and resources, whatever the names are', async () => {
    const resources = ['a,b', 'ü/🔒 "x"', '%41', "plain-._~!*'()", '\0\n', 'é'.repeat(256)]
    const written = fencingHeaders({ resources, token: 2n ** 53n - 1n })
    expect(Object.values(written).join('')).toMatch(/^[!-~]+$/)
    const fence = httpFence(memoryGuard())
    expect(await fence.check(new Headers(written))).toEqual({
      passed: true,
      fencing: { resource: 'a,b', resources, token: 2n ** 53n - 1n },
    })
    expect(fencingHeaders({ resource: 'invoice:42', token: 7n })).toEqual({
      'Fencing-Token': '7',
      'Fencing-Resource': 'invoice%3A42',
    })
    expect(() => fencingHeaders({ resource: 'r' } as any)).toThrow(
      expect.objectContaining({ code: 'INVALID_OPTION' }),
    )
  })

  it.each([
    ['no token', { 'fencing-resource': 'r' }],
    ['no resource', { 'fencing-token': '1' }],
    ['nothing', {}],
    ['an empty token', headers('', 'r')],
    ['two tokens', headers('1, 2', 'r')],
    ['the same token twice', headers('1, 1', 'r')],
    ['two tokens in an array', { 'fencing-token': ['1', '1'], 'fencing-resource': 'r' }],
    ['a huge token', headers(String(2n ** 53n), 'r')],
    ['a token of 400 digits', headers('9'.repeat(400), 'r')],
    ['a negative token', headers('-1', 'r')],
    ['a signed token', headers('+1', 'r')],
    ['zero', headers('0', 'r')],
    ['a leading zero', headers('01', 'r')],
    ['hexadecimal', headers('0x1f', 'r')],
    ['a float', headers('1.0', 'r')],
    ['an exponent', headers('1e3', 'r')],
    ['a bigint literal', headers('1n', 'r')],
    ['other digits', headers('١', 'r')],
    ['a token with a space', headers('1 ', 'r')],
    ['an empty resource', headers('1', '')],
    ['an empty one among others', headers('1', 'a,,b')],
    ['a comma at the end', headers('1', 'a,')],
    ['a percent sign alone', headers('1', '%')],
    ['half an escape', headers('1', 'a%4')],
    ['no hexadecimal', headers('1', '%zz')],
    ['bytes that are no UTF-8', headers('1', '%ff%fe')],
    ['an encoded surrogate', headers('1', '%ED%A0%80')],
    ['an overlong form', headers('1', '%C0%AF')],
    ['a raw character', headers('1', 'é')],
    ['a space inside', headers('1', 'a b')],
    ['513 bytes', headers('1', 'x'.repeat(513))],
    ['513 bytes, encoded', headers('1', `x${'%C3%A9'.repeat(256)}`)],
    ['a resource named twice', headers('1', 'a,b,%61')],
    ['1,001 resources', headers('1', Array.from({ length: 1001 }, (_, index) => index).join(','))],
  ])('are refused with 400: %s', async (_, given) => {
    const guard = memoryGuard()
    const result = await httpFence(guard).check(given)
    if (result.passed) throw new Error('it passed')
    expect([result.status, result.headers['Content-Type']]).toEqual([400, 'application/problem+json'])
    expect(JSON.parse(result.body)).toEqual({
      type: 'urn:fencelock:malformed-fencing',
      title: expect.any(String),
      status: 400,
      detail: expect.stringMatching(/Fencing-/),
    })
    expect(guard.stored.size).toBe(0)
  })

  it('may come in several lines for several resources, as lists in HTTP do', async () => {
    const result = await httpFence(memoryGuard()).check(
      new Headers([
        ['Fencing-Token', '3'],
        ['Fencing-Resource', 'a'],
        ['Fencing-Resource', 'b%2Cc'],
      ]),
    )
    expect(result).toMatchObject({ passed: true, fencing: { resources: ['a', 'b,c'] } })
  })
})

describe('the check', () => {
  it('refuses a stale token with 409, and lets equal and higher ones in', async () => {
    const fence = httpFence(memoryGuard())
    expect(await fence.check(headers('5', 'r'))).toMatchObject({ passed: true })
    expect(await fence.check(headers('5', 'r'))).toMatchObject({ passed: true })
    const refused = await fence.check(headers('4', 'r'))
    if (refused.passed) throw new Error('it passed')
    expect(refused.status).toBe(409)
    expect(refused.headers).toEqual({
      'Content-Type': 'application/problem+json',
      'Cache-Control': 'no-store',
    })
    expect(JSON.parse(refused.body)).toEqual({
      type: 'urn:fencelock:stale-token',
      title: 'Stale fencing token',
      status: 409,
      detail: expect.stringContaining('5'),
      resource: 'r',
      token: '4',
      current: '5',
    })
    expect(await fence.check(headers('6', 'r'))).toMatchObject({ passed: true })
  })

  it('refuses a token of another resource than the request is about', async () => {
    const guard = memoryGuard()
    const fence = httpFence(guard, { resource: (request) => [request.url, 'all'] })
    const request = { url: 'mine' }
    expect(await fence.check(headers('5', 'mine,all,more'), request)).toMatchObject({ passed: true })
    guard.stored.clear()
    for (const other of ['mine', 'all', 'yours']) {
      expect(await fence.check(headers('5', other), request)).toMatchObject({ passed: false, status: 400 })
    }
    expect(guard.stored.size).toBe(0)
  })

  it('lets nothing in when it is not told what the request is about', async () => {
    const guard = memoryGuard()
    for (const answer of [undefined, null, [], ['r', undefined], 5, Promise.resolve('r')] as any[]) {
      const fence = httpFence(guard, { resource: () => answer })
      expect(await rejection(fence.check(headers('5', 'r')))).toMatchObject({ code: 'INVALID_OPTION' })
    }
    expect(guard.stored.size).toBe(0)
  })

  it('lets nothing in when the guard fails otherwise', async () => {
    const failure = new Error('the store is away')
    expect(await rejection(httpFence(memoryGuard(failure)).check(headers('5', 'r')))).toBe(failure)
  })

  it('refuses what is no guard and no option', () => {
    for (const [guard, options] of [
      [undefined],
      [{}],
      [memoryGuard(), { resource: 'r' }],
      [memoryGuard(), { resourse: () => 'r' }],
    ] as any[]) {
      expect(() => httpFence(guard, options)).toThrow(expect.objectContaining({ code: 'INVALID_OPTION' }))
    }
    expect(() => httpFence(memoryGuard()).fetch(1 as any)).toThrow(
      expect.objectContaining({ code: 'INVALID_OPTION' }),
    )
  })
})

let redis: RedisServer
beforeAll(async () => {
  redis = await startRedis()
})
const newGuard = async () => redisGuard({ client: await clients.ioredis!(redis.port) })

async function listen(listener: (...args: Parameters<RequestListener>) => unknown): Promise<string> {
  const server = createServer((request, response) => void listener(request, response))
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  onCleanup(() => {
    server.closeAllConnections()
    server.close()
  })
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`
}

/** A service that keeps a value: GET answers it, PUT writes it through the guard, with a pause before if asked for. */
interface Service {
  guard: ReturnType<typeof redisGuard>
  fence: ReturnType<typeof httpFence>
  /** What the handler does; told when it is inside. */
  handle: (fencing: Fencing, method: string, body: string) => Promise<string>
}

async function service(options = {}): Promise<Service & { pause(): { inside: Promise<void>; go(): void } }> {
  const guard = await newGuard()
  let paused: { reached: () => void; until: Promise<void> } | undefined
  return {
    guard,
    fence: httpFence(guard, options),
    pause() {
      let reached = () => {}
      let go = () => {}
      const inside = new Promise<void>((resolve) => (reached = resolve))
      const until = new Promise<void>((resolve) => (go = resolve))
      paused = { reached, until }
      return { inside, go }
    },
    async handle(fencing, method, body) {
      const pause = paused
      paused = undefined
      if (pause) {
        pause.reached()
        await pause.until
      }
      if (method === 'GET') return `read ${String(await redis.cmd('GET', fencing.resource))}`
      await guard.set(fencing, fencing.resource, body)
      return 'written'
    },
  }
}

/** Each framework, started with a service; answers its address. */
const frameworks: Record<string, (it: Service) => Promise<string>> = {
  'node http': ({ fence, handle }) =>
    listen((request, response) => {
      const fail = (error: unknown) => {
        const problem = fence.problem(error)
        response.writeHead(problem?.status ?? 500, problem?.headers).end(problem?.body)
      }
      const answer = async (error?: unknown) => {
        let body = ''
        for await (const part of request) body += String(part)
        if (error) return fail(error)
        const { fencing, method = '' } = request as typeof request & { fencing: Fencing }
        return handle(fencing, method, body).then((text) => response.end(text), fail)
      }
      fence.node(request, response, (error) => void answer(error))
    }),
  express: ({ fence, handle }) => {
    const express = load('express')
    const app = express()
    app.use(express.text({ type: () => true }), fence.node)
    app.all('/data', (request: any, response: any) =>
      handle(request.fencing, request.method, request.body).then((text) => response.send(text)),
    )
    app.use((error: unknown, _request: any, response: any, next: (error: unknown) => void) => {
      const problem = fence.problem(error)
      if (problem === null) return next(error)
      response.status(problem.status).set(problem.headers).send(problem.body)
    })
    return listen(app)
  },
  fastify: async ({ fence, handle }) => {
    const app = load('fastify')()
    app.addHook('preHandler', fence.fastify)
    app.addContentTypeParser('*', { parseAs: 'string' }, (_request: any, body: string, done: any) =>
      done(null, body),
    )
    app.all('/data', (request: any) => handle(request.fencing, request.method, request.body))
    app.setErrorHandler((error: unknown, _request: any, reply: any) => {
      const problem = fence.problem(error)
      if (problem === null) throw error
      return reply.code(problem.status).headers(problem.headers).send(problem.body)
    })
    onCleanup(() => app.close())
    return app.listen({ port: 0, host: '127.0.0.1' })
  },
  hono: ({ fence, handle }) => {
    const app = new (load('hono').Hono)()
    app.use(fence.hono)
    app.all('/data', async (context: any) =>
      context.text(await handle(context.get('fencing'), context.req.method, await context.req.text())),
    )
    return serveFetch((request) => app.fetch(request))
  },
  'a fetch handler': ({ fence, handle }) =>
    serveFetch(
      fence.fetch(
        async (request: Request, fencing) =>
          new Response(await handle(fencing, request.method, await request.text())),
      ),
    ),
}

/** Bun.serve on Bun; elsewhere a server that calls a function from Request to Response. */
async function serveFetch(handler: (request: Request) => Response | Promise<Response>): Promise<string> {
  const bun = (globalThis as any).Bun
  if (bun) {
    const server = bun.serve({
      port: 0,
      hostname: '127.0.0.1',
      fetch: handler,
      error: () => new Response('failed', { status: 500 }),
    })
    onCleanup(() => server.stop(true))
    return `http://127.0.0.1:${server.port}`
  }
  return listen(async (request, response) => {
    let body = ''
    for await (const part of request) body += String(part)
    const all = new Headers()
    for (let at = 0; at < request.rawHeaders.length; at += 2)
      all.append(request.rawHeaders[at]!, request.rawHeaders[at + 1]!)
    const answer = await Promise.resolve(
      handler(
        new Request(`http://localhost${request.url}`, {
          method: request.method!,
          headers: all,
          ...(body && { body }),
        }),
      ),
    ).catch(() => new Response('failed', { status: 500 }))
    response.writeHead(answer.status, Object.fromEntries(answer.headers)).end(await answer.text())
  })
}

it('leaves an answer alone that another handler has begun meanwhile', async () => {
  const slow = {
    async advance() {
      await new Promise((resolve) => setTimeout(resolve, 20))
      throw new StaleTokenError('stale', {
        code: 'STALE_TOKEN',
        resource: 'r',
        token: 1n,
        current: 2n,
      } as any)
    },
  }
  // One that could not be sent would be an unhandled rejection, which fails the run.
  const base = await listen((request, response) => {
    httpFence(slow).node(request, response, () => response.end('passed'))
    response.writeHead(503)
    setTimeout(() => response.end('too late'), 60)
  })
  const response = await fetch(base, { headers: fencingHeaders({ resource: 'r', token: 1n }) })
  expect([response.status, await response.text()]).toEqual([503, 'too late'])
})

describe.each(Object.keys(frameworks))('on %s', (name) => {
  const start = frameworks[name]!

  it('lets the holder through, and refuses the one before it, reads included', async () => {
    const base = await start(await service())
    const resource = unique()
    const [a, b] = [
      { resource, token: 11n },
      { resource, token: 12n },
    ]
    const put = (lock: typeof a, body: string) => fencedFetch(lock, `${base}/data`, { method: 'PUT', body })
    const first = await put(a, 'A')
    expect([first.status, await first.text()]).toEqual([200, 'written'])
    // A guarded GET advances first: what it read cannot be changed by an older holder any more.
    expect(await (await fencedFetch(b, `${base}/data`)).text()).toBe('read A')
    const error = await rejection(put(a, 'A again'))
    expect(error).toBeInstanceOf(StaleTokenError)
    expect(error).toMatchObject({ resource, token: 11n, current: 12n })
    expect(await redis.cmd('GET', resource)).toBe('A')
    expect((await put(b, 'B')).status).toBe(200)
    const raw = await fetch(`${base}/data`, { method: 'PUT', body: 'A', headers: fencingHeaders(a) })
    expect([raw.status, raw.headers.get('content-type')]).toEqual([
      409,
      expect.stringMatching(/^application\/problem\+json/),
    ])
    expect(await raw.json()).toMatchObject({ status: 409, token: '11', current: '12' })
    expect(await redis.cmd('GET', resource)).toBe('B')
  })

  it('answers 400 to headers that are missing, malformed or sent twice, and does not call the handler', async () => {
    let called = 0
    const base = await start({ ...(await service()), handle: async () => String(called++) })
    const send = (given: [string, string][]) =>
      // With fetch they would be joined before they are sent.
      new Promise<{ status: number; type: string; body: string }>((resolve, reject) => {
        const request = httpRequest(`${base}/data`, { method: 'GET' }, (response) => {
          let body = ''
          response.setEncoding('utf8').on('data', (part: string) => (body += part))
          response.on('end', () =>
            resolve({ status: response.statusCode!, type: response.headers['content-type']!, body }),
          )
        })
        for (const [key] of given)
          request.setHeader(
            key,
            given.filter(([each]) => each === key).map(([, value]) => value),
          )
        request.on('error', reject).end()
      })
    const resource: [string, string] = ['Fencing-Resource', 'r']
    const bad: [string, string][][] = [
      [],
      [resource],
      [['Fencing-Token', '1']],
      [['Fencing-Token', '1'], ['Fencing-Token', '1'], resource],
      [['Fencing-Token', '0x1'], resource],
      [['Fencing-Token', '1'], ['Fencing-Resource', '%ff']],
      [['Fencing-Token', '1'], resource, resource],
    ] // prettier-ignore
    for (const each of bad) {
      const { status, type, body } = await send(each)
      expect({ each, status, type }).toEqual({
        each,
        status: 400,
        type: expect.stringMatching(/^application\/problem\+json/),
      })
      expect(JSON.parse(body)).toMatchObject({ status: 400, type: 'urn:fencelock:malformed-fencing' })
    }
    expect(called).toBe(0)
  })

  it('refuses a write that was overtaken in its handler, because the handler writes through the guard', async () => {
    vi.spyOn(console, 'error').mockReturnValue() // Hono prints what a handler throws.
    const one = await service()
    const base = await start(one)
    const resource = unique()
    const put = (token: bigint, body: string) =>
      fencedFetch({ resource, token }, `${base}/data`, { method: 'PUT', body })
    const pause = one.pause()
    const late = put(21n, 'A').catch((error: unknown) => error)
    await pause.inside // A is past the gate
    expect((await put(22n, 'B')).status).toBe(200)
    pause.go()
    expect(await late).toMatchObject({ code: 'STALE_TOKEN', token: 21n, current: 22n })
    expect(await redis.cmd('GET', resource)).toBe('B')
  })

  it('answers 500 where the fence cannot be checked', async () => {
    let called = 0
    const fence = httpFence(memoryGuard(new Error('the store is away')))
    const base = await start({ ...(await service()), fence, handle: async () => String(called++) })
    vi.spyOn(console, 'error').mockReturnValue() // Hono and Express print it.
    const response = await fetch(`${base}/data`, { headers: headers('1', 'r') })
    expect([response.status, called]).toEqual([500, 0])
    await response.text()
  })
})

it('hands errors of the handler on that are none of the fence', async () => {
  const fence = httpFence(memoryGuard())
  const failure = new Error('mine')
  const handler = fence.fetch(async () => {
    throw failure
  })
  expect(await rejection(handler(new Request('http://localhost/', { headers: headers('1', 'r') })))).toBe(
    failure,
  )
  expect(fence.problem(failure)).toBeNull()
})

describe('fencedFetch', () => {
  it('sets the headers beside those that are there, in init or in a Request', async () => {
    const base = await listen((request, response) => response.end(JSON.stringify(request.headers)))
    const lock = { resource: 'r', token: 5n }
    const expected = { 'fencing-token': '5', 'fencing-resource': 'r', 'x-own': '1' }
    for (const response of [
      await fencedFetch(lock, base, { headers: { 'X-Own': '1', 'fencing-token': '99' } }),
      await fencedFetch(lock, new URL(base), { headers: [['x-own', '1']] }),
      await fencedFetch(lock, new Request(base, { headers: { 'X-Own': '1' } })),
    ]) {
      expect(await response.json()).toMatchObject(expected)
    }
  })

  it('sends nothing for a lock that is not held, and throws only for a stale token', async () => {
    let requests = 0
    const answers: [number, string, string][] = [
      [409, 'text/plain', 'conflict'],
      [409, 'application/problem+json', '{"type":"about:blank"}'],
      [409, 'application/problem+json', 'no JSON'],
      [500, 'application/problem+json', '{"type":"urn:fencelock:stale-token","current":"9"}'],
    ]
    const base = await listen((_, response) => {
      const [status, type, body] = answers[requests++]!
      response.writeHead(status, { 'content-type': type }).end(body)
    })
    const locks = closing(new LockManager({ local: `${tempDir()}/locks.sqlite` }))
    const lock = await locks.acquire('r')
    for (const [status, , body] of answers) {
      const response = await fencedFetch(lock, base)
      expect([response.status, await response.text()]).toEqual([status, body])
    }
    await lock.release()
    await expect(fencedFetch(lock, base)).rejects.toThrow(LockLostError)
    expect(requests).toBe(answers.length)
  })
})

it('works as README.md shows it', async () => {
  await runExample('http', (await startRedis()).url)
})
