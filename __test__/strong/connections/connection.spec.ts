/** Connecting to a Redis server: sockets, users, databases, TLS, and the errors when that fails. */
import { BackendUnavailableError, LockManager, type RedisOptions } from 'fencelock'
import { readFileSync } from 'node:fs'
import { beforeAll, describe, expect, it } from 'vitest'

import { closing, rejection, unique } from '../../fixtures/locks'
import { startRedis, type RedisServer } from '../../fixtures/servers/redis'
import { makeCertificates, type Certificates } from '../../fixtures/servers/tls'

/** Acquires and releases a lock over this connection. */
async function works(redis: string | RedisOptions): Promise<void> {
  const locks = closing(
    new LockManager({
      redis: typeof redis === 'string' ? { url: redis, replicas: 0 } : { replicas: 0, ...redis },
    }),
  )
  const lock = await locks.acquireStrong(unique())
  expect(await lock.release()).toBe(true)
}

/** The error of connecting. A second call must fail in the same way. */
async function fails(redis: RedisOptions): Promise<BackendUnavailableError> {
  const locks = closing(new LockManager({ redis: { replicas: 0, connectTimeoutMs: 5_000, ...redis } }))
  const error = await rejection<BackendUnavailableError>(locks.connect())
  expect(error).toBeInstanceOf(BackendUnavailableError)
  expect(error).toMatchObject({ code: 'BACKEND_UNAVAILABLE', strategy: 'strong' })
  expect(await rejection(locks.acquireStrong(unique()))).toMatchObject({ code: 'BACKEND_UNAVAILABLE' })
  expect(locks.stats()).toMatchObject({ granted: 0, unknown: 0, cleanups: 0 })
  return error
}

describe('plain', () => {
  let server: RedisServer
  beforeAll(async () => {
    server = await startRedis({ unixSocket: true })
  })

  it('connects by address, by name, and by Unix socket', async () => {
    await works(server.url)
    await works(`redis://localhost:${server.port}`)
    await works(server.socketUrl)
    await works(`${server.socketUrl}?db=3`)
  })

  it('uses the given database, in the URL or as an option', async () => {
    for (const redis of [
      { url: `${server.url}/5` },
      { url: server.url, db: 5 },
      { url: `${server.url}/4`, db: 5 },
    ]) {
      await server.cmd('FLUSHALL')
      const locks = closing(new LockManager({ redis: { replicas: 0, ...redis } }))
      const lock = await locks.acquireStrong('x')
      // Lock and fence, and a moment later the holder.
      expect(await server.cmd('INFO', 'keyspace')).toMatch(/db5:keys=[23],/)
      await lock.release()
      // It tells the next one nothing of its holder.
      await locks.close()
    }
    expect((await fails({ url: server.url, db: 99 })).message).toMatch(/database/i)
  })

  it('sets its client name on the server', async () => {
    await server.cmd('FLUSHALL')
    const locks = closing(new LockManager({ redis: { url: server.url, replicas: 0 } }))
    await locks.connect()
    expect(await server.cmd('CLIENT', 'LIST')).toContain('fencelock')
  })

  it('reports that no server is listening', async () => {
    const down = await startRedis()
    await down.kill()
    expect((await fails({ url: down.url })).message).toMatch(/refused/i)
    expect((await fails({ url: 'redis+unix:///nonexistent/redis.sock' })).message).toMatch(/nothing there/i)
    expect((await fails({ url: 'redis://no-such-host.invalid:6379' })).message).toMatch(
      /no-such-host\.invalid/,
    )
  })

  it('reports that the server does not use TLS', async () => {
    expect(
      (await fails({ url: `rediss://localhost:${server.port}`, connectTimeoutMs: 2_000 })).message,
    ).toMatch(/TLS/)
  })

  it.each([
    ['http://localhost', 'redis://'],
    ['localhost:6379', 'redis://'],
    ['redis://', ''],
    ['redis://localhost:99999', ''],
    ['redis://localhost/abc', ''],
  ])('refuses the URL %j at once', (url, hint) => {
    expect(() => new LockManager({ redis: url })).toThrow(
      expect.objectContaining({
        code: 'INVALID_OPTION',
        name: 'TypeError',
        message: expect.stringContaining(hint),
      }),
    )
  })

  it('never shows a password', async () => {
    const secret = 'hunter2-secret'
    try {
      new LockManager({ redis: `http://user:${secret}@localhost` })
    } catch (error) {
      expect(JSON.stringify(error, Object.getOwnPropertyNames(error))).not.toContain(secret)
    }
    const error = await fails({ url: server.url.replace('://', `://user:${secret}@`) })
    expect(JSON.stringify(error)).not.toContain(secret)
    expect(`${error.message}${error.stack}${String(error.cause)}`).not.toContain(secret)
  })
})

describe('with users', () => {
  let server: RedisServer
  beforeAll(async () => {
    server = await startRedis({
      users: [
        'default off',
        'alice on >secret ~fencelock:* &fencelock:* +@all',
        'bob on >secret ~other:* +@all',
        'carol on >secret ~* +@all -evalsha -eval',
      ],
    })
  })
  const as = (user: string, password = 'secret'): string =>
    server.url.replace('://', `://${user}:${password}@`)

  it('logs in with credentials in the URL or as options', async () => {
    await works(as('alice'))
    await works({ url: server.url, username: 'alice', password: 'secret' })
    await works({ url: as('alice', 'wrong'), password: 'secret' })
  })

  it('reports that the password is wrong or missing', async () => {
    for (const [redis, code] of [
      [{ url: as('alice', 'wrong') }, 'WRONGPASS'],
      [{ url: server.url, username: 'stranger', password: 'secret' }, 'WRONGPASS'],
      [{ url: server.url }, 'NOAUTH'],
    ] as const) {
      const error = await fails(redis)
      expect(error.message).toMatch(/password|log in/i)
      expect(error.cause).toMatchObject({ code })
    }
  })

  it('reports what a user must not do, and leaves nothing behind', async () => {
    const locks = closing(new LockManager({ redis: { url: as('bob'), replicas: 0 } }))
    expect(await rejection(locks.acquireStrong('x'))).toMatchObject({
      code: 'BACKEND_UNAVAILABLE',
      message: expect.stringMatching(/permission|ACL/i),
      cause: expect.objectContaining({ code: 'NOPERM' }),
    })
    const without = closing(new LockManager({ redis: { url: as('carol'), replicas: 0 } }))
    expect((await rejection(without.acquireStrong('x'))).message).toMatch(/evalsha|script|permission/i)
    expect(await server.cmd('KEYS', '*{x}*')).toEqual([])
  })

  it('accepts a password with a colon, an at sign and a percent sign', async () => {
    const own = await startRedis({ password: 'p@ss:w%rd/?#' })
    await works({ url: own.url, password: 'p@ss:w%rd/?#' })
    await works(own.url.replace('://', `://:${encodeURIComponent('p@ss:w%rd/?#')}@`))
    expect((await fails({ url: own.url })).message).toMatch(/password|log in/i)
  })
})

/** In place of what followed the word AUTH. */
const LEFT_OUT = /AUTH … \(the rest is left out: it may repeat a password\)$/

it('says that a server without a password was given one', async () => {
  const server = await startRedis()
  const error = await fails({ url: server.url.replace('://', '://:hunter2-secret@') })
  expect(error.message).toContain(
    'the server has no password for this user; omit it, or set one on the server',
  )
  expect(error.cause).toMatchObject({ code: 'ERR', message: expect.stringMatching(LEFT_OUT) })
})

it('does not show a password that the server repeats', async () => {
  const server = await startRedis({ config: ['rename-command AUTH ""'] })
  const error = await fails({ url: server.url.replace('://', '://user:hunter2-secret@') })
  expect(error.cause).toMatchObject({ code: 'ERR', message: expect.stringMatching(LEFT_OUT) })
  expect(`${JSON.stringify(error)}${error.stack}${String((error.cause as Error).stack)}`).not.toContain(
    'hunter2',
  )
})

describe('with TLS', () => {
  let certificates: Certificates
  let server: RedisServer
  let strict: RedisServer
  const read = (path: string): Buffer => readFileSync(path)
  beforeAll(async () => {
    certificates = makeCertificates()
    server = await startRedis({ tls: certificates })
    strict = await startRedis({ tls: { ...certificates, clientAuth: true } })
  })

  it('trusts the given authority, as text or as bytes', async () => {
    await works({ url: server.tlsUrl, tls: { ca: read(certificates.ca) } })
    await works({ url: server.tlsUrl, tls: { ca: String(read(certificates.ca)) } })
    await works({ url: server.tlsUrl.replace('localhost', '127.0.0.1'), tls: { ca: read(certificates.ca) } })
  })

  it('does not trust an unknown authority, unless verification is off', async () => {
    expect((await fails({ url: server.tlsUrl })).message).toMatch(/certificate/i)
    await works({ url: server.tlsUrl, tls: { rejectUnauthorized: false } })
  })

  it('verifies the server name', async () => {
    const ca = read(certificates.ca)
    expect((await fails({ url: server.tlsUrl, tls: { ca, serverName: 'redis.example' } })).message).toMatch(
      /certificate|name/i,
    )
    await works({
      url: server.tlsUrl.replace('localhost', '127.0.0.1'),
      tls: { ca, serverName: 'localhost' },
    })
  })

  it('presents a client certificate when the server requests one', async () => {
    const ca = read(certificates.ca)
    await works({
      url: strict.tlsUrl,
      tls: { ca, cert: read(certificates.clientCert), key: read(certificates.clientKey) },
    })
    expect((await fails({ url: strict.tlsUrl, tls: { ca } })).message).toMatch(/certificate|TLS/i)
  })

  it('reports that the server expects TLS', async () => {
    const error = await fails({ url: `redis://127.0.0.1:${server.tlsPort}`, connectTimeoutMs: 1_000 })
    expect(error.message.length).toBeGreaterThan(20)
  })

  it('refuses text that is not PEM', () => {
    for (const tls of [{ ca: 'nonsense' }, { ca: '' }, { cert: 'x', key: 'y' }]) {
      expect(() => new LockManager({ redis: { url: server.tlsUrl, tls } })).toThrow(
        expect.objectContaining({ code: 'INVALID_OPTION' }),
      )
    }
    expect(
      () => new LockManager({ redis: { url: server.tlsUrl, tls: { cert: read(certificates.clientCert) } } }),
    ).toThrow(/together/)
  })
})
