/** Nodes with an append-only file: after a restart they have the leases they granted, and do not vote yet. */
import { BackendUnavailableError, LockLostError, type Lock, type LockManager } from 'fencelock'
import { describe, expect, test } from 'vitest'

import { allIsOnDisk, hasPowerLoss, losable, losePower } from '../fixtures/disk/power-loss'
import { rejection, unique } from '../fixtures/locks'
import { eventually } from '../fixtures/temp'
import { acquireOfAll, allVote, holdersOf, managerOf, startProxiedNodes, type ProxiedNode } from './support'

/** Longer than what is done within a lease, and after a restart while a node does not vote. */
const maxTtlMs = 4_000

const log = (appendfsync: string): string[] => [
  'appendonly yes',
  `appendfsync ${appendfsync}`,
  'auto-aof-rewrite-percentage 0',
]

interface Scene {
  nodes: ProxiedNode[]
  other: LockManager
  /** On the first two nodes only. */
  lock: Lock
}

interface SceneOptions {
  restartDelayMs?: number | undefined
  env?: NodeJS.ProcessEnv
  /** False: the lease is not flushed, only what was before it. */
  flushes?: boolean
}

/** A lease on two of three nodes; the third one is back. */
async function leaseOnTwo(
  config: string[],
  { restartDelayMs, env = {}, flushes = true }: SceneOptions = {},
): Promise<Scene> {
  const nodes = await startProxiedNodes(3, { config, env })
  const options = { maxTtlMs, ...(restartDelayMs !== undefined && { restartDelayMs }) }
  if (restartDelayMs === undefined) await allVote(nodes, { maxTtlMs })
  await nodes[2]!.proxy.stop()
  const [holder, other] = [managerOf(nodes, options), managerOf(nodes, options)]
  const resource = unique()
  await (await acquireOfAll(holder, resource, maxTtlMs)).release()
  if (!flushes) {
    for (const { server } of nodes.slice(0, 2)) {
      await allIsOnDisk(server)
      await server.cmd('CONFIG', 'SET', 'appendfsync', 'no')
    }
  }
  const lock = await acquireOfAll(holder, resource, maxTtlMs)
  await nodes[2]!.proxy.start()
  return { nodes, other, lock }
}

const firstTwo = ({ nodes }: Scene) => nodes.slice(0, 2).map(({ server }) => server)

test.each(['always', 'everysec'])('nodes that are killed keep their votes (%s)', async (appendfsync) => {
  const scene = await leaseOnTwo(log(appendfsync))
  const { nodes, other, lock } = scene
  // While a flush is under way, everysec keeps for later what it would write.
  for (const server of firstTwo(scene)) {
    await eventually(
      'all is written',
      async () => (await server.info('persistence')).aof_buffer_length === '0',
    )
  }
  await Promise.all(firstTwo(scene).map((server) => server.restart()))
  expect(await holdersOf(nodes, lock.resource)).toEqual([0, 1])

  // How they are configured now does not say what held before the restart, so they do not vote yet.
  const error = await rejection(other.acquireQuorum(unique(), { ttlMs: maxTtlMs }))
  expect(error).toBeInstanceOf(BackendUnavailableError)
  for (const { proxy } of nodes.slice(0, 2)) {
    expect(error.message).toMatch(
      new RegExp(`:${proxy.port}: it does not vote for another \\d+ ms, because it was started a moment ago`),
    )
  }
  const { warnings } = await other.describe()
  expect(warnings.filter((warning) => warning.includes('does not vote'))).toHaveLength(2)
  expect(warnings.some((warning) => warning.includes('restartDelayMs'))).toBe(false)

  // Extensions are no votes: the holder keeps what they remember.
  await lock.extend()
  expect(lock.held).toBe(true)
  expect(lock.remainingMs).toBeGreaterThan(maxTtlMs / 2)
  expect(await lock.release()).toBe(true)
})

test('without a log the holder learns that its lease is lost', async () => {
  const scene = await leaseOnTwo([])
  const { nodes, other, lock } = scene
  await Promise.all(firstTwo(scene).map((server) => server.restart()))
  expect(await holdersOf(nodes, lock.resource)).toEqual([])
  expect(await rejection(lock.extend())).toBeInstanceOf(LockLostError)
  expect(lock.held).toBe(false)
  const error = await rejection(other.acquireQuorum(lock.resource, { ttlMs: maxTtlMs }))
  expect(error).toBeInstanceOf(BackendUnavailableError)
})

describe.skipIf(!hasPowerLoss)('a power loss', () => {
  const lose = (scene: Scene) =>
    Promise.all(
      firstTwo(scene).map(async (server) => {
        await losePower(server)
        await server.start()
      }),
    )

  test('takes nothing from nodes that flush each write', async () => {
    const scene = await leaseOnTwo(log('always'), { env: losable() })
    await lose(scene)
    expect(await holdersOf(scene.nodes, scene.lock.resource)).toEqual([0, 1])
    await scene.lock.extend()
    expect(await scene.lock.release()).toBe(true)
  })

  test('leaves others with older memory, and there is no second holder', async () => {
    // As with everysec, until the second is over. Without the delay there are two holders.
    const sceneOf = (restartDelayMs?: number) =>
      leaseOnTwo(log('always'), { env: losable(), flushes: false, restartDelayMs })
    const attempt = ({ other, lock }: Scene, waitMs = 0) =>
      other.acquireQuorum(lock.resource, { ttlMs: maxTtlMs, waitMs })
    const withoutDelay = async () => {
      const unprotected = await sceneOf(0)
      await lose(unprotected)
      const second = await attempt(unprotected)
      expect(second.token).toBeGreaterThan(unprotected.lock.token)
      return unprotected.lock.held
    }
    const withDelay = async () => {
      const scene = await sceneOf()
      const { lock, nodes } = scene
      await lose(scene)
      expect(await holdersOf(nodes, lock.resource)).toEqual([])
      while (lock.held) expect(await rejection(attempt(scene))).toBeInstanceOf(BackendUnavailableError)
      const next = await attempt(scene, 10_000)
      expect(next.token).toBeGreaterThan(lock.token)
    }
    const [, twoHolders] = await Promise.all([withDelay(), withoutDelay()])
    expect(twoHolders).toBe(true)
  })
})
