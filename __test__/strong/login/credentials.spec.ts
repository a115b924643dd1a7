/** `redis.credentials`: tokens and passwords that change, are refused, or do not come. */
import { BackendUnavailableError, LockManager, type RedisCredentials } from 'fencelock'
import { runInNewContext } from 'node:vm'
import { Worker } from 'node:worker_threads'
import { beforeAll, describe, expect, it } from 'vitest'

import { closing, fencelockWarnings, rejection, unique } from '../../fixtures/locks'
import { startCluster, startRedis, type RedisServer } from '../../fixtures/servers/redis'
import { eventually, sleep } from '../../fixtures/temp'

let server: RedisServer
beforeAll(async () => {
  server = await startRedis()
})

const url = (): string => `redis://127.0.0.1:${server.port}`

/** A new user of the server. */
async function newUser(password: string, on = server): Promise<string> {
  const name = unique('user')
  await setPassword(name, password, on)
  return name
}

async function setPassword(name: string, password: string, on = server): Promise<void> {
  await on.cmd('ACL', 'SETUSER', name, 'on', 'resetpass', `>${password}`, '~*', '&*', '+@all')
}

/** The ids of the connections that are logged in as this user. */
async function connectionsOf(name: string, kind = ''): Promise<string[]> {
  const list = String(await server.cmd('CLIENT', 'LIST'))
  const lines = list.split('\n').filter((line) => line.includes(` user=${name} `) && line.includes(kind))
  return lines.map((line) => /^id=(\d+)/.exec(line)?.[1] ?? '')
}

function manager(credentials: () => unknown, options: object = {}): LockManager {
  const ask = credentials as () => RedisCredentials
  return closing(new LockManager({ redis: { url: url(), replicas: 0, credentials: ask, ...options } }))
}

describe('credentials that change', () => {
  it('are used by open connections while leases are renewed, and no lease is lost', async () => {
    const [before, after] = [await newUser('one'), await newUser('two')]
    const answers = [
      { username: before, password: 'one', expiresInMs: 4_000 },
      { username: after, password: 'two' },
    ]
    let calls = 0
    const locks = manager(async () => answers[calls++])
    const waiting = unique()
    const held = await locks.acquireStrong([unique()], { ttlMs: 3_000, renew: true })
    const first = await locks.acquireStrong(waiting, { renew: true })
    const waiter = locks.acquireStrong(waiting, { waitMs: 20_000 })
    await eventually(
      'the waiter is subscribed',
      async () => (await connectionsOf(before, 'sub=1')).length === 1,
    )
    const all = await connectionsOf(before)
    const subscriber = await connectionsOf(before, 'sub=1')
    await eventually('all connections have changed', async () => (await connectionsOf(before)).length === 0)
    await eventually('the waiter is subscribed again', async () => {
      const { length } = await connectionsOf(after, 'sub=1')
      return length === 1
    })
    const now = await connectionsOf(after)
    // They logged in again instead of being replaced.
    const kept = all.filter((id) => !subscriber.includes(id))
    expect(kept.length).toBeGreaterThan(0)
    expect(now).toEqual(expect.arrayContaining(kept))
    expect(now).not.toContain(subscriber[0])
    // That ends the connections of the user.
    await server.cmd('ACL', 'DELUSER', before)
    await first.release()
    await (await waiter).release()
    await sleep(3_200)
    expect([held.held, held.signal.aborted, calls]).toEqual([true, false, 2])
    await held.release()
  })

  it('stay in use while a server accepts them, and are asked for again when it does not', async () => {
    const warnings = fencelockWarnings()
    const username = await newUser('old')
    let [password, calls] = ['old', 0]
    const locks = manager(() => {
      calls++
      return { username, password }
    })
    await (await locks.acquireStrong(unique())).release()
    password = 'new'
    await setPassword(username, password)
    await (await locks.acquireStrong(unique())).release()
    expect(calls).toBe(1)
    for (const id of await connectionsOf(username)) await server.cmd('CLIENT', 'KILL', 'ID', id)
    const isOpen = () => locks.stats().connections.some(({ open }) => open > 0)
    await eventually('that is noticed', () => !isOpen())
    // One call is enough: it waits for the answer.
    await (await locks.acquireStrong(unique())).release()
    expect(calls).toBe(2)
    await eventually('a warning', () => warnings.length > 0)
    expect(warnings.map(({ code }) => code)).toEqual(['FENCELOCK_CREDENTIALS'])
    expect(warnings[0]?.message).toContain('WRONGPASS')
  })

  it('keep the connection when they are refused, which is told, and asked for at a bounded rate', async () => {
    const warnings = fencelockWarnings()
    const username = await newUser('right')
    let calls = 0
    const locks = manager(() =>
      calls++ === 0
        ? { username, password: 'right', expiresInMs: 1_000 }
        : { username, password: `wrong-s3cret-${calls}`, expiresInMs: 1_000 },
    )
    const lock = await locks.acquireStrong(unique(), { ttlMs: 3_000, renew: true })
    const before = await connectionsOf(username)
    await eventually('a warning', () => warnings.length > 0)
    await sleep(1_000)
    expect(await connectionsOf(username)).toEqual(before)
    expect(lock.held).toBe(true)
    expect(calls).toBeLessThan(8)
    expect(warnings).toHaveLength(1)
    expect(warnings[0]?.message).not.toContain('s3cret')
    await lock.release()
  })

  it('are kept when the function fails later, which is told once', async () => {
    const warnings = fencelockWarnings()
    const username = await newUser('kept')
    let calls = 0
    const locks = manager(async () => {
      if (calls++ > 0) throw new Error('the vault is sealed')
      return { username, password: 'kept', expiresInMs: 1_000 }
    })
    const lock = await locks.acquireStrong(unique(), { ttlMs: 3_000, renew: true })
    await eventually('it failed twice', () => calls > 2)
    expect(warnings.map(({ message }) => message)).toEqual([expect.stringContaining('the vault is sealed')])
    expect(lock.held).toBe(true)
    await lock.release()
    await locks.close()
    const afterwards = calls
    await sleep(1_200)
    expect(calls).toBe(afterwards)
  })

  it('reach every node of a cluster', async () => {
    const node = await startCluster()
    const username = await newUser('clustered', node)
    await node.cmd('ACL', 'SETUSER', 'default', 'off')
    const credentials = (): RedisCredentials => ({ username, password: 'clustered' })
    const cluster = `redis://127.0.0.1:${node.port}`
    const locks = closing(new LockManager({ redis: { cluster, replicas: 0, credentials } }))
    await (await locks.acquireStrong(unique())).release()
  })
})

describe('a function that brings no credentials', () => {
  it('is called again after it rejects, and calls get its error as cause', async () => {
    const username = await newUser('late')
    let fails = true
    const locks = manager(async () => {
      if (fails) throw new Error('no token')
      return { username, password: 'late' }
    })
    const error = await rejection(locks.acquireStrong(unique()))
    expect(error).toBeInstanceOf(BackendUnavailableError)
    expect(error.cause).toMatchObject({ message: 'no token' })
    fails = false
    await (await locks.acquireStrong(unique())).release()
  })

  it('is waited for within connectTimeoutMs', async () => {
    const locks = manager(() => new Promise(() => {}), { connectTimeoutMs: 150 })
    const error = await rejection(locks.acquireStrong(unique()))
    expect(error).toMatchObject({ code: 'BACKEND_UNAVAILABLE' })
    expect(error.message).toContain('credentials returned nothing within connectTimeoutMs')
  })

  const secret = 'hunter2-s3cret'
  it.each<[string, () => unknown, string]>([
    ['nothing', () => undefined, 'must be an object'],
    ['null', () => null, 'must be an object'],
    ['text', () => secret, 'must be an object, got a string'],
    ['no password', () => ({ username: secret }), 'has no password, which a username needs'],
    ['an empty password', () => ({ password: '' }), 'must not be empty'],
    ['a number', () => ({ password: 5 }), 'must be a string'],
    ['half a character', () => ({ password: `${secret}\uD800` }), 'well-formed'],
    ['an unknown key', () => ({ password: secret, expiresIn: 5 }), 'did you mean "expiresInMs"'],
    ['no time', () => ({ password: secret, expiresInMs: 0 }), 'must be a finite number above 0'],
    ['NaN', () => ({ password: secret, expiresInMs: Number.NaN }), 'must be a finite number above 0'],
    ['rejected text', () => Promise.reject(secret), 'it threw, or rejected with, a string'],
    [
      'a getter that throws',
      () => ({
        get password(): string {
          throw new Error('no getter')
        },
      }),
      'no getter',
    ],
    [
      'a throw',
      () => {
        throw new TypeError('at once')
      },
      'at once',
    ],
  ])('refuses %s, without showing it', async (_, credentials, expected) => {
    const locks = manager(credentials)
    const error = await rejection(locks.acquireStrong(unique()))
    expect(error).toMatchObject({ code: 'BACKEND_UNAVAILABLE' })
    const { message } = error.cause as Error
    expect(message).toContain(expected)
    expect(`${message} ${error.message}`).not.toContain(secret)
  })
})

describe('the function', () => {
  it('may return what another realm made, without a promise', async () => {
    const username = await newUser('foreign')
    const locks = manager(runInNewContext(`() => ({ username: '${username}', password: 'foreign' })`))
    await (await locks.acquireStrong(unique())).release()
  })

  it('is called in a worker thread', async () => {
    const username = await newUser('threaded')
    const options = JSON.stringify({ url: url(), replicas: 0 })
    const worker = new Worker(
      `const { LockManager } = require(${JSON.stringify(require.resolve('fencelock'))})
       const credentials = async () => ({ username: '${username}', password: 'threaded', expiresInMs: 60_000 })
       const locks = new LockManager({ redis: { ...${options}, credentials } })
       locks.acquireStrong('${unique()}').then((lock) => lock.release())`,
      { eval: true },
    )
    const ended = new Promise((resolve, reject) => worker.once('error', reject).once('exit', resolve))
    expect(await ended).toBe(0) // and the next question does not keep it alive
  })

  it('is not called after close()', async () => {
    let calls = 0
    const locks = manager(() => {
      calls++
      return { password: 'x' }
    })
    await locks.close()
    await sleep(50)
    expect(calls).toBe(0)
  })

  it.each([
    ['username', { username: 'app' }],
    ['password', { password: 'hunter2' }],
    ['the URL', { url: 'redis://:hunter2@127.0.0.1' }],
    ['no function', { credentials: { password: 'hunter2' } }],
  ])('excludes %s', (_, options) => {
    let thrown: unknown
    try {
      manager(() => ({ password: 'x' }), options)
    } catch (error) {
      thrown = error
    }
    expect(thrown).toMatchObject({ code: 'INVALID_OPTION' })
    expect(String(thrown)).not.toContain('hunter2')
  })
})
