import { LockManager } from 'fencelock'
/** The options of Redis deployments: what is refused and why, and what the addon gets. */
import { createRequire } from 'node:module'
import { resolve } from 'node:path'
import { runInNewContext } from 'node:vm'
import { describe, expect, it } from 'vitest'

import { closing, rejection } from '../fixtures/locks'
import { tempDir } from '../fixtures/temp'

type Settings = { config: { redis: Record<string, unknown> } }
const require = createRequire(import.meta.url)
const { managerSettings, acquireRequest } = require('../../lib/options/index.js') as {
  managerSettings: (options: unknown) => Settings
  acquireRequest: (strategy: unknown, options: unknown, settings: unknown) => Record<string, unknown>
}
const { STRATEGIES } = require('../../lib/strategies.js') as { STRATEGIES: Record<string, unknown> }

const SENTINEL = 'redis://s1'
const listed = { sentinels: [SENTINEL], name: 'mymaster' }

function refusal(redis: unknown): { name: string; code: string; message: string; stack?: string } {
  try {
    closing(new LockManager({ redis } as never))
  } catch (error) {
    return error as never
  }
  throw new Error('should have been refused')
}

function config(redis: unknown): Record<string, unknown> {
  return managerSettings({ redis }).config.redis
}

describe('options of redis', () => {
  it.each([
    [{ url: 'redis://x', ...listed }, 'TypeError', 'redis.url and redis.sentinels exclude each other'],
    [{ url: 'redis://x', cluster: 'redis://x' }, 'TypeError', 'redis.url and redis.cluster exclude'],
    [{ ...listed, cluster: 'redis://x' }, 'TypeError', 'redis.sentinels and redis.cluster exclude'],
    [
      { replicas: 1 },
      'TypeError',
      'instead of it there may be redis.sentinels and redis.name, or redis.cluster',
    ],
    [{ sentinels: [SENTINEL] }, 'TypeError', 'redis.name is missing'],
    [{ sentinels: [SENTINEL], name: '' }, 'TypeError', 'redis.name is missing'],
    [{ sentinels: [SENTINEL], name: 5 }, 'TypeError', 'redis.name must be a string'],
    [{ url: 'redis://x', name: 'mymaster' }, 'TypeError', 'it needs redis.sentinels'],
    [{ cluster: 'redis://x', name: 'mymaster' }, 'TypeError', 'it needs redis.sentinels'],
    [{ ...listed, sentinels: [] }, 'RangeError', 'redis.sentinels must not be empty'],
    [{ ...listed, sentinels: SENTINEL }, 'TypeError', 'redis.sentinels must be an array, got a string'],
    [
      { ...listed, sentinels: [undefined] },
      'TypeError',
      'redis.sentinels[0] must be an object, got undefined',
    ],
    [{ ...listed, sentinels: [SENTINEL, 5] }, 'TypeError', 'redis.sentinels[1] must be an object'],
    [{ ...listed, sentinels: ['s1:26379'] }, 'RangeError', 'redis:// or rediss:// URL, or { host, port }'],
    [{ ...listed, sentinels: ['redis+sentinel://s1/m'] }, 'RangeError', 'is the option redis.url'],
    [{ ...listed, sentinels: [{ hots: 's1' }] }, 'TypeError', 'did you mean "host"'],
    [{ ...listed, sentinels: [{ port: 1 }] }, 'TypeError', 'redis.sentinels[0].host must be a string'],
    [
      { ...listed, sentinels: [{ host: 's1/0' }] },
      'RangeError',
      'redis.sentinels[0].host must be a host name',
    ],
    [
      { ...listed, sentinels: [{ host: 'me:x@s1' }] },
      'RangeError',
      'redis.sentinels[0].host must be a host name',
    ],
    [{ ...listed, sentinels: [{ host: 's1', port: 0 }] }, 'RangeError', 'redis.sentinels[0].port'],
    [{ ...listed, sentinels: [{ host: 's1', port: '1' }] }, 'TypeError', 'redis.sentinels[0].port'],
    [
      { ...listed, sentinelTls: false },
      'TypeError',
      'redis.sentinelTls must be an object, got a boolean; true is',
    ],
    [{ ...listed, sentinelTls: { ca: 5 } }, 'TypeError', 'redis.sentinelTls.ca must be PEM'],
    [{ ...listed, sentinelPassword: 5 }, 'TypeError', 'redis.sentinelPassword must be a string'],
    [{ ...listed, db: -1 }, 'RangeError', 'redis.db'],
    [{ ...listed, durable: 1 }, 'TypeError', 'redis.durable must be true or false'],
    [{ cluster: [] }, 'RangeError', 'redis.cluster must not be empty'],
    [{ cluster: 5 }, 'TypeError', 'redis.cluster must be an array'],
    [{ cluster: [{ host: 'a' }] }, 'TypeError', 'redis.cluster[0] must be a string, got an object'],
    [{ cluster: 'redis+cluster://a,b' }, 'RangeError', 'is the option redis.url'],
    [{ cluster: 'a:6379' }, 'RangeError', 'redis.cluster[0] must be a redis:// or rediss:// URL'],
    [{ cluster: 'redis://x', nodeAddressMap: [] }, 'TypeError', 'redis.nodeAddressMap must be an object'],
    [{ cluster: 'redis://x', nodeAddressMap: new Map() }, 'TypeError', 'got an object of type Map'],
    [{ cluster: 'redis://x', nodeAddressMap: () => ({}) }, 'TypeError', 'got a function: list the addresses'],
    [{ cluster: 'redis://x', nodeAddressMap: { a: {} } }, 'RangeError', "must be 'host:port'"],
    [{ cluster: 'redis://x', nodeAddressMap: { 'a:0': {} } }, 'RangeError', "must be 'host:port'"],
    [{ cluster: 'redis://x', nodeAddressMap: { 'a:65536': {} } }, 'RangeError', "must be 'host:port'"],
    [{ cluster: 'redis://x', nodeAddressMap: { 'a b:1': {} } }, 'RangeError', "must be 'host:port'"],
    [{ cluster: 'redis://x', nodeAddressMap: { ':1': {} } }, 'RangeError', "must be 'host:port'"],
    [{ cluster: 'redis://x', nodeAddressMap: { 'a:1': 'b:1' } }, 'TypeError', '["a:1"] must be an object'],
    [
      { cluster: 'redis://x', nodeAddressMap: { 'a:1': undefined } },
      'TypeError',
      '["a:1"] must be an object',
    ],
    [{ cluster: 'redis://x', nodeAddressMap: { 'a:1': { host: 'b' } } }, 'TypeError', '["a:1"].port must be'],
    [
      { cluster: 'redis://x', nodeAddressMap: { 'a:1': { host: 'b', prot: 1 } } },
      'TypeError',
      'did you mean "port"',
    ],
    [
      {
        cluster: 'redis://x',
        nodeAddressMap: { '::1:1': { host: 'b', port: 1 }, '[::1]:1': { host: 'c', port: 1 } },
      },
      'RangeError',
      '["[::1]:1"] is the same as another one',
    ],
  ])('refuses %o', (redis, name, message) => {
    const error = refusal(redis)
    expect(error).toMatchObject({ name, code: 'INVALID_OPTION' })
    expect(error.message).toContain(message)
  })

  it.each([
    [{ ...listed, sentinels: ['redis://:x@s1'] }, 'sentinelUsername and sentinelPassword'],
    [{ ...listed, sentinels: [SENTINEL, 'rediss://s2'] }, 'mixes redis:// and rediss://'],
    [{ ...listed, sentinelTls: true }, 'sentinelTls options need a rediss:// URL'],
    [{ url: 'redis+sentinel://s1' }, 'redis+sentinel://host:26379/name'],
    [{ url: 'redis+sentinel://s1/m', tls: true }, 'tls options need a rediss:// URL'],
    [{ url: 'redis://x', sentinelPassword: 'x' }, 'need Sentinels'],
    [{ cluster: 'redis://x', sentinelTls: true }, 'need Sentinels'],
    [{ cluster: 'redis://x', db: 1 }, 'only the database 0'],
    [{ url: 'redis+cluster://x/1' }, 'only the database 0'],
    [{ cluster: ['redis://:x@a', 'redis://b'] }, 'differ in username, password or database'],
    [{ url: 'redis://x', nodeAddressMap: { 'a:1': { host: 'b', port: 1 } } }, 'nodeAddressMap needs'],
  ])('refuses what the addon finds in URLs: %o', (redis, message) => {
    const error = refusal(redis)
    expect(error.code).toBe('INVALID_OPTION')
    expect(error.message).toContain(message)
  })

  it.each([
    ['masterName', 'did you mean "name"?'],
    ['sentinelRootNodes', 'did you mean "sentinels"?'],
    ['rootNodes', 'did you mean "cluster"?'],
    ['natMap', 'did you mean "nodeAddressMap"?'],
    ['nodeClientOptions', 'in redis itself'],
    ['sentinelClientOptions', 'sentinelUsername, sentinelPassword and sentinelTls'],
    ['enableTLSForSentinelMode', 'sentinelTls: true'],
    ['sentinelTLS', 'did you mean "sentinelTls"?'],
    ['role', 'taken on the primary'],
    ['preferredSlaves', 'taken on the primary'],
    ['useReplicas', 'taken on the primary'],
    ['clusterRetryStrategy', 'waitMs of an acquire'],
    ['slotsRefreshTimeout', 'leave it out'],
    ['minimizeConnections', 'leave it out'],
    ['database', 'did you mean "db"?'],
    ['host', "url: 'redis://host:port'"],
    ['constructor', 'known are url'],
    ['ttlMs', 'it belongs in the manager’s option defaults'],
  ])('say what to use instead of %s', (key, message) => {
    const error = refusal({ url: 'redis://x', [key]: 'hunter2' })
    expect(error).toMatchObject({ name: 'TypeError', code: 'INVALID_OPTION' })
    expect(error.message).toContain(`unknown option "${key}" in redis; `)
    expect(error.message).toContain(message)
    expect(error.message).not.toContain('hunter2')
  })

  it.each([
    { ...listed, sentinels: ['hunter2'] },
    { ...listed, sentinels: ['redis://:hunter2@s1'] },
    { ...listed, sentinels: ['redis+sentinel://:hunter2@s1/m'] },
    { ...listed, sentinels: [{ host: 'me:hunter2@s1' }] },
    { ...listed, sentinelPassword: ['hunter2'] },
    { ...listed, sentinelTls: { key: 'hunter2', cert: 'hunter2' } },
    { ...listed, name: ['hunter2'] },
    { cluster: 'redis://:hunter2@a:port' },
    { cluster: ['redis://:hunter2@a', 'redis://b'] },
    { cluster: [['hunter2']] },
    { url: 'redis+sentinel://:hunter2@s1' },
    { url: 'redis+sentinel://:hunter2@s1/m/x' },
    { url: 'redis+cluster://:hunter2@s1:port' },
  ])('are refused without showing a secret: %#', (redis) => {
    const error = refusal(redis)
    expect(error.code).toBe('INVALID_OPTION')
    expect(`${error.stack} ${JSON.stringify(error)}`).not.toContain('hunter2')
  })

  it('become the addresses of Sentinels', () => {
    expect(
      config({
        sentinels: ['redis://s1', new URL('redis://s2:1'), { host: 's3' }, { host: '::1', port: 5 }],
        name: 'mymaster',
      }),
    ).toMatchObject({
      sentinels: ['redis://s1', 'redis://s2:1', 'redis://s3:26379', 'redis://[::1]:5'],
      name: 'mymaster',
      replicas: 2,
      durable: false,
    })
    expect(config({ ...listed, sentinels: [{ host: '[::1]' }], sentinelTls: true })).toMatchObject({
      sentinels: ['rediss://[::1]:26379'],
      sentinelTls: { rejectUnauthorized: true },
      tls: undefined,
    })
  })

  it('become the nodes of a cluster and its addresses', () => {
    expect(
      config({
        url: undefined,
        cluster: 'rediss://a',
        nodeAddressMap: {
          '10.0.0.1:6379': { host: 'one', port: 1 },
          '[FD00::1]:6379': { host: '[::1]', port: 2 },
          'fd00::2:6379': { host: '10.0.0.2', port: 3 },
        },
      }),
    ).toMatchObject({
      cluster: ['rediss://a'],
      nodeAddressMap: [
        { host: '10.0.0.1', port: 6379, toHost: 'one', toPort: 1 },
        { host: 'fd00::1', port: 6379, toHost: '::1', toPort: 2 },
        { host: 'fd00::2', port: 6379, toHost: '10.0.0.2', toPort: 3 },
      ],
    })
    expect(config({ cluster: ['redis://a', new URL('redis://b')] })['cluster']).toEqual([
      'redis://a',
      'redis://b',
    ])
  })

  it.each([
    ['sentinels', ['redis://evil']],
    ['cluster', 'redis://evil'],
    ['name', 'evil'],
    ['sentinelPassword', 'evil'],
    ['nodeAddressMap', { 'a:1': { host: 'evil', port: 1 } }],
    ['durable', true],
    ['port', 1],
    ['10.0.0.1:1', { host: 'evil', port: 1 }],
  ])('are not read from Object.prototype: %s', (key, value) => {
    const everywhere = Object.prototype as Record<string, unknown>
    everywhere[key] = value
    try {
      const map = { 'b:1': { host: 'c', port: 2 } }
      const seen = [
        config({ url: 'redis://x' }),
        config({ ...listed, sentinels: [{ host: 's1' }], nodeAddressMap: map }),
      ]
      expect(JSON.stringify(seen)).not.toContain('evil')
      expect(seen[0]).toMatchObject({ durable: false })
      expect(seen[1]).toMatchObject({ sentinels: ['redis://s1:26379'] })
    } finally {
      delete everywhere[key]
    }
  })

  it('can be of another realm, instances of classes and frozen', () => {
    class Address {
      get host(): string {
        return 's1'
      }
    }
    expect(config(Object.freeze({ ...listed, sentinels: Object.freeze([new Address()]) }))).toMatchObject({
      sentinels: ['redis://s1:26379'],
    })
    expect(
      config(runInNewContext(`({ sentinels: [{ host: 's1' }], name: 'm', nodeAddressMap: {} })`)),
    ).toMatchObject({ sentinels: ['redis://s1:26379'] })
  })

  it('declare a durable log, which needs no acknowledgements', () => {
    const acks = (options: object) => {
      const settings = managerSettings({ redis: { url: 'redis://x', ...options } })
      return acquireRequest(STRATEGIES['strong'], {}, settings)['acks']
    }
    expect(acks({})).toBe(2)
    expect(acks({ durable: true })).toBe(0)
    expect(acks({ durable: true, replicas: 1 })).toBe(0)
    expect(config({ url: 'redis://x', durable: true })).toMatchObject({ durable: true, replicas: 0 })
  })
})

describe('the option fsync', () => {
  const settings = (defaults: object) => managerSettings({ redis: 'redis://x', defaults })
  const request = (options: object, defaults = {}) =>
    acquireRequest(STRATEGIES['strong'], options, settings(defaults))

  it('has a default, and gives a disk more time', () => {
    expect(request({})).toMatchObject({ fsync: false, ackTimeoutMs: 50 })
    expect(request({ fsync: true })).toMatchObject({ fsync: true, ackTimeoutMs: 2_000 })
    expect(request({ fsync: true, ttlMs: 1_001 })).toMatchObject({ ackTimeoutMs: 500 })
    expect(request({ fsync: true, ackTimeoutMs: 70 })).toMatchObject({ ackTimeoutMs: 70 })
    expect(request({}, { fsync: true })).toMatchObject({ fsync: true, ackTimeoutMs: 2_000 })
    expect(request({ fsync: false }, { fsync: true })).toMatchObject({ fsync: false, ackTimeoutMs: 50 })
    expect(request({ fsync: true }, { ackTimeoutMs: 80 })).toMatchObject({ ackTimeoutMs: 80 })
  })

  it('is refused for other values, and for local locks', async () => {
    expect(() => request({ fsync: 1 })).toThrow('fsync must be true or false, got a number')
    expect(() => settings({ fsync: 'yes' })).toThrow('defaults.fsync must be true or false, got a string')
    const locks = closing(
      new LockManager({ local: resolve(tempDir(), 'l.sqlite'), defaults: { fsync: true } }),
    )
    expect((await locks.acquireLocal('x')).held).toBe(true)
    const error = await rejection(locks.acquireLocal('y', { fsync: true } as never))
    expect(error).toMatchObject({ code: 'INVALID_OPTION' })
    expect(error.message).toContain('strong locks only')
  })
})
