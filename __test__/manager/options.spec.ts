/** The options of a manager, and the errors for invalid ones. */
import * as fencelock from 'fencelock'
import { createRequire } from 'node:module'
import { resolve } from 'node:path'
import { pathToFileURL } from 'node:url'
import { runInNewContext } from 'node:vm'
import { describe, expect, it } from 'vitest'

import { closing, rejection, unique } from '../fixtures/locks'
import { tempDir } from '../fixtures/temp'

const { LockManager } = fencelock
type Options = ConstructorParameters<typeof LockManager>[0]

function refusal(options: unknown): { name: string; code: string; message: string } {
  try {
    closing(new LockManager(options as Options))
  } catch (error) {
    return error as never
  }
  throw new Error('should have been refused')
}

/** URLs of this many nodes. */
const nodes = (count: number) => Array.from({ length: count }, (_, node) => `redis://n${node}`)

describe('options of a manager', () => {
  it.each([
    [null, 'TypeError', 'options must be an object, got null'],
    ['redis://localhost', 'TypeError', 'options must be an object'],
    [{ redi: 1 }, 'TypeError', 'did you mean "redis"'],
    [{ strategy: 'strongest' }, 'RangeError', '"strong", "quorum" or "local"'],
    [{ strategy: 1 }, 'TypeError', '"strong", "quorum" or "local"'],
    [{ strategy: 'quorum' }, 'TypeError', 'needs the option quorum'],
    [{ quorum: 'redis://x' }, 'TypeError', 'quorum must be an object'],
    [{ quorum: {} }, 'TypeError', 'quorum.nodes must be an array'],
    [{ quorum: { nodes: ['redis://a', 'redis://b'] } }, 'RangeError', '3, 5 or 7 nodes, got 2'],
    [{ quorum: { nodes: nodes(4) } }, 'RangeError', '3, 5 or 7 nodes, got 4'],
    [{ quorum: { nodes: nodes(9) } }, 'RangeError', '3, 5 or 7 nodes, got 9'],
    [{ quorum: { nodes: [...nodes(2), 'redis://n0'] } }, 'TypeError', 'twice'],
    [{ quorum: { nodes: [...nodes(2), 5] } }, 'TypeError', 'quorum.nodes[2] must be'],
    [{ quorum: { nodes: [...nodes(2), { url: 5 }] } }, 'TypeError', 'quorum.nodes[2].url must be a string'],
    [{ quorum: { nodes: [...nodes(2), { cluster: [] }] } }, 'TypeError', 'one independent server'],
    [{ quorum: { nodes: [...nodes(2), { url: 'redis://c', replicas: 1 }] } }, 'TypeError', 'independent'],
    [{ quorum: { nodes: [...nodes(2), 'redis+cluster://c'] } }, 'TypeError', 'one independent server'],
    [{ quorum: { nodes: [...nodes(2), 'redis+sentinel://c/m'] } }, 'TypeError', 'one independent server'],
    [{ quorum: { nodes: nodes(3), maxTtlMs: 0 } }, 'RangeError', 'quorum.maxTtlMs'],
    [{ quorum: { nodes: nodes(3), restartDelayMs: -1 } }, 'RangeError', 'quorum.restartDelayMs'],
    [
      { quorum: { nodes: nodes(3) }, defaults: { ttlMs: 60_001 } },
      'RangeError',
      'defaults.ttlMs of a quorum lock must be at most quorum.maxTtlMs (60000), got 60001',
    ],
    [
      { redis: 'redis://x', quorum: { nodes: nodes(3), maxTtlMs: 500 }, defaults: { ttlMs: 501 } },
      'RangeError',
      'defaults.ttlMs of a quorum lock must be at most quorum.maxTtlMs (500), got 501',
    ],
    [{ quorum: { nodes: nodes(3), replicas: 1 } }, 'TypeError', 'unknown option "replicas" in quorum'],
    [{ strategy: 'strong' }, 'TypeError', 'needs the option redis'],
    [{ redis: 5 }, 'TypeError', 'redis must be an object'],
    [{ redis: {} }, 'TypeError', 'redis.url is missing'],
    [{ redis: { url: 5 } }, 'TypeError', 'redis.url must be a string'],
    [{ redis: { url: 'redis://x', replica: 1 } }, 'TypeError', 'did you mean "replicas"'],
    [{ redis: { url: 'redis://x', replicas: -1 } }, 'RangeError', 'redis.replicas'],
    [{ redis: { url: 'redis://x', replicas: '2' } }, 'TypeError', 'redis.replicas'],
    [{ redis: { url: 'redis://x', connectTimeoutMs: 0 } }, 'RangeError', 'redis.connectTimeoutMs'],
    [{ redis: { url: 'redis://x', commandTimeoutMs: Infinity } }, 'RangeError', 'redis.commandTimeoutMs'],
    [{ redis: { url: 'redis://x', db: 1.5 } }, 'RangeError', 'redis.db'],
    [{ redis: { url: 'redis://x', password: 5 } }, 'TypeError', 'redis.password'],
    [
      { redis: { url: 'rediss://x', tls: { rejectUnauthorised: false } } },
      'TypeError',
      'did you mean "rejectUnauthorized"',
    ],
    [{ redis: { url: 'rediss://x', tls: { ca: 5 } } }, 'TypeError', 'redis.tls.ca'],
    [{ local: 5 }, 'TypeError', 'local must be an object'],
    [{ redis: { url: '' } }, 'TypeError', 'redis.url is missing'],
    [{ redis: { url: undefined } }, 'TypeError', 'redis.url is missing'],
    [{ local: { path: '' } }, 'RangeError', 'local.path'],
    [{ local: new URL('http://localhost/l.sqlite') }, 'RangeError', 'belongs in redis'],
    [{ local: { path: new URL('file:///a%2Fb') } }, 'RangeError', 'not of a file on this host'],
    [{ local: 'file:///a' }, 'RangeError', 'new URL(…)'],
    [{ local: { path: ':memory:', durability: 'full' } }, 'RangeError', 'local.durability is about a file'],
    [{ local: { path: ':memory:', mode: 0o600 } }, 'RangeError', "'./:memory:'"],
    [{ local: { path: ':memory:', allowNetworkFilesystem: false } }, 'RangeError', 'allowNetworkFilesystem'],
    [{ local: 'a\0b' }, 'RangeError', 'local.path'],
    [{ local: { file: 'x' } }, 'TypeError', 'unknown option "file" in local'],
    [{ local: { path: 'x', durability: 'some' } }, 'RangeError', '"normal" or "full"'],
    [{ local: { path: 'x', allowNetworkFilesystem: 1 } }, 'TypeError', 'local.allowNetworkFilesystem'],
    [{ local: { path: 'x', mode: '660' } }, 'TypeError', 'local.mode must be a number'],
    // Decimal 660, bits for executing, and a file that its owner cannot write.
    [{ local: { path: 'x', mode: 660 } }, 'RangeError', 'such as 0o600 or 0o660'],
    [{ local: { path: 'x', mode: 0o770 } }, 'RangeError', 'local.mode'],
    [{ local: { path: 'x', mode: 0o460 } }, 'RangeError', 'local.mode'],
    [{ prefix: 5 }, 'TypeError', 'prefix must be a string'],
    [{ holderName: 5 }, 'TypeError', 'holderName must be a string'],
    [{ holderName: '' }, 'RangeError', 'holderName must have 1 to 256 bytes'],
    [{ holderName: 'é'.repeat(129) }, 'RangeError', 'holderName must have 1 to 256 bytes'],
    [{ holderName: 'a\nb' }, 'RangeError', 'without control characters'],
    [{ holderName: 'a\uD800' }, 'TypeError', 'holderName must be well-formed Unicode'],
    [{ holdrName: 'a' }, 'TypeError', 'did you mean "holderName"?'],
    [{ defaults: { ttlMs: 5 } }, 'RangeError', 'defaults.ttlMs'],
    [{ defaults: { renew: 5 } }, 'TypeError', 'defaults.renew must be true, false or an object'],
    [{ defaults: { renew: { maxHoldsMs: 5 } } }, 'TypeError', 'did you mean "maxHoldMs"'],
    [
      { defaults: { renew: { maxStallMs: -1 } } },
      'RangeError',
      'defaults.renew.maxStallMs must be an integer',
    ],
    [{ defaults: { waitMs: '5' } }, 'TypeError', 'defaults.waitMs must be a number'],
    [{ defaults: { maxHoldMs: 5 } }, 'TypeError', 'it belongs in the option renew'],
    [{ defaults: { signal: AbortSignal.abort() } }, 'TypeError', 'unknown option "signal" in defaults'],
    [{ redis: 'redis://x', defaults: { acks: 3 } }, 'RangeError', 'defaults.acks'],
    [{ redis: 'redis://x', defaults: { acks: null } }, 'TypeError', 'defaults.acks must be'],
    [{ redis: 'redis://x', defaults: { ackTimeoutMs: 0 } }, 'RangeError', 'defaults.ackTimeoutMs'],
    [{ defaults: { acks: 'banana' } }, 'TypeError', 'defaults.acks must be'],
    [{ defaults: { acks: 1_001 } }, 'RangeError', 'from 0 to 1000, got 1001'],
    [{ prefix: '{}' }, 'RangeError', 'prefix must have 1 to 64 bytes'],
    [{ prefix: '' }, 'RangeError', 'prefix must have 1 to 64 bytes'],
    [{ prefix: 'é'.repeat(33) }, 'RangeError', 'prefix must have 1 to 64 bytes'],
    [{ prefix: 'a\uD800' }, 'TypeError', 'prefix must be well-formed Unicode'],
    [{ local: 'a\uD800' }, 'TypeError', 'local.path must be well-formed Unicode'],
    [{ strategy: 'stong' }, 'RangeError', 'did you mean "strong"?'],
    [
      { acks: 1 },
      'TypeError',
      'unknown option "acks" in options; it belongs in the manager’s option defaults',
    ],
    [{ minToken: 1n }, 'TypeError', 'it belongs in the options of an acquire'],
    [{ url: 'redis://x' }, 'TypeError', 'it belongs in the manager’s option redis'],
    [{ redis: { url: 'redis://x', acks: 1 } }, 'TypeError', 'it belongs in the manager’s option defaults'],
    [{ redis: { url: 'redis://x', ca: 'x' } }, 'TypeError', 'it belongs in the manager’s option redis.tls'],
  ])('refuses %o', (options, name, message) => {
    const error = refusal(options)
    expect(error).toMatchObject({ name, code: 'INVALID_OPTION' })
    expect(error.message).toContain(message)
  })

  it.each([
    ['an array', []],
    ['type Map', new Map([['redis', 'redis://x']])],
    ['type Set', new Set()],
    ['type Date', new Date()],
    ['type Promise', Promise.resolve({})],
    ['type Uint8Array', Buffer.from('')],
    ['a function', () => ({})],
  ])('refuses %s for an object', (named, value) => {
    for (const [name, options] of [
      ['options', value],
      ['local', { local: value }],
      ['redis', { redis: value }],
      ['redis.tls', { redis: { url: 'rediss://x', tls: value } }],
      ['defaults', { defaults: value }],
    ] as const) {
      const error = refusal(options)
      expect(error).toMatchObject({ name: 'TypeError', code: 'INVALID_OPTION' })
      expect(error.message).toMatch(new RegExp(`^${name} must be an object, got .*${named}`))
    }
  })

  it('limit the leases of quorum locks, and shorten only the built-in default', async () => {
    const quorum = { nodes: nodes(3), maxTtlMs: 500 }
    const locks = closing(new LockManager({ quorum, defaults: { ttlMs: 500 } }))
    const error = await rejection(locks.tryAcquireQuorum('r', { ttlMs: 501 }))
    expect(error).toMatchObject({ name: 'RangeError', code: 'INVALID_OPTION' })
    expect(error.message).toContain('ttlMs of a quorum lock must be at most quorum.maxTtlMs (500), got 501')
    const require = createRequire(import.meta.url)
    const { acquireRequest, managerSettings } = require('../../lib/options/index.js') as {
      acquireRequest: (...call: unknown[]) => unknown
      managerSettings: (options: unknown) => unknown
    }
    const { STRATEGIES } = require('../../lib/strategies.js') as { STRATEGIES: { quorum: unknown } }
    const request = acquireRequest(STRATEGIES.quorum, {}, managerSettings({ quorum }))
    expect(request).toMatchObject({ ttlMs: 500 })
  })

  it('can be instances of classes, and objects without a prototype', () => {
    class Settings {
      local = resolve(tempDir(), 'l.sqlite')
    }
    closing(new LockManager(new Settings()))
    closing(new LockManager(Object.assign(Object.create(null) as object, { defaults: { ttlMs: 100 } })))
  })

  it.each([
    'redis://:hunter2@localhost',
    { redis: { url: 'redis://x', password: 4_815_162_342 } },
    { redis: { url: 'redis://x', password: 4_815_162_342n } },
    { redis: { url: 'redis://x', username: ['hunter2'] } },
    { redis: { url: new URL('redis://:hunter2@localhost/hunter2') } },
    { redis: new URL('http://:hunter2@localhost') },
    { local: new URL('redis://:hunter2@localhost') },
    { redis: { url: 'hunter2' } },
    { redis: { url: 'redis://:hunter2@localhost:port' } },
    { redis: { url: 'redis://x', db: 'hunter2' } },
    { redis: { url: 'redis://x', db: 4_815_162_342 } },
    { redis: { url: 'redis://x', connectTimeoutMs: 4_815_162_342 } },
    { redis: { url: 'redis://x', tls: '-----BEGIN PRIVATE KEY-----hunter2' } },
    { redis: { url: 'rediss://x', tls: { rejectUnauthorized: 'hunter2' } } },
    { redis: { url: 'rediss://x', tls: { key: 4_815_162_342, cert: 'x' } } },
    { redis: { url: 'rediss://x', tls: { key: 'hunter2', cert: 'hunter2' } } },
    { redis: { url: 'rediss://x', tls: { ca: '-----BEGIN CERTIFICATE-----hunter2' } } },
    { redis: 'hunter2' },
    { redis: ['hunter2'] },
    { strategy: 'redis://:hunter2@localhost' },
    { prefix: 'redis://:hunter2@localhost {}' },
    { local: 'redis://:hunter2@localhost' },
    { local: { durability: 'hunter2' } },
    { local: { path: 'x', allowNetworkFilesystem: 'hunter2' } },
    { defaults: 'hunter2' },
    { defaults: { ttlMs: 'hunter2' } },
    { defaults: { acks: 'hunter2' } },
  ])('are refused without showing a value that may be a secret: %#', (options) => {
    const error = refusal(options) as Error & { code: string }
    expect(error.code).toBe('INVALID_OPTION')
    expect(`${error.stack} ${String(error.cause)} ${JSON.stringify(error)}`).not.toMatch(
      /hunter2|4_?815_?162_?342|BEGIN/,
    )
  })

  it('are refused by other calls without showing a value', async () => {
    const locks = closing(new LockManager({ local: resolve(tempDir(), 'l.sqlite') }))
    const secret = 'redis://:hunter2@localhost' as never
    const lock = await locks.acquireLocal('y')
    for (const call of [
      () => locks.acquireLocal('x', secret),
      () => locks.acquireLocal('x', { ttlMs: secret }),
      () => locks.acquireLocal('x', { minToken: secret }),
      () => locks.acquireLocal('x', { signal: secret }),
      () => locks.acquireStrong('x', { acks: secret }),
      () => locks.inspect('x', secret),
      () => locks.inspect('x', { strategy: secret }),
      () => lock.extend(secret),
    ]) {
      const error = await rejection(call())
      expect(error).toMatchObject({ code: 'INVALID_OPTION' })
      expect(error.message).toContain('string')
      expect(error.message).not.toContain('hunter2')
    }
  })

  it('are refused with a hint where to put a string that was passed instead', () => {
    expect(refusal('redis://localhost').message).toContain(
      "got a string; did you mean new LockManager({ redis: '…' })?",
    )
    expect(refusal('locks.sqlite').message).toContain("did you mean new LockManager({ local: '…' })?")
    expect(refusal({ local: 'rediss://localhost' }).message).toContain('belongs in redis')
  })

  it('are not changed', () => {
    const options = Object.freeze({
      local: Object.freeze({ path: 'x.sqlite' }),
      defaults: Object.freeze({ ttlMs: 100 }),
    })
    closing(new LockManager(options))
    expect(options.local.path).toBe('x.sqlite')
  })

  it.each([
    [{ redis: undefined }, 'TypeError', 'redis is given, but undefined', "strategy: 'strong'"],
    [{ redis: null }, 'TypeError', 'redis is given, but null', "strategy: 'strong'"],
    [{ redis: '' }, 'RangeError', 'redis is given, but empty', "strategy: 'strong'"],
    [{ local: undefined }, 'TypeError', 'local is given, but undefined', '...(path && { local: path })'],
    [{ local: null }, 'TypeError', 'local is given, but null', '...(path && { local: path })'],
    [{ local: '' }, 'RangeError', 'local is given, but empty', '...(path && { local: path })'],
    [{ local: { path: undefined } }, 'TypeError', 'local.path is given, but undefined', 'leave out'],
    [{ strategy: 'local', redis: undefined }, 'TypeError', 'redis is given, but undefined', 'leave out'],
    // What the advice says happens.
    [{ strategy: 'strong' }, 'TypeError', "strategy 'strong' needs the option redis", 'for example redis: '],
    [
      { strategy: 'quorum' },
      'TypeError',
      "strategy 'quorum' needs the option quorum",
      'for example quorum: ',
    ],
    [{ redis: 'redis://x', local: undefined }, 'TypeError', 'local is given, but undefined', 'leave out'],
    [{ quorum: undefined }, 'TypeError', 'quorum is given, but undefined', "strategy: 'quorum'"],
  ])('are refused for a backend that is named, but not given: %o', (options, name, message, advice) => {
    const error = refusal(options)
    expect(error).toMatchObject({ name, code: 'INVALID_OPTION' })
    expect(error.message).toContain(message)
    expect(error.message).toContain(advice)
  })

  it('are refused for a backend that an inherited accessor does not give', () => {
    class Settings {
      get redis(): string {
        return ''
      }
    }
    expect(refusal(new Settings()).message).toContain('redis is given, but empty')
  })

  it('take a URL object for a URL and for a path', async () => {
    const path = resolve(tempDir(), 'l ü.sqlite')
    const locks = closing(
      new LockManager({ redis: new URL('redis://127.0.0.1:1'), local: pathToFileURL(path) }),
    )
    expect((await locks.describe({ strategy: 'local' })).file?.path).toBe(path)
    expect((await locks.acquire('x').catch((error: unknown) => error)) as object).toMatchObject({
      strategy: 'strong',
    })
    closing(new LockManager({ redis: { url: new URL('redis://x') }, local: { path: pathToFileURL(path) } }))
  })

  it('take what another realm made', async () => {
    const path = resolve(tempDir(), 'l.sqlite')
    const options = runInNewContext(
      `({ local: { path }, redis: { url: 'rediss://127.0.0.1:1', tls: { ca: new Uint8Array([45]) } } })`,
      { path },
    ) as Options
    expect(refusal(options).message).toContain('tls.ca contains no certificate')
    expect(refusal(runInNewContext('({ redi: 1 })')).message).toContain('did you mean "redis"')
    closing(new LockManager(runInNewContext('({ local: path })', { path }) as Options))
  })

  it.each([
    ['strategy', 'local'],
    ['redis', 'redis://127.0.0.1:2'],
    ['url', 'redis://127.0.0.1:2'],
    ['defaults', { ttlMs: 50 }],
    ['acks', 0],
    ['replicas', 0],
    ['ttlMs', 50],
    ['waitMs', 60_000],
    ['renew', true],
    ['path', '/nowhere/l.sqlite'],
    ['durability', 'none'],
    ['minToken', 2n ** 52n],
    ['signal', AbortSignal.abort()],
    ['code', 'polluted'],
  ])('are not read from Object.prototype: %s', async (key, value) => {
    const local = resolve(tempDir(), 'l.sqlite')
    const everywhere = Object.prototype as Record<string, unknown>
    everywhere[key] = value
    try {
      const locks = closing(new LockManager({ local, redis: { url: 'redis://127.0.0.1:1' } }))
      const lock = await locks.acquireLocal('x', {})
      expect(lock.remainingMs).toBeGreaterThan(5_000)
      expect(lock.token).toBeLessThan(2n ** 52n)
      expect(await locks.tryAcquireLocal('x')).toBeNull()
      expect((await locks.describe({ strategy: 'local' })).file?.path).toBe(local)
      const plain = closing(new LockManager({ local }))
      expect((await plain.acquire('y')).strategy).toBe('local')
      // Still the default, whose server does not answer.
      expect(await rejection(locks.acquire('x', {}))).toMatchObject({ strategy: 'strong' })
    } finally {
      delete everywhere[key]
    }
  })

  it('use the default for undefined', () => {
    closing(new LockManager({ strategy: undefined, prefix: undefined, defaults: undefined }))
    closing(
      new LockManager({
        redis: { url: 'redis://x', replicas: undefined, tls: undefined },
        defaults: { ttlMs: undefined },
      }),
    )
  })

  it('may have defaults for strong locks, which local locks ignore', async () => {
    const locks = closing(
      new LockManager({
        local: resolve(tempDir(), 'l.sqlite'),
        defaults: { acks: 'all', ackTimeoutMs: 5, ttlMs: 60_000 },
      }),
    )
    expect((await locks.acquire(unique())).remainingMs).toBeGreaterThan(50_000)
  })

  it('may have a default wait, which single attempts do not take', async () => {
    const locks = closing(
      new LockManager({ local: resolve(tempDir(), 'l.sqlite'), defaults: { waitMs: 60_000 } }),
    )
    const resource = unique()
    await locks.acquireLocal(resource)
    expect(await locks.tryAcquire(resource)).toBeNull()
    expect(locks.tryAcquireLocalSync(resource, { waitMs: 0 })).toBeNull()
    expect(() => locks.tryAcquireLocalSync(resource, { waitMs: 5 as 0 })).toThrow(/single attempt/)
  })

  it('of a local lock must not contain acks', async () => {
    const locks = closing(new LockManager({ local: resolve(tempDir(), 'l.sqlite') }))
    await expect(locks.acquireLocal('x', { acks: 1 } as never)).rejects.toMatchObject({
      code: 'INVALID_OPTION',
      message: expect.stringContaining('strong locks only'),
    })
  })
})
