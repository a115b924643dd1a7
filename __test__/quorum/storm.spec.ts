/** Quorum locks while nodes are killed, restarted without their data, and paused. */
import { BackendUnavailableError, LockManager, OutcomeUnknownError, type QuorumOptions } from 'fencelock'
import { expect, test } from 'vitest'

import { History } from '../fixtures/history/history'
import { watchVotes } from '../fixtures/history/monitor'
import { checkVotes } from '../fixtures/history/votes'
import { closing, rejection, unique } from '../fixtures/locks'
import { startNodes, type RedisServer } from '../fixtures/servers/redis'
import { eventually, sleep } from '../fixtures/temp'

/** What a node may have forgotten is over two seconds after a restart. */
const maxTtlMs = 2000
const ttlMs = 1000
const stormMs = 12_000

function managerOf(nodes: readonly RedisServer[], options: Partial<QuorumOptions> = {}): LockManager {
  const quorum = { nodes: nodes.map(({ url }) => url), maxTtlMs, commandTimeoutMs: 500, ...options }
  return closing(new LockManager({ quorum }))
}

/** Nodes that vote. */
async function startVoters(count: number): Promise<RedisServer[]> {
  const nodes = await startNodes(count)
  const manager = managerOf(nodes)
  await eventually('the nodes have been up for long enough', async () => {
    const { warnings } = await manager.describe()
    return !warnings.some((warning) => warning.includes('does not vote'))
  })
  // Managers that connect now read the uptime, which may be up to a second more than it is.
  await sleep(1100)
  return nodes
}

test('tokens rise and no two holders overlap', async () => {
  const nodes = await startVoters(5)
  const events = await watchVotes(nodes)
  const managers = [0, 1, 2].map(() => managerOf(nodes))
  const resources = [unique('a'), unique('b')]
  const history = new History({ limitMs: 5000 })
  const end = performance.now() + stormMs

  const load = managers.flatMap((manager) =>
    resources.map(async (resource) => {
      while (performance.now() < end) {
        const act = () => manager.tryAcquireQuorum(resource, { ttlMs })
        const lock = await history.acquire(resource, act)
        if (!lock) {
          await sleep(20)
          continue
        }
        await sleep(Math.random() * 40)
        if (Math.random() < 0.3) await lock.extend(() => lock.value.extend())
        await lock.release(() => lock.value.release())
      }
    }),
  )
  const storm = async () => {
    for (let round = 0; performance.now() < end; round += 1) {
      const node = nodes[round % nodes.length]!
      if (round % 2 === 0) await node.restart()
      else {
        node.pause()
        await sleep(300)
        node.resume()
      }
      // Two nodes that do not vote are the most that a quorum of five survives.
      await sleep(1700)
    }
  }
  await Promise.all([...load, storm()])

  const { violations, grants, expectedOverlaps, outcomes } = history.check()
  expect(violations).toEqual([])
  expect(expectedOverlaps).toBe(0)
  expect(grants).toBeGreaterThan(100)
  expect(Object.keys(outcomes.acquire ?? {})).toContain('granted')
  const votes = () => events.filter(({ kind }) => kind === 'granted').length
  await eventually('the votes are seen', () => votes() >= 3 * grants)
  expect(checkVotes(events, history.records.grants, 3)).toEqual([])
})

test('are refused in time without a majority, and granted again with one', async () => {
  const nodes = await startNodes(5)
  // No node is restarted, and no lease ends.
  const options = { maxTtlMs: 60_000, restartDelayMs: 0, commandTimeoutMs: 1_000 }
  const managers = [0, 1, 2].map(() => managerOf(nodes, options))
  await Promise.all(managers.map((each) => each.connect()))
  const manager = managers[0]!
  const held = await manager.acquireQuorum(unique(), { ttlMs: 60_000 })
  for (const node of nodes.slice(0, 3)) node.pause()
  // One call of each, because a manager connects again after that. A busy machine may delay two of them.
  let fastest = Infinity
  for (const each of managers) {
    if (fastest < 1_900) break
    const began = performance.now()
    const error = await rejection(each.acquireQuorum(unique(), { ttlMs: 60_000 }))
    fastest = Math.min(fastest, performance.now() - began)
    expect([BackendUnavailableError, OutcomeUnknownError]).toContain(error.constructor)
    for (const { port } of nodes.slice(0, 3)) expect(error.message).toContain(String(port))
  }
  expect(fastest).toBeLessThan(1_900)
  const extension = await rejection(held.extend())
  expect([BackendUnavailableError, OutcomeUnknownError]).toContain(extension.constructor)
  for (const node of nodes) node.resume()
  const again = await manager.acquireQuorum(unique(), { ttlMs: 60_000, waitMs: 10_000 })
  expect(again.acks).toMatchObject({ required: 3 })
  await again.release()
})

test('are not granted by a node that was restarted without its data', async () => {
  const nodes = await startVoters(3)
  const [holder, other] = [managerOf(nodes), managerOf(nodes)]
  const resource = unique()
  const lock = await holder.acquireQuorum(resource, { ttlMs: maxTtlMs, renew: true })
  for (let round = 0; round < 3; round += 1) {
    for (const node of nodes.slice(0, 2)) await node.restart()
    const outcome = await other.tryAcquireQuorum(resource, { ttlMs }).catch((error: unknown) => error)
    expect(outcome).not.toHaveProperty('token')
  }
  // Its nodes have forgotten it, so the holder is told.
  await eventually('the holder is told', () => lock.signal.aborted)
})
