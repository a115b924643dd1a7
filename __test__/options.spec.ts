import * as fencelock from 'fencelock'
import { createRequire } from 'node:module'
/** What a manager is made with, and what is said of mistakes. */
import { resolve } from 'node:path'
import { describe, expect, it } from 'vitest'

import { closing, unique } from './contract'
import { root, tempDir } from './fixtures/temp'

const { LockManager, LockError, LockHeldError, LockLostError } = fencelock
type Options = ConstructorParameters<typeof LockManager>[0]

function refusal(options: unknown): { name: string; code: string; message: string } {
  try {
    closing(new LockManager(options as Options))
  } catch (error) {
    return error as never
  }
  throw new Error('should have been refused')
}

describe('options of a manager', () => {
  it.each([
    [null, 'TypeError', 'options must be an object, got null'],
    ['redis://localhost', 'TypeError', 'options must be an object'],
    [{ redi: 1 }, 'TypeError', 'did you mean "redis"'],
    [{ quorum: {} }, 'TypeError', 'unknown option "quorum"'],
    [{ strategy: 'strongest' }, 'RangeError', '"strong" or "local"'],
    [{ strategy: 1 }, 'TypeError', '"strong" or "local"'],
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
    [{ local: '' }, 'RangeError', 'local.path'],
    [{ local: ':memory:' }, 'RangeError', 'local.path'],
    [{ local: 'a\0b' }, 'RangeError', 'local.path'],
    [{ local: { file: 'x' } }, 'TypeError', 'unknown option "file" in local'],
    [{ local: { path: 'x', durability: 'some' } }, 'RangeError', '"normal" or "full"'],
    [{ local: { path: 'x', allowNetworkFilesystem: 1 } }, 'TypeError', 'local.allowNetworkFilesystem'],
    [{ prefix: 5 }, 'TypeError', 'prefix must be a string'],
    [{ defaults: { ttlMs: 5 } }, 'RangeError', 'defaults.ttlMs'],
    [{ defaults: { signal: AbortSignal.abort() } }, 'TypeError', 'unknown option "signal" in defaults'],
    [{ redis: 'redis://x', defaults: { acks: 3 } }, 'RangeError', 'defaults.acks'],
    [{ redis: 'redis://x', defaults: { ackTimeoutMs: 0 } }, 'RangeError', 'defaults.ackTimeoutMs'],
  ])('refuses %j', (options, name, message) => {
    const error = refusal(options)
    expect(error).toMatchObject({ name, code: 'INVALID_OPTION' })
    expect(error.message).toContain(message)
  })

  it('are not touched', () => {
    const options = Object.freeze({
      local: Object.freeze({ path: 'x.sqlite' }),
      defaults: Object.freeze({ ttlMs: 100 }),
    })
    closing(new LockManager(options))
    expect(options.local.path).toBe('x.sqlite')
  })

  it('take undefined for a default', () => {
    closing(
      new LockManager({
        strategy: undefined,
        redis: undefined,
        local: undefined,
        prefix: undefined,
        defaults: undefined,
      }),
    )
    closing(
      new LockManager({
        redis: { url: 'redis://x', replicas: undefined, tls: undefined },
        defaults: { ttlMs: undefined },
      }),
    )
  })

  it('ignore what concerns strong locks only in the defaults of local ones', async () => {
    const locks = closing(
      new LockManager({
        local: resolve(tempDir(), 'l.sqlite'),
        defaults: { acks: 'all', ackTimeoutMs: 5, ttlMs: 60_000 },
      }),
    )
    expect((await locks.acquire(unique())).remainingMs).toBeGreaterThan(50_000)
  })

  it('refuse acks for a local lock', async () => {
    const locks = closing(new LockManager({ local: resolve(tempDir(), 'l.sqlite') }))
    await expect(locks.acquireLocal('x', { acks: 1 } as never)).rejects.toMatchObject({
      code: 'INVALID_OPTION',
      message: expect.stringContaining('strong locks only'),
    })
  })
})

describe('the module', () => {
  it('is one instance for import and require, with named exports', async () => {
    const required = createRequire(import.meta.url)(root) as typeof fencelock
    expect(required.LockManager).toBe(LockManager)
    expect(Object.keys(required).toSorted()).toEqual([
      'BackendUnavailableError',
      'ClosedError',
      'InsufficientReplicasError',
      'LockError',
      'LockHeldError',
      'LockLostError',
      'LockManager',
      'OutcomeUnknownError',
      'UnsupportedError',
    ])
  })

  it('has errors that another copy of the package recognises', async () => {
    const require = createRequire(import.meta.url)
    const path = require.resolve('../lib/errors.js')
    const { [path]: original } = require.cache
    delete require.cache[path]
    const copy = require(path) as {
      LockHeldError: typeof LockHeldError
      held(...args: unknown[]): Error
      LockError: typeof LockError
    }
    require.cache[path] = original
    expect(copy.LockHeldError).not.toBe(LockHeldError)
    const error = copy.held('local', 'x', 5)
    expect(error).toBeInstanceOf(LockHeldError)
    expect(error).toBeInstanceOf(LockError)
    expect(error).toBeInstanceOf(Error)
    expect(error).not.toBeInstanceOf(LockLostError)
    class Mine extends LockHeldError {}
    expect(error).not.toBeInstanceOf(Mine)
    expect(JSON.parse(JSON.stringify(error))).toMatchObject({
      name: 'LockHeldError',
      code: 'LOCK_HELD',
      resource: 'x',
      strategy: 'local',
      remainingMs: 5,
    })
  })
})
