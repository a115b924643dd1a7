/** Connections to nodes that are slow, hang, break in the middle of a reply, or are open on one side only. */
import { BackendUnavailableError, OutcomeUnknownError, type Lock } from 'fencelock'
import { expect, test } from 'vitest'

import { unique } from '../fixtures/locks'
import { eventually, sleep } from '../fixtures/temp'
import { holdersOf, managerOf, nothingIsLeft, startProxiedNodes, type ProxiedNode } from './support'

/** No node is restarted, and these have just been started. */
const options = { maxTtlMs: 60_000, restartDelayMs: 0 }
/** The time limit for connecting and for a command each. */
const limited = (limitMs: number) => ({
  ...options,
  connectTimeoutMs: limitMs,
  commandTimeoutMs: limitMs,
})
/** Far longer than a test: nothing expires. */
const ttlMs = 30_000
/** How the replies to proposals, renewals and releases begin, but for the first of a connection. */
const numbers = '\r\n:1'

async function timed<T>(act: () => Promise<T>): Promise<{ value: T; took: number }> {
  const begin = performance.now()
  const value = await act()
  return { value, took: performance.now() - begin }
}

test('a lock is granted at the deciding vote, and released on all nodes', async () => {
  const nodes = await startProxiedNodes(5)
  const manager = managerOf(nodes, limited(10_000))
  await (await manager.acquireQuorum(unique())).release()
  const [, , deciding, slow, hung] = nodes.map(({ proxy }) => proxy)
  deciding!.delay(150, 'toClient')
  slow!.delay(6_000, 'toClient')
  hung!.hold()

  const { value: lock, took } = await timed(() => manager.acquireQuorum(unique(), { ttlMs }))
  expect(lock.acks).toEqual({ required: 3, received: 3 })
  expect(took).toBeGreaterThan(140)
  expect(took).toBeLessThan(5_000)
  const released = await timed(() => lock.release())
  expect(released.value).toBe(true)
  expect(released.took).toBeLessThan(5_000)
  slow!.delay(0)
  // The node that hung gets the proposal now, and the release behind it.
  hung!.flow()
  await nothingIsLeft(nodes, lock.resource)
})

interface Fault {
  how: string
  strike: (node: ProxiedNode) => unknown
  mend: (node: ProxiedNode) => unknown
}

/** Breaks each connection in the middle of a reply, until it is mended. */
const cutting = new WeakSet<ProxiedNode>()
function cutReplies(node: ProxiedNode): void {
  cutting.add(node)
  const act = () => {
    if (!cutting.has(node)) return
    node.proxy.cut()
    void node.proxy.when(numbers, { in: 'toClient', act })
  }
  void node.proxy.when(numbers, { in: 'toClient', act })
}

/** With this delay in each direction. */
const faults = (slowMs: number): Fault[] => [
  {
    how: 'slow',
    strike: ({ proxy }) => proxy.delay(slowMs),
    mend: ({ proxy }) => proxy.delay(0),
  },
  { how: 'hanging', strike: ({ proxy }) => proxy.hold(), mend: ({ proxy }) => proxy.flow() },
  {
    how: 'losing replies',
    strike: ({ proxy }) => proxy.swallow('toClient'),
    mend: ({ proxy }) => proxy.flow(),
  },
  { how: 'half-open', strike: ({ proxy }) => proxy.swallow(), mend: ({ proxy }) => proxy.flow() },
  { how: 'cut in mid-reply', strike: cutReplies, mend: (node) => cutting.delete(node) },
  { how: 'refused', strike: ({ proxy }) => proxy.stop(), mend: ({ proxy }) => proxy.start() },
]

/** Runs the same with each fault at once: what waits costs little. */
async function withEach(
  slowMs: number,
  act: (fault: Fault, nodes: ProxiedNode[]) => Promise<void>,
): Promise<void> {
  await Promise.all(
    faults(slowMs).map(async (fault) => {
      const nodes = await startProxiedNodes(5)
      try {
        await act(fault, nodes)
      } catch (error) {
        throw new Error(`${fault.how}: ${String(error)}`, { cause: error })
      }
    }),
  )
}

test('two of five: locks are granted, renewed and released, and nothing is left when they are back', async () => {
  const [limitMs, slowMs] = [3_000, 1_100]
  await withEach(slowMs, async ({ how, strike, mend }, nodes) => {
    const manager = managerOf(nodes, limited(limitMs))
    // These were granted by all nodes, or are about to be.
    const renewed = await manager.acquireQuorum(unique(), { ttlMs: 3_000, renew: true })
    const before = await manager.acquireQuorum(unique(), { ttlMs })
    const broken = nodes.slice(1, 3)
    await Promise.all(broken.map(strike))

    const { value: during, took } = await timed(() => manager.acquireQuorum(unique(), { ttlMs }))
    // The three others decide.
    expect(took).toBeLessThan(how === 'slow' ? 2 * slowMs : limitMs)
    expect(during.acks!.received).toBeGreaterThanOrEqual(3)
    await before.extend()
    await sleep(3_100)
    expect(renewed.held).toBe(true)
    expect(renewed.signal.aborted).toBe(false)
    for (const lock of [renewed, before, during]) {
      const released = await timed(() => lock.release())
      expect(released.value).toBe(true)
      expect(released.took).toBeLessThan(limitMs)
    }
    await Promise.all(broken.map(mend))
    for (const { resource } of [renewed, before, during]) await nothingIsLeft(nodes, resource, 15_000)
  })
})

test('three of five for a moment: the outcome is told in time, leases survive it, and nothing is left', async () => {
  const limitMs = 2_000
  await withEach(120, async ({ how, strike, mend }, nodes) => {
    const manager = managerOf(nodes, limited(limitMs))
    const renewed = await manager.acquireQuorum(unique(), { ttlMs: 9_000, renew: true })
    const held = await manager.acquireQuorum(unique(), { ttlMs })
    const broken = nodes.slice(0, 3)
    const wouldEnd = performance.now() + renewed.remainingMs
    await Promise.all(broken.map(strike))

    const resource = unique()
    const outcome = <T>(call: Promise<T>) => timed(() => call.catch((error: unknown) => error))
    const [attempt, releasing] = await Promise.all([
      outcome(manager.acquireQuorum(resource, { ttlMs })),
      outcome(held.release()),
    ])
    expect(Math.max(attempt.took, releasing.took)).toBeLessThan(3 * limitMs)
    if (how === 'slow') {
      expect(releasing.value).toBe(true)
      expect(await (attempt.value as Lock).release()).toBe(true)
    } else {
      const error = attempt.value as Error
      expect([BackendUnavailableError, OutcomeUnknownError]).toContain(error.constructor)
      // Each node is named that is the reason.
      for (const { proxy } of broken) expect(error.message).toContain(`:${proxy.port}: `)
    }
    await Promise.all(broken.map(mend))
    for (const each of [resource, held.resource]) await nothingIsLeft(nodes, each, 15_000)
    await sleep(Math.max(0, wouldEnd + 100 - performance.now()))
    expect(renewed.held).toBe(true)
    expect(renewed.signal.aborted).toBe(false)
    expect((await holdersOf(nodes, renewed.resource)).length).toBeGreaterThanOrEqual(3)
    expect(await renewed.release()).toBe(true)
    const again = await manager.acquireQuorum(unique(), { ttlMs, waitMs: 3000 })
    expect(await again.release()).toBe(true)
  })
})

test('a connection that breaks is replaced by the next call, of whatever kind', async () => {
  const nodes = await startProxiedNodes(3)
  const manager = managerOf(nodes, { ...options, connectTimeoutMs: 5000, commandTimeoutMs: 4000 })
  const lock = await manager.acquireQuorum(unique(), { ttlMs })
  const cutAll = async () => {
    nodes.forEach(({ proxy }) => proxy.cut())
    await eventually('the manager has noticed', () =>
      manager.stats().connections.every(({ open }) => open === 0),
    )
  }
  await cutAll()
  await lock.extend()
  await cutAll()
  expect(await manager.inspect(lock.resource)).toMatchObject({ owner: lock.owner, token: lock.token })
  await cutAll()
  expect(await lock.release()).toBe(true)
  await nothingIsLeft(nodes, lock.resource)
  await cutAll()
  expect(await (await manager.acquireQuorum(lock.resource, { ttlMs })).release()).toBe(true)
})
