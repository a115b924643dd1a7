/** A planned failover of Redis leaves two primaries for a while: what a client of the old one is granted. */
import { LockManager } from 'fencelock'
import { expect, test } from 'vitest'

import { History } from '../../fixtures/history/history'
import { closing, unique } from '../../fixtures/locks'
import { startSentinel, type SentinelDeployment } from '../../fixtures/servers/sentinel'
import { eventually, sleep } from '../../fixtures/temp'
import { managerOf } from '../sentinel/sentinel-load'

const ackTimeoutMs = 100

/** A client that nothing tells of the failover: it has the address of the primary. */
function managerOfOld(deployment: SentinelDeployment): LockManager {
  const { url } = deployment.servers[0]!
  return closing(new LockManager({ redis: { url, replicas: 2 }, defaults: { ackTimeoutMs, ttlMs: 3000 } }))
}

test("with acks: 'all' the old primary of a planned failover grants nothing", async () => {
  const deployment = await startSentinel()
  const [old] = deployment.servers
  const followers = managerOf(deployment)
  const left = managerOfOld(deployment)
  const shared = unique('shared')
  const history = new History({ limitMs: 10_000 })
  /** When the attempts began to which the old primary granted a lock, by the acknowledgements asked for. */
  const grants: Record<'all' | 1, number[]> = { all: [], 1: [] }
  const end = new AbortController()

  const contend = async (locks: LockManager, granted: (at: number) => void) => {
    for (; !end.signal.aborted; await sleep(5)) {
      const began = performance.now()
      const options = { acks: 'all', ackTimeoutMs } as const
      const holding = await history.acquire(shared, () => locks.acquireStrong(shared, options))
      if (!holding) continue
      granted(began)
      // Long enough that another holder would be seen.
      await sleep(10)
      await holding.release(() => holding.value.release())
    }
  }
  // Of one acknowledgement the replica that still follows the old primary is enough: shows that it grants.
  const control = async () => {
    for (; !end.signal.aborted; await sleep(5)) {
      const began = performance.now()
      const lock = await left.acquireStrong(unique(), { acks: 1, ackTimeoutMs }).catch(() => undefined)
      if (!lock) continue
      grants[1].push(began)
      await lock.release().catch(() => undefined)
    }
  }
  const running = Promise.all([
    contend(followers, () => undefined),
    contend(left, (at) => grants.all.push(at)),
    control(),
  ])
  try {
    await eventually('the old primary grants', () => grants.all.length > 5 && grants[1].length > 5)
    const timeline = await deployment.watch(old)
    await deployment.failOver()
    const promoted = await timeline.until('promoted')
    const demoted = await timeline.until('demoted')
    timeline.stop()
    const between = (at: number) => at > promoted && at < demoted
    expect(demoted - promoted).toBeGreaterThan(1000)
    expect(grants.all.filter(between)).toEqual([])
    expect(grants[1].some(between)).toBe(true)
  } finally {
    end.abort()
    await running
  }
  expect(history.check().violations).toEqual([])
}, 60_000)
