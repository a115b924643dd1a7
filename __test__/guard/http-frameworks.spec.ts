/** Fencing over HTTP in the real web frameworks, and as README.md shows it. */
import {
  type Fencing,
  StaleTokenError,
  fencedFetch,
  fencingHeaders,
  httpFence,
  redisGuard,
} from 'fencelock/guard'
import { request as httpRequest } from 'node:http'
import { beforeAll, describe, expect, it, vi } from 'vitest'

import { onCleanup } from '../fixtures/cleanup'
import { clients, load, runExamples } from '../fixtures/examples/redis-clients'
import { rejection, unique } from '../fixtures/locks'
import { startRedis, type RedisServer } from '../fixtures/servers/redis'
import { headers, listen, memoryGuard } from './http-helpers'

let redis: RedisServer
beforeAll(async () => {
  redis = await startRedis()
})
const newGuard = async () => redisGuard({ client: await clients.ioredis!(redis.port) })

/**
 * A service that keeps a value: GET returns it, PUT writes it through the guard, after a pause if one is set.
 */
interface Service {
  guard: ReturnType<typeof redisGuard>
  fence: ReturnType<typeof httpFence>
  /** What the handler does; called when it runs. */
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

/** Starts a service on each framework; resolves with its address. */
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

describe.each(Object.keys(frameworks))('on %s', (name) => {
  const start = frameworks[name]!

  it('accepts the holder, and rejects the one before it, reads included', async () => {
    const base = await start(await service())
    const resource = unique()
    const [a, b] = [
      { resource, token: 11n },
      { resource, token: 12n },
    ]
    const put = (lock: typeof a, body: string) => fencedFetch(lock, `${base}/data`, { method: 'PUT', body })
    const first = await put(a, 'A')
    expect([first.status, await first.text()]).toEqual([200, 'written'])
    // A guarded GET advances first: an older holder can no longer change what it read.
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

  it('responds with 400 to missing, malformed or repeated headers, and does not call the handler', async () => {
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

  it('rejects a write that became stale in its handler, because the handler writes through the guard', async () => {
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

  it('responds with 500 if the fence cannot be checked', async () => {
    let called = 0
    const fence = httpFence(memoryGuard(new Error('the store is away')))
    const base = await start({ ...(await service()), fence, handle: async () => String(called++) })
    vi.spyOn(console, 'error').mockReturnValue() // Hono and Express print it.
    const response = await fetch(`${base}/data`, { headers: headers('1', 'r') })
    expect([response.status, called]).toEqual([500, 0])
    await response.text()
  })
})

it('works as the documents show it', { timeout: 120_000 }, async () => {
  await runExamples('http', (await startRedis()).url)
})
