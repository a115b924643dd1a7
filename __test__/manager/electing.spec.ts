/** Leaders in several processes, which end in all ways, and backends that fail meanwhile. */
import { LockManager, type ManagerOptions } from 'fencelock'
import { describe, expect, it } from 'vitest'

import { closing, fencelockWarnings, rejection, unique } from '../fixtures/locks'
import { type Script, startCode } from '../fixtures/processes/processes'
import { startRedis } from '../fixtures/servers/redis'
import { startSentinel } from '../fixtures/servers/sentinel'
import { strategies } from '../fixtures/strategies'
import { eventually, sleep } from '../fixtures/temp'

/** A renewal may be late by a second and a half, and the lease goes on. */
const ttlMs = 3_000

/** What a candidate says. Times are of the wall clock of this host, in milliseconds. */
interface Message {
  what: 'leads' | 'loses' | 'resigns' | 'ends'
  token: string
  at: number
}

/** A process that campaigns, and asks its lock all the time whether it leads, until it gets SIGTERM. */
function startCandidate(options: ManagerOptions, resource: string): Script {
  return startCode(
    `const { LockManager } = await import('fencelock')
     const locks = new LockManager(${JSON.stringify(options)})
     let token = ''
     const tell = (what, at = Date.now()) => say({ what, token, at })
     process.once('SIGTERM', () => locks.close())
     await locks.elect(${JSON.stringify(resource)}, { ttlMs: ${ttlMs} }, async (lock) => {
       token = String(lock.token)
       for (;;) {
         // It is sure of this moment: the lock is asked after it.
         const at = Date.now()
         if (!lock.held) return tell('loses')
         tell('leads', at)
         if (locks.closing.aborted) return tell('resigns')
         await new Promise((resolve) => setTimeout(resolve, 5))
       }
     })
     tell('ends')`,
    { limitMs: 60_000 },
  )
}

const spoken = (candidate: Script) => candidate.said as Message[]

/** Which of them leads now, in a reign that began after this time. */
function leaderSince(candidates: readonly Script[], time: number): Script | undefined {
  return candidates.find((candidate) => {
    const last = spoken(candidate).at(-1)
    return last?.what === 'leads' && spoken(candidate).find(({ token }) => token === last.token)!.at > time
  })
}

/** For each token, who had it, and the first and the last moment at which that one was sure to lead. */
function reigns(candidates: readonly Script[]) {
  const found = new Map<string, { token: bigint; by: Script; from: number; to: number }>()
  for (const by of candidates) {
    for (const { what, token, at } of spoken(by)) {
      if (what !== 'leads') continue
      const reign = found.get(token) ?? { token: BigInt(token), by, from: at, to: at }
      expect(reign.by, 'no two candidates have one token').toBe(by)
      found.set(token, { ...reign, to: at })
    }
  }
  return [...found.values()].toSorted((a, b) => a.from - b.from)
}

describe.each(strategies)('$strategy leaders', ({ strategy, start }) => {
  it('follow each other, one at a time, however they end', { timeout: 90_000 }, async () => {
    const options = await start()
    const resource = unique('leader')
    const candidates = Array.from({ length: 3 }, () => startCandidate(options, resource))
    const everyone = [...candidates]
    /** Ends, or disturbs, the leader, and returns how long it took until another one of these leads. */
    const after = async (
      act: (leader: Script) => Promise<unknown>,
      next = (leader: Script) => candidates.filter((each) => each !== leader),
    ) => {
      const first = await eventually('one leads', () => leaderSince(candidates, 0), 15_000)
      const began = Date.now()
      await act(first)
      await eventually('another one leads', () => leaderSince(next(first), began), 15_000)
      return { first, began, took: Date.now() - began }
    }
    const replace = (ended: Script) => {
      const fresh = startCandidate(options, resource)
      everyone.push(fresh)
      candidates.splice(candidates.indexOf(ended), 1, fresh)
    }

    const killed = await after((leader) => leader.kill())
    replace(killed.first)
    const stopped = await after((leader) => leader.pauseBetweenWrites())
    stopped.first.resume()
    await eventually('it learns that it lost', () =>
      spoken(stopped.first).some(({ what, at }) => what === 'loses' && at > stopped.began),
    )
    const deployed = await after((leader) => leader.kill('SIGTERM'))
    expect(await deployed.first.ended).toMatchObject({ code: 0, stderr: '' })
    expect(
      spoken(deployed.first)
        .slice(-2)
        .map(({ what }) => what),
    ).toEqual(['resigns', 'ends'])
    replace(deployed.first)
    // The one that loses it like this may win it back.
    const force = () => closing(new LockManager(options)).forceRelease(resource)
    const forced = await after(force, () => candidates)

    console.log(
      `${strategy}: the next leader after SIGKILL ${killed.took.toFixed(0)} ms, SIGSTOP ${stopped.took.toFixed(0)} ms, ` +
        `SIGTERM ${deployed.took.toFixed(0)} ms, a forced release ${forced.took.toFixed(0)} ms (TTL ${ttlMs} ms)`,
    )
    // A lock file knows that a process has died; a server waits for the end of its lease.
    if (strategy === 'local') expect(killed.took).toBeLessThan(ttlMs)
    expect(deployed.took).toBeLessThan(ttlMs)
    await Promise.all(candidates.map((each) => each.kill('SIGTERM')))
    const all = reigns(everyone)
    expect(all.length).toBeGreaterThanOrEqual(5)
    for (const [index, { token, from }] of all.slice(1).entries()) {
      expect(token).toBeGreaterThan(all[index]!.token)
      // The forced release of a lease is the exception that it is made for.
      const before = all[index]!
      if (before.by !== forced.first) expect(from, 'no two lead at once').toBeGreaterThanOrEqual(before.to)
    }
  })
})

it('a leader is followed by another when its server fails over', { timeout: 90_000 }, async () => {
  const deployment = await startSentinel({ failoverTimeoutMs: 5000 })
  const { sentinelUrls: sentinels, name } = deployment
  const options = { redis: { sentinels, name }, defaults: { acks: 1, ackTimeoutMs: 2_000 } }
  const resource = unique('leader')
  const candidates = Array.from({ length: 2 }, () => startCandidate(options, resource))
  const first = await eventually('one leads', () => leaderSince(candidates, 0))
  const primary = await deployment.primary()
  // One replica has acknowledged the lease. Either may be promoted, so both have to have it.
  const admin = await primary.connect()
  await admin.cmd('SET', 'mark', '1')
  expect(await admin.cmd('WAIT', 2, 10_000)).toBe(2)
  admin.close()
  const timeline = await deployment.watch(primary)
  const began = Date.now()
  await primary.kill()
  await timeline.until('linked')
  timeline.stop()
  // The lease is on the new primary, or it is lost and won again.
  const lasts = () => {
    const last = spoken(first).at(-1)
    return last?.what === 'leads' && Date.now() - last.at < 100 && Date.now() - began > 2 * ttlMs
  }
  await eventually('one leads', () => lasts() || leaderSince(candidates, began) !== undefined, 30_000)
  const endings = await Promise.all(candidates.map((each) => each.kill('SIGTERM')))
  for (const { code } of endings) expect(code).toBe(0)
  const all = reigns(candidates)
  for (const [index, { token, from }] of all.slice(1).entries()) {
    expect(token).toBeGreaterThan(all[index]!.token)
    expect(from, 'no two lead at once').toBeGreaterThanOrEqual(all[index]!.to)
  }
})

describe('a campaign', () => {
  it('goes on after errors of the backend, and warns once of each kind', async () => {
    const server = await startRedis()
    const locks = closing(new LockManager({ redis: { url: server.url, replicas: 0 } }))
    const warnings = fencelockWarnings()
    await server.kill()
    let led = 0
    const election = locks.elect(unique(), () => led++)
    await eventually('it warns', () => warnings.length > 0)
    await sleep(1_500)
    expect(led).toBe(0)
    await server.start()
    await election
    expect(led).toBe(1)
    expect(warnings).toHaveLength(1)
    expect(warnings[0]).toMatchObject({ code: 'FENCELOCK_CAMPAIGN_FAILED' })
    expect(warnings[0]!.message).toMatch(/^elect: strong lock .*refused.*; it tries again$/)
  })

  it('ends while it pauses, when its signal aborts or the manager is closed', async () => {
    const server = await startRedis()
    const options = { redis: { url: server.url, replicas: 0 } }
    const [one, two] = [0, 1].map(() => closing(new LockManager(options)))
    await server.kill()
    const stop = new AbortController()
    const { signal } = stop
    // So many, because the rest of a pause may be short, but not that of all of them.
    const elections = Array.from({ length: 20 }, (_, index) =>
      index % 2 === 0
        ? one!.elect(unique(), { signal }, () => expect.unreachable())
        : two!.elect(unique(), () => expect.unreachable()),
    )
    // The pauses take between 1.6 and 3.2 seconds now.
    await sleep(3_000)
    const began = performance.now()
    stop.abort()
    void two!.close()
    await Promise.all(elections)
    expect(performance.now() - began).toBeLessThan(2_000)
  })

  it('rejects when the server lacks what it needs', async () => {
    const { url } = await startRedis({ config: ['rename-command WAIT ""'] })
    const locks = closing(new LockManager({ redis: { url, replicas: 1 } }))
    const election = locks.elect(unique(), () => expect.unreachable())
    expect(await rejection(election)).toMatchObject({ code: 'UNSUPPORTED' })
  })
})
