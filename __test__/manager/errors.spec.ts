/** The classes of errors: users make them in tests of their own, log them, copy them and send them. */
import * as fencelock from 'fencelock'
import { join } from 'node:path'
import { inspect } from 'node:util'
import { describe, expect, it } from 'vitest'

import { closing, rejection, unique } from '../fixtures/locks'
import { onBun12 } from '../fixtures/processes/runtimes'
import { tempDir } from '../fixtures/temp'

const { LockError, LockHeldError, LockManager, InsufficientReplicasError, StaleTokenError } = fencelock

const CODES = {
  BackendUnavailableError: 'BACKEND_UNAVAILABLE',
  ClosedError: 'CLOSED',
  InsufficientReplicasError: 'INSUFFICIENT_REPLICAS',
  LockHeldError: 'LOCK_HELD',
  LockLostError: 'LOCK_LOST',
  OutcomeUnknownError: 'OUTCOME_UNKNOWN',
  StaleTokenError: 'STALE_TOKEN',
  UnsupportedError: 'UNSUPPORTED',
} as const

describe('an error that a program makes', () => {
  it.each(Object.entries(CODES))('of the class %s has the code %s', (name, code) => {
    const Class = fencelock[name as keyof typeof CODES]
    const cause = new Error('why')
    const plain = new Class('a message')
    expect(plain).toMatchObject({ name, code, message: 'a message' })
    expect(plain.resource).toBeUndefined()
    expect('cause' in plain).toBe(false)
    const full = new Class('a message', { resource: 'invoice:42', strategy: 'strong', cause })
    expect(full).toMatchObject({ name, code, resource: 'invoice:42', strategy: 'strong', cause })
    expect(full).toBeInstanceOf(Class)
    expect(full).toBeInstanceOf(LockError)
    // The first frame is the caller's; Bun 1.2 lists the constructors before it.
    const constructors = onBun12 ? '(?: +at new .*\\n)+' : ''
    expect(full.stack).toMatch(new RegExp(`^\\w+: a message\\n${constructors}.*errors\\.spec`))
    expect(JSON.parse(JSON.stringify(full))).toMatchObject({
      name,
      code,
      resource: 'invoice:42',
      cause: 'why',
    })
    class Mine extends Class {}
    expect(new Mine('mine')).toMatchObject({ code, message: 'mine' })
  })

  it('has the fields of its class, with values of the declared types', () => {
    expect(new LockHeldError('held', { remainingMs: 50 }).remainingMs).toBe(50)
    expect(new InsufficientReplicasError('too few')).toMatchObject({
      required: 0,
      received: 0,
      connected: undefined,
      rolledBack: false,
    })
    expect(new InsufficientReplicasError('too few', { required: 2, received: 1 }).received).toBe(1)
    const stale = new StaleTokenError('stale', { token: 1n })
    expect([stale.token, stale.current]).toEqual([1n, 0n])
  })

  it('keeps its code and message, whatever the fields are called', () => {
    const fields = { code: 'CLOSED', message: 'another', name: 'Another', stack: 'none' } as object
    expect(new LockHeldError('held', fields)).toMatchObject({
      code: 'LOCK_HELD',
      message: 'held',
      name: 'LockHeldError',
    })
  })

  it('has the same fields with undefined ones as without them', () => {
    const held = new LockHeldError('held', { byCaller: undefined, resources: undefined })
    expect(held).toMatchObject({ byCaller: false, resources: [] })
    const stale = new StaleTokenError('stale', { token: undefined, current: 3n })
    expect([stale.token, stale.current]).toEqual([0n, 3n])
    expect(Object.keys(stale)).not.toContain('token')
  })

  it('is refused with fields that are no object, and of the class that has no code', () => {
    expect(() => new LockHeldError('held', 'invoice:42' as never)).toThrow(/object of fields/)
    expect(() => new LockHeldError('held', null as never)).toThrow(/object of fields/)
    const Base = LockError as unknown as new (message: string) => Error
    expect(() => new Base('a message')).toThrow(/no code of its own/)
  })
})

describe('tokens', () => {
  it('of an error are not copied with it, but are in its JSON', () => {
    const error = new StaleTokenError('stale', { token: 7n, current: 2n ** 62n })
    const copy = Object.assign({}, error)
    expect(() => JSON.stringify(copy)).not.toThrow()
    expect(Object.values(copy).some((value) => typeof value === 'bigint')).toBe(false)
    expect(JSON.parse(JSON.stringify(error))).toMatchObject({ token: '7', current: String(2n ** 62n) })
    expect([error.token, error.current]).toEqual([7n, 2n ** 62n])
  })

  it('of a holder are not copied with its description, but are in its JSON and in a log', async () => {
    const locks = closing(new LockManager({ local: join(tempDir(), 'l.sqlite') }))
    const resource = unique()
    const lock = await locks.acquireLocal(resource)
    const info = await locks.inspect(resource)
    expect(info?.token).toBe(lock.token)
    expect(() => JSON.stringify({ ...info })).not.toThrow()
    expect(JSON.parse(JSON.stringify(info))).toMatchObject({ resource, token: String(lock.token) })
    expect(inspect(info)).toContain(`token: ${lock.token}n`)
  })
})

describe('the cause', () => {
  it.each([
    ['a port where nothing listens', { redis: { url: 'redis://127.0.0.1:1' } }, 'ECONNREFUSED'],
    ['a socket that is not there', { redis: { url: 'redis+unix:///nowhere/redis.sock' } }, 'ENOENT'],
    ['a name without an address', { redis: { url: 'redis://no-such-host.invalid' } }, 'ENOTFOUND'],
    ['a directory that is not there', { local: '/nowhere/l.sqlite' }, 'ENOENT'],
  ])('of %s has the code that Node has for it', async (_, options, code) => {
    const error = await rejection(closing(new LockManager(options)).acquire('x'))
    expect(error).toMatchObject({ code: 'BACKEND_UNAVAILABLE', cause: { code } })
  })
})
