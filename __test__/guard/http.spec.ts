/** Fencing over HTTP: the headers, the check, and fencedFetch. */
import { LockManager } from 'fencelock'
import { LockLostError, StaleTokenError, fencedFetch, fencingHeaders, httpFence } from 'fencelock/guard'
import { describe, expect, it } from 'vitest'

import { closing, rejection } from '../fixtures/locks'
import { onBun12 } from '../fixtures/processes/runtimes'
import { eventually, tempDir } from '../fixtures/temp'
import { headers, listen, memoryGuard } from './http-helpers'

describe('the headers', () => {
  it('carry the token and the resources, whatever their names', async () => {
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
  ])('are rejected with 400: %s', async (_, given) => {
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

  it('may be sent as several lines for several resources, like other lists in HTTP', async () => {
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
  it('rejects a stale token with 409, and accepts equal and higher ones', async () => {
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

  it('rejects a token for another resource than that of the request', async () => {
    const guard = memoryGuard()
    const fence = httpFence(guard, { resource: (request) => [request.url, 'all'] })
    const request = { url: 'mine' }
    expect(await fence.check(headers('5', 'all,mine'), request)).toMatchObject({ passed: true })
    guard.stored.clear()
    for (const other of ['mine', 'all', 'yours']) {
      expect(await fence.check(headers('5', other), request)).toMatchObject({ passed: false, status: 400 })
    }
    expect(guard.stored.size).toBe(0)
  })

  it('advances nothing but the resources that the request is about', async () => {
    const guard = memoryGuard()
    const fence = httpFence(guard, { resource: () => 'account:1' })
    const highest = String(2n ** 53n - 1n)
    const result = await fence.check(headers(highest, 'account:1,account:2'))
    if (result.passed) throw new Error('it passed')
    expect(result.status).toBe(400)
    expect(JSON.parse(result.body).detail).toContain('not about "account:2"')
    expect(guard.stored.size).toBe(0)
    // A holder of both names the one.
    const lock = { resources: ['account:1', 'account:2'], token: 5n }
    const one = fencingHeaders({ resource: 'account:1', token: lock.token })
    expect(await fence.check(new Headers(one))).toMatchObject({ passed: true })
    expect([...guard.stored]).toEqual([['account:1', 5n]])
  })

  it('accepts no token that is too far ahead of its clock, if there is a limit', async () => {
    const guard = memoryGuard()
    const fence = httpFence(guard, { maxAheadMs: 60_000 })
    const inMs = (ms: number) => headers(String(BigInt(Date.now() + ms) * 1_000n), 'r')
    expect(await fence.check(inMs(120_000))).toMatchObject({ passed: false, status: 400 })
    expect(await fence.check(headers(String(2n ** 53n - 1n), 'r'))).toMatchObject({ passed: false })
    expect(guard.stored.size).toBe(0)
    expect(await fence.check(inMs(30_000))).toMatchObject({ passed: true })
    expect(() => httpFence(guard, { maxAheadMs: -1 })).toThrow(RangeError)
  })

  it('reads no header from Object.prototype', async () => {
    const everywhere = Object.prototype as Record<string, unknown>
    everywhere['fencing-token'] = '5'
    try {
      expect(await httpFence(memoryGuard()).check({ 'fencing-resource': 'r' })).toMatchObject({
        passed: false,
      })
    } finally {
      delete everywhere['fencing-token']
    }
  })

  it('accepts nothing if it does not learn the resource of the request', async () => {
    const guard = memoryGuard()
    for (const answer of [undefined, null, [], ['r', undefined], 5, Promise.resolve('r')] as any[]) {
      const fence = httpFence(guard, { resource: () => answer })
      expect(await rejection(fence.check(headers('5', 'r')))).toMatchObject({ code: 'INVALID_OPTION' })
    }
    expect(guard.stored.size).toBe(0)
  })

  it('accepts nothing if the guard fails in another way', async () => {
    const failure = new Error('the store is away')
    expect(await rejection(httpFence(memoryGuard(failure)).check(headers('5', 'r')))).toBe(failure)
  })

  it('rejects invalid guards and options', () => {
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

it('leaves a response alone that another handler has begun meanwhile', async () => {
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
  // A second response would be an unhandled rejection, which fails the run.
  const base = await listen((request, response) => {
    httpFence(slow).node(request, response, () => response.end('passed'))
    response.writeHead(503)
    setTimeout(() => response.end('too late'), 60)
  })
  const response = await fetch(base, { headers: fencingHeaders({ resource: 'r', token: 1n }) })
  expect([response.status, await response.text()]).toEqual([503, 'too late'])
})

it('passes on errors of the handler that are not those of the fence', async () => {
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

/** The service learns that its response is not read. Bun 1.2 closes no connection of a cancelled body. */
const told = async (closed: () => boolean) => {
  if (!onBun12) await eventually('the service is told', closed)
}

describe('fencedFetch', () => {
  it('adds the headers to those in init or in a Request', async () => {
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

  it('does not read problem details without an end, and leaves the response readable', async () => {
    let sent = 0
    let closed = false
    const base = await listen((_, response) => {
      response.writeHead(409, { 'content-type': 'application/problem+json' })
      response.write('{"type":"urn:fencelock:stale-token","current":"9","resource":"r","more":"')
      const more = (): void => {
        while (!response.destroyed && response.write('A'.repeat(1 << 16))) sent += 1 << 16
      }
      response.on('drain', more).on('close', () => (closed = true))
      more()
    })
    const response = await fencedFetch({ resource: 'r', token: 5n }, base)
    expect(response.status).toBe(409)
    // What the two sockets and the reader hold, not what a service may send.
    expect(sent).toBeLessThan(64 << 20)
    const reader = response.body!.getReader()
    expect(Buffer.from((await reader.read()).value ?? []).toString()).toMatch(/^\{"type"/)
    await reader.cancel()
    await told(() => closed)
  })

  it('does not wait for problem details that trickle, and leaves the response readable', async () => {
    let closed = false
    const base = await listen((_, response) => {
      response.writeHead(409, { 'content-type': 'application/problem+json' })
      const trickle = setInterval(() => response.write(' '), 50)
      response.on('close', () => {
        clearInterval(trickle)
        closed = true
      })
    })
    const begin = performance.now()
    const response = await fencedFetch({ resource: 'r', token: 5n }, base)
    expect(response.status).toBe(409)
    expect(performance.now() - begin).toBeLessThan(10_000)
    const reader = response.body!.getReader()
    expect(Buffer.from((await reader.read()).value ?? []).toString()).toMatch(/^ +$/)
    await reader.cancel()
    await told(() => closed)
  })

  it('throws for problem details that are whole, even if their body does not end', async () => {
    const { body } = httpFence(memoryGuard()).problem(
      new StaleTokenError('stale', { resource: 'r', token: 5n, current: 9n }),
    )!
    let closed = false
    const base = await listen((_, response) => {
      response.writeHead(409, { 'content-type': 'application/problem+json' }).write(body)
      response.on('close', () => (closed = true))
    })
    await expect(fencedFetch({ resource: 'r', token: 5n }, base)).rejects.toThrow(StaleTokenError)
    await told(() => closed)
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
