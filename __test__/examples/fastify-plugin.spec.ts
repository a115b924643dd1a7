/** The Fastify plugin: who gets the lock, and when it is free again. */
import { LockManager } from 'fencelock'
import { join } from 'node:path'
import { beforeAll, expect, it } from 'vitest'

import { closing, unique } from '../fixtures/locks'
import { startCode, type Script } from '../fixtures/processes/processes'
import { startRedis, type RedisServer } from '../fixtures/servers/redis'
import { eventually, root } from '../fixtures/temp'
import { line, lines, startExample } from './support'

let redis: RedisServer
beforeAll(async () => {
  redis = await startRedis()
})

/** How long a handler works: long enough for other requests meanwhile, also on a machine that stalls. */
const LONG_MS = 2_500

/** An instance on a free port; pays with a request. */
async function startServer(workMs: number): Promise<{
  script: Script
  pay: (invoice: string, signal?: AbortSignal) => Promise<Response>
  download: (invoice: string) => Promise<Response>
}> {
  const script = startExample('fastify-plugin/index.mjs', {
    env: { REDIS_URL: redis.url, PORT: '0', WORK_MS: String(workMs) },
  })
  const [, address] = await line(script, /^listening on (\S+)$/)
  return {
    script,
    pay: (invoice, signal) => fetch(`${address}/invoices/${invoice}/pay`, { method: 'POST', signal }),
    download: (invoice) => fetch(`${address}/invoices/${invoice}/export`),
  }
}

it('answers one of two requests, on whichever instance, and tells the other one to come back', async () => {
  const [one, two] = await Promise.all([startServer(LONG_MS), startServer(0)])
  const answer = one.pay('1')
  await line(one.script, /^paying/)
  const refused = await two.pay('1')
  expect(refused.status).toBe(409)
  expect(await refused.json()).toMatchObject({ message: 'invoice:1 is in use' })
  expect(Number(refused.headers.get('retry-after'))).toBeGreaterThanOrEqual(1)
  expect(Number(refused.headers.get('retry-after'))).toBeLessThanOrEqual(5)
  expect((await two.pay('2')).status).toBe(200)
  expect((await answer).status).toBe(200)
  // A client that has the response can go on at once.
  for (let round = 0; round < 5; round++) expect((await two.pay('1')).status).toBe(200)
})

it('keeps the lock while the handler runs, although the client has disconnected', async () => {
  const { script, pay } = await startServer(LONG_MS)
  const client = new AbortController()
  const gone = pay('3', client.signal).catch((error: Error) => error.name)
  await line(script, /^paying/)
  client.abort()
  expect(await gone).toBe('AbortError')
  expect((await pay('3')).status).toBe(409)
  await line(script, /^paid$/)
  // It is released after this line.
  await eventually('it is free', async () => (await pay('3')).status === 200)
  expect(lines(script, /^paying/)).toHaveLength(2)
})

it('keeps the lock until a stream has ended', async () => {
  const { pay, download } = await startServer(LONG_MS)
  const answer = await download('6')
  expect((await pay('6')).status).toBe(409)
  expect(await answer.text()).toBe('begin\nend\n')
  await eventually('it is free', async () => (await pay('6')).status === 200)
})

it.each([
  ['a stream of the web', 'new ReadableStream({ start })'],
  ['a Response', 'new Response(new ReadableStream({ start }))'],
])('keeps the lock until %s has ended', async (_, body) => {
  const script = startCode(
    `const { default: Fastify } = await import('fastify')
     const { locks } = await import('./fastify-plugin/locks.mjs')
     const fastify = Fastify()
     await fastify.register(locks, { redis: { url: process.env.REDIS_URL, replicas: 0 } })
     const start = async (controller) => {
       controller.enqueue(new TextEncoder().encode('begin'))
       await new Promise((resolve) => setTimeout(resolve, ${LONG_MS}))
       controller.close()
     }
     fastify.get('/', { config: { lock: () => '${unique('export')}' } }, () => ${body})
     say(await fastify.listen({ port: 0 }))`,
    { cwd: join(root, 'examples'), env: { REDIS_URL: redis.url } },
  )
  const address = String(await script.next())
  const answer = await fetch(address)
  expect((await fetch(address)).status).toBe(409)
  expect(await answer.text()).toBe('begin')
  await eventually('it is free', async () => {
    const next = await fetch(address)
    await next.text()
    return next.status === 200
  })
})

it('tells the handler that the lease was lost', async () => {
  const { script, pay } = await startServer(60_000)
  const locks = closing(new LockManager({ redis: { url: redis.url, replicas: 0 } }))
  const answer = pay('4')
  await line(script, /^paying/)
  await locks.forceRelease('invoice:4')
  expect((await answer).status).toBe(500)
  expect(lines(script, /^paid/)).toEqual([])
})

it('answers what it has begun when it is told to stop, and leaves no lock behind', async () => {
  const { script, pay } = await startServer(LONG_MS)
  const locks = closing(new LockManager({ redis: { url: redis.url, replicas: 0 } }))
  const answer = pay('5')
  await line(script, /^paying/)
  expect(await locks.inspect('invoice:5')).not.toBeNull()
  const end = script.kill('SIGTERM')
  expect((await answer).status).toBe(200)
  // Long before its lease would have ended.
  await eventually('it is free', async () => (await locks.inspect('invoice:5')) === null, 3000)
  expect(await end).toMatchObject({ code: 0, signal: null, stderr: '' })
})
