/** What `describe()` reports about the clocks of servers that may become the primary, or were. */
import { LockManager } from 'fencelock'
import { describe, expect, it } from 'vitest'

import { closing, unique } from '../fixtures/locks'
import { startProxy } from '../fixtures/servers/proxy'
import { startRedis, type RedisServer } from '../fixtures/servers/redis'
import { eventually, freePort } from '../fixtures/temp'
import { hasWallClock, wallClock } from '../fixtures/time/wall-clock'

interface Answer {
  warnings: string[]
  clockStep: string
}

const managerOf = (url: string, replicas: number, ttlMs = 10_000): LockManager =>
  closing(new LockManager({ redis: { url, replicas }, defaults: { ttlMs } }))

async function answerOf(locks: LockManager): Promise<Answer> {
  const { warnings, survives } = await locks.describe()
  return {
    warnings: warnings.filter((warning) => warning.includes('clock of')),
    clockStep: survives.clockStep.reason,
  }
}

/** A primary, and a replica with its own configuration and environment. */
async function startPair(
  replicaOptions: Parameters<typeof startRedis>[0] = {},
): Promise<{ primary: RedisServer; replica: RedisServer }> {
  const [primary, replica] = await Promise.all([
    startRedis({ config: ['repl-diskless-sync-delay 0'] }),
    startRedis(replicaOptions),
  ])
  await replica.replicate(primary)
  await primary.waitForReplicas(1)
  return { primary, replica }
}

describe.runIf(hasWallClock)('the clock of a replica', () => {
  it('is compared with the primary by what a lease allows for', async () => {
    const clock = wallClock()
    const { primary, replica } = await startPair({ env: clock.env })
    const [short, long] = [managerOf(primary.url, 1), managerOf(primary.url, 1, 3_600_000)]
    /** A replica has one second to reply, which a busy machine may take. */
    const known = async (locks: LockManager): Promise<Answer> =>
      eventually('the clock of the replica is known', async () => {
        const answer = await answerOf(locks)
        return answer.clockStep.includes('differ by') ? answer : undefined
      })
    const ahead = (ms: number): Promise<Answer> => {
      clock.set(ms)
      return known(short)
    }

    expect(await ahead(0)).toEqual({
      warnings: [],
      clockStep: expect.stringMatching(/; now the replica and the primary differ by [\d.]+ m?s at most$/),
    })
    const early = await ahead(3_200)
    expect(early.warnings).toEqual([
      expect.stringMatching(
        `the clock of the replica at 127\\.0\\.0\\.1:${replica.port} is [2-4]\\.\\d s ahead of`,
      ),
    ])
    expect(early.warnings[0]).toMatch(/allow for 102 ms.*end that much early/)
    expect(early.clockStep).toMatch(/differ by [3-5]\.\d s at most$/)
    // The same difference is less than 1 % of an hour.
    expect((await known(long)).warnings).toEqual([])
    expect((await ahead(-86_400_000)).warnings).toEqual([
      expect.stringMatching(/is 86(399|40\d)\.\d s behind.*end that much late/),
    ])
  })

  it('of the new primary is compared with that of the old one', async () => {
    const clock = wallClock()
    const [old, next] = await Promise.all([startRedis(), startRedis({ env: clock.env })])
    const proxy = await startProxy(old.port)
    const locks = managerOf(proxy.url, 0)
    /** Without the warning about this host, whose clock differs from the server's, too. */
    const changes = async (): Promise<string[]> =>
      (await answerOf(locks)).warnings.filter((warning) => warning.includes('clock of this primary'))
    await (await locks.acquireStrong(unique())).release()
    expect(await changes()).toEqual([])

    clock.set(-20_000)
    proxy.switchTo(next.port, { cut: true })
    await (await locks.acquireStrong(unique(), { waitMs: 20_000 })).release()
    expect(await changes()).toEqual([
      expect.stringMatching(
        /^the clock of this primary is [12]\d\.\d s behind that of the primary before it/,
      ),
    ])
    // It was corrected: what matters is how it is now.
    clock.set(0)
    expect(await changes()).toEqual([])
  })
})

describe('a replica that cannot be asked', () => {
  it('is named, with the reason', async () => {
    const port = await freePort()
    const { primary } = await startPair({
      config: ['replica-announce-ip 127.0.0.1', `replica-announce-port ${port}`],
    })
    const { warnings, clockStep } = await answerOf(managerOf(primary.url, 1))
    expect(clockStep).toMatch(
      new RegExp(`; unknown is the clock of 127\\.0\\.0\\.1:${port}: connection refused$`),
    )
    expect(warnings).toEqual([])
  })

  it('delays the answer by a second at most', async () => {
    const { primary, replica } = await startPair()
    const locks = managerOf(primary.url, 1)
    await locks.describe()
    replica.pause()
    const begin = performance.now()
    const { clockStep } = await answerOf(locks)
    expect(performance.now() - begin).toBeLessThan(4_500)
    expect(clockStep).toMatch(/unknown is the clock of .*: no reply within 1000 ms$/)
    replica.resume()
    await eventually('it is asked again', async () => (await answerOf(locks)).clockStep.includes('differ by'))
  })

  it('gets no password where it may be a stranger', async () => {
    // An address for documentation, which nothing has.
    const { primary } = await startPair({
      config: ['replica-announce-ip 192.0.2.1', 'replica-announce-port 6379'],
    })
    await primary.cmd('ACL', 'SETUSER', 'app', 'on', '>secret', '~*', '&*', '+@all')
    const locks = closing(
      new LockManager({ redis: { url: primary.url, username: 'app', password: 'secret', replicas: 1 } }),
    )
    let least = Infinity
    // The fastest of several answers counts: a busy machine may delay one.
    for (let round = 0; round < 5 && least >= 900; round++) {
      const begin = performance.now()
      expect((await answerOf(locks)).clockStep).toMatch(
        /unknown is the clock of 192\.0\.2\.1:6379: without TLS it is not sent the password$/,
      )
      least = Math.min(least, performance.now() - begin)
    }
    expect(least).toBeLessThan(900)
  })
})
