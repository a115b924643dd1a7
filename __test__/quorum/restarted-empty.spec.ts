/**
 * A node of the majority that granted a lease is restarted without its data, while the nodes that did not
 * grant it come back: together they are a majority that knows nothing of the lease.
 */
import { type Lock } from 'fencelock'
import { expect, test } from 'vitest'

import { unique } from '../fixtures/locks'
import { sleep } from '../fixtures/temp'
import { managerOf, maxTtlMs as usualMs, startProxiedNodes, type ProxiedNode } from './support'

/** In all; half of them with three nodes, half with five. */
const rounds = Number(process.env.FENCELOCK_QUORUM_ROUNDS ?? 4)
/** Quorums that make rounds at the same time. */
const groups = (count: number): number => Math.min(count, 4)

interface Round {
  /** Another client was granted the lock while the first one held it. */
  second: boolean
  /** Attempts of others during the lease. */
  attempts: number
}

/** One round. */
async function playRound(nodes: ProxiedNode[], isProtected: boolean): Promise<Round> {
  const shuffled = nodes.toSorted(() => Math.random() - 0.5)
  const need = (nodes.length + 1) / 2
  const [granting, cutOff] = [shuffled.slice(0, need), shuffled.slice(need)]
  // Without protection the second holder is there at once, so the lease need not end.
  const maxTtlMs = isProtected ? usualMs : 60_000
  const options = { maxTtlMs, ...(!isProtected && { restartDelayMs: 0 }) }
  await Promise.all(cutOff.map(({ proxy }) => proxy.stop()))
  const [holder, other] = [managerOf(nodes, options), managerOf(nodes, options)]
  const resource = unique()
  // The node of the round before has to vote again first.
  const lock = await holder.acquireQuorum(resource, { ttlMs: maxTtlMs, waitMs: 10_000 })
  expect(lock.acks).toEqual({ required: need, received: need })

  await sleep(Math.random() * 300)
  await Promise.all([granting[0]!.server.restart(), ...cutOff.map(({ proxy }) => proxy.start())])
  let attempts = 0
  let granted: Lock | null = null
  while (lock.held) {
    attempts += 1
    granted = await other.tryAcquireQuorum(resource, { ttlMs: maxTtlMs }).catch(() => null)
    if (granted) break
    await sleep(20)
  }
  const second = granted !== null && lock.held
  // The others hold a majority without the restarted node, once the lease has ended.
  if (!second) {
    granted ??= await other.acquireQuorum(resource, { ttlMs: maxTtlMs, waitMs: 10_000 })
    expect(granted.token).toBeGreaterThan(lock.token)
  }
  await granted?.release()
  await Promise.all([holder, other].map((manager) => manager.close({ drainMs: 0 })))
  return { second, attempts }
}

test.each([{ count: 3 }, { count: 5 }])(
  'no second holder with $count nodes; there is one at once if the restarted node votes',
  async ({ count }) => {
    const all = Math.ceil(rounds / 2)
    const played = await Promise.all(
      Array.from({ length: groups(all) }, async (_, group) => {
        const nodes = await startProxiedNodes(count)
        const unprotected = await playRound(nodes, false)
        // The nodes also remember the longer `maxTtlMs` of these clients: they must forget it.
        await Promise.all(nodes.map(({ server }) => server.cmd('FLUSHALL')))
        const results: Round[] = []
        for (let round = group; round < all; round += groups(all)) results.push(await playRound(nodes, true))
        return { unprotected, results }
      }),
    )
    expect(played.map(({ unprotected }) => unprotected.second)).toEqual(played.map(() => true))
    const results = played.flatMap((group) => group.results)
    const seconds = results.filter(({ second }) => second).length
    const attempts = results.reduce((sum, round) => sum + round.attempts, 0)
    console.log(`${count} nodes: ${seconds} second holders in ${results.length} rounds, ${attempts} attempts`)
    expect(results).toHaveLength(all)
    expect(seconds).toBe(0)
    // They were refused during the leases.
    expect(attempts).toBeGreaterThan(0)
  },
  30_000 + rounds * 5000,
)
