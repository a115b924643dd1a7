/** `redis.credentials` with Sentinels and with a cluster, whose servers each have their own users. */
import { LockManager, type Lock, type RedisCredentials, type RedisOptions } from 'fencelock'
import { beforeAll, describe, expect, it } from 'vitest'

import { closing, fencelockWarnings, unique } from '../../fixtures/locks'
import { startRedisCluster } from '../../fixtures/servers/cluster'
import { type RedisServer } from '../../fixtures/servers/redis'
import { startSentinel } from '../../fixtures/servers/sentinel'
import { eventually, sleep } from '../../fixtures/temp'

interface Place {
  redis: RedisOptions
  servers: RedisServer[]
  /** Replicas take over, as planned. */
  failOver: () => Promise<void>
}

// Nothing is possible without a login.
const users = ['default off']

async function sentinels(): Promise<Place> {
  const deployment = await startSentinel({ data: { users } })
  const { sentinelUrls, name, servers } = deployment
  return {
    redis: { sentinels: sentinelUrls, name, replicas: 2 },
    servers,
    failOver: async () => {
      const before = await deployment.primary()
      await deployment.failOver()
      const promoted = await deployment.agree((primary) => primary !== before)
      await promoted.waitForReplicas(1)
    },
  }
}

async function cluster(): Promise<Place> {
  const nodes = await startRedisCluster({ primaries: 2, users })
  return {
    redis: { cluster: nodes.urls, replicas: 1 },
    servers: nodes.nodes,
    failOver: async () => {
      for (const primary of await nodes.primaries()) {
        const [replica] = await nodes.replicasOf(primary)
        await nodes.failOver(replica!)
      }
      await nodes.ready()
    },
  }
}

/** So that grants go on while a server that was demoted does not follow yet. */
const defaults = { acks: 1, ackTimeoutMs: 2000, ttlMs: 10_000 }
const renewedTtlMs = 6000

describe.each([
  ['Sentinels', sentinels],
  ['a cluster', cluster],
])('with %s', (_, start) => {
  let place: Place
  beforeAll(async () => {
    place = await start()
  }, 60_000)

  const everywhere = async (...command: string[]): Promise<void> => {
    await Promise.all(place.servers.map((server) => server.cmd(...command)))
  }

  /** A user of all servers, and a manager that asks a function for its password. */
  async function connect(ask: () => RedisCredentials) {
    const username = unique('user')
    const change = (...rules: string[]) => everywhere('ACL', 'SETUSER', username, ...rules)
    await change('on', '>one', '~*', '&*', '+@all')
    const credentials = async () => ({ username, ...ask() })
    const locks = closing(new LockManager({ redis: { ...place.redis, credentials }, defaults }))
    // In all shards.
    const resources = Array.from({ length: 8 }, () => unique())
    const use = async () => {
      const attempts = await Promise.allSettled(resources.map((resource) => locks.acquireStrong(resource)))
      // Those that were granted beside others that failed would be held when it is tried again.
      const granted = attempts.flatMap((attempt) => (attempt.status === 'fulfilled' ? [attempt.value] : []))
      const releases = await Promise.allSettled(granted.map((lock) => lock.release()))
      for (const step of [...attempts, ...releases]) if (step.status === 'rejected') throw step.reason
      expect(releases).not.toContainEqual({ status: 'fulfilled', value: false })
    }
    await use()
    return {
      change,
      use,
      renewed: () => {
        const options = { ttlMs: renewedTtlMs, renew: true }
        return Promise.all(resources.map((name) => locks.acquireStrong(`${name}-renewed`, options)))
      },
      connections: async () => {
        const lists = await Promise.all(place.servers.map((server) => server.cmd('CLIENT', 'LIST')))
        return lists.join('').split(` user=${username} `).length - 1
      },
      disconnect: async () => {
        await everywhere('CLIENT', 'KILL', 'USER', username)
        // What is sent before that is noticed has an unknown outcome. Ten short sleeps, because a stall ends
        // only one of them early.
        for (let piece = 0; piece < 10; piece++) await sleep(30)
      },
    }
  }

  /** Uses locks without a pause until something has happened; returns how often. */
  async function meanwhile(use: () => Promise<void>, happens: () => Promise<unknown>): Promise<number> {
    const over = new AbortController()
    let rounds = 0
    const using = (async () => {
      for (; !over.signal.aborted; rounds++) await use()
    })()
    // A call that fails ends it at once.
    await Promise.race([using, happens()])
    over.abort()
    await using
    return rounds
  }

  const stillHeld = (locks: Lock[]): boolean[] => locks.map(({ held, signal }) => held && !signal.aborted)

  it('a password is rotated on all servers, and no call fails', { timeout: 90_000 }, async () => {
    let next: RedisCredentials | undefined
    const { change, use, renewed, disconnect, connections } = await connect(
      () => next ?? { password: 'one', expiresInMs: 1500 },
    )
    const locks = await renewed()
    expect(await connections()).toBeGreaterThan(1)
    const rounds = await meanwhile(use, async () => {
      await change('>two')
      const other = unique('user')
      await everywhere('ACL', 'SETUSER', other, 'on', '>two', '~*', '&*', '+@all')
      // Another user, so that it can be seen which connections have logged in again.
      next = { username: other, password: 'two', expiresInMs: 1500 }
      const changed = async () => (await connections()) === 0
      await eventually('all open connections have logged in again', changed, 10_000)
      next = { password: 'two', expiresInMs: 1500 }
      const changedBack = async () => (await connections()) > 1
      await eventually('and once more', changedBack, 10_000)
      await sleep(500)
      await change('<one')
      await sleep(2000)
    })
    expect(rounds).toBeGreaterThan(2)
    expect(stillHeld(locks)).not.toContain(false)
    await disconnect()
    await use()
    await place.failOver()
    // A lease whose outcome was unknown may last until its end.
    await eventually(
      'locks are granted by the replicas that took over',
      () =>
        use().then(
          () => true,
          () => false,
        ),
      defaults.ttlMs + 10_000,
    )
    await sleep(renewedTtlMs + 500)
    expect(stillHeld(locks)).not.toContain(false)
    for (const lock of locks) expect(await lock.release()).toBe(true)
  })

  it('a cache that returns an old password causes no gap', { timeout: 60_000 }, async () => {
    const warnings = fencelockWarnings()
    let [cached, asked] = ['one', 0]
    const { change, use, renewed, disconnect } = await connect(() => {
      if (++asked > 3) cached = 'two'
      return { password: cached, ...(asked < 3 && { expiresInMs: 1000 }) }
    })
    const locks = await renewed()
    await meanwhile(use, async () => {
      await change('resetpass', '>two')
      await eventually('it has returned the old one again', () => asked >= 3, 10_000)
    })
    // Now it is refused, and the next call waits for another one.
    await disconnect()
    await use()
    expect(asked).toBe(4)
    await sleep(2000)
    expect(stillHeld(locks)).not.toContain(false)
    expect(warnings.map(({ code }) => code)).toEqual(['FENCELOCK_CREDENTIALS'])
    expect(warnings[0]?.message).toContain('WRONGPASS')
  })

  it('what the servers refuse does not end the login before', { timeout: 60_000 }, async () => {
    const warnings = fencelockWarnings()
    let asked = 0
    const { change, use, renewed, disconnect } = await connect(() => {
      asked++
      const password = asked === 1 ? 'one' : asked < 4 ? `wrong-s3cret-${asked}` : 'two'
      return { password, expiresInMs: asked < 4 ? 1000 : 60_000 }
    })
    await change('>two')
    const locks = await renewed()
    await meanwhile(use, () => eventually('it has returned the right one', () => asked >= 4, 20_000))
    await sleep(500)
    expect(stillHeld(locks)).not.toContain(false)
    await disconnect()
    await use()
    expect(warnings.length).toBeGreaterThan(0)
    expect(String(warnings)).not.toContain('s3cret')
  })

  it(
    'a function that fails leaves the credentials as they are, and is told once',
    { timeout: 60_000 },
    async () => {
      const warnings = fencelockWarnings()
      let asked = 0
      const { use, renewed, disconnect } = await connect(() => {
        if (++asked > 1) throw new Error('the vault is sealed')
        return { password: 'one', expiresInMs: 1000 }
      })
      const locks = await renewed()
      await meanwhile(use, () => eventually('it has failed a few times', () => asked > 4, 20_000))
      expect(stillHeld(locks)).not.toContain(false)
      await disconnect()
      await use()
      expect(warnings.map(({ message }) => message)).toEqual([expect.stringContaining('the vault is sealed')])
    },
  )
})
