/** What the comparison and the pages about moving state of other libraries on several Redis servers. */
import { LockManager } from 'fencelock'
import { describe, expect, it } from 'vitest'

import { unique } from '../fixtures/locks'
import { startProxy } from '../fixtures/servers/proxy'
import { startNodes, startRedis } from '../fixtures/servers/redis'
import { sleep } from '../fixtures/temp'
import { connect, load } from './support'

const Redlock = load('redlock').default
const Redlock4 = load('redlock-4')
const { createRedlock, IoredisAdapter } = load('redlock-universal')
const { RedlockMutex } = load('redis-semaphore')

const settled = (promise: Promise<unknown>, ms: number) =>
  Promise.race([promise.then(Boolean, () => 'rejected'), sleep(ms).then(() => 'pending')])

describe('several servers', () => {
  it('redlock waits for ever after an even vote (5), and for a server that hangs (5 and 4.2.0)', async () => {
    const nodes = await startNodes(2)
    const [first, second] = nodes.map(({ url }) => connect(url))
    const redis = connect((await startRedis()).url)
    const name = unique()
    await nodes[0]!.cmd('SET', name, 'another')
    const silent = await startProxy(nodes[1]!.port)
    const hanging = connect(silent.url)
    await hanging.ping()
    silent.swallow()
    const once = { retryCount: 0 }
    const attempts = [
      new Redlock([first, second], once).acquire([name], 5000),
      new Redlock([first, hanging, redis], once).acquire([name], 5000),
      new Redlock4([redis, first, hanging], once).lock(unique(), 5000),
    ]
    expect(await Promise.all(attempts.map((each) => settled(each, 1000)))).toEqual([
      'pending',
      'pending',
      'pending',
    ])
    // fencelock refuses an even number, so an even vote is not possible.
    expect(() => new LockManager({ quorum: { nodes: nodes.map(({ url }) => url) } })).toThrow('3, 5 or 7')
  })

  it('a server that was restarted without its data votes at once with the others', async () => {
    const nodes = await startNodes(3)
    const clients = nodes.map(({ url }) => connect(url, { retryStrategy: () => 20 }))
    const [first, second, third] = [unique(), unique(), unique()]
    const once = { retryCount: 0 }
    const options = { lockTimeout: 20_000, refreshInterval: 0 }
    const adapters = clients.map((client) => new IoredisAdapter(client))
    // The holders got two of three, as if the third server had been away.
    const redlock = await new Redlock(clients.slice(0, 2), once).acquire([first], 20_000)
    const universal = createRedlock({ adapters: adapters.slice(0, 2), key: second, ttl: 20_000 })
    const handle = await universal.acquire()
    const mutex = new RedlockMutex(clients.slice(0, 2), third, options)
    await mutex.acquire()

    await nodes[0]!.stop()
    await nodes[0]!.start()
    await Promise.all(clients.map((client) => client.ping()))
    const again = await new Redlock(clients, once).acquire([first], 5000)
    expect(redlock.expiration - Date.now()).toBeGreaterThan(0)
    expect(again.value).not.toBe(redlock.value)
    expect((await createRedlock({ adapters, key: second }).acquire()).value).not.toBe(handle.value)
    expect(await new RedlockMutex(clients, third, options).tryAcquire()).toBe(true)
    expect(mutex.isAcquired).toBe(true)
  })
})
