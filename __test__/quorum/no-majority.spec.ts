/** Three of five nodes are gone: calls are refused in time, leave nothing behind, and go on afterwards. */
import { BackendUnavailableError, OutcomeUnknownError, type LockManager } from 'fencelock'
import { expect, test } from 'vitest'

import { rejection, unique } from '../fixtures/locks'
import { holdersOf, managerOf, nothingIsLeft, startProxiedNodes, type ProxiedNode } from './support'

/** For connecting and for a command each: a server that is stopped accepts connections. */
const limitMs = 1_000
const waitMs = 1200
/** What a busy machine may add to one call. */
const slackMs = 5_000
/** Far longer than the test: nothing expires. */
const ttlMs = 30_000

interface Fault {
  how: string
  strike: (node: ProxiedNode) => unknown
  mend: (node: ProxiedNode) => unknown
}

const faults: Fault[] = [
  { how: 'killed', strike: ({ server }) => server.kill(), mend: ({ server }) => server.start() },
  { how: 'stopped', strike: ({ server }) => server.pause(), mend: ({ server }) => server.resume() },
  { how: 'refused', strike: ({ proxy }) => proxy.stop(), mend: ({ proxy }) => proxy.start() },
]

test.each(faults)('$how', async ({ how, strike, mend }) => {
  const nodes = await startProxiedNodes(5)
  const limits = { connectTimeoutMs: limitMs, commandTimeoutMs: limitMs }
  const manager = managerOf(nodes, { maxTtlMs: 60_000, restartDelayMs: 0, ...limits })
  const held = await manager.acquireQuorum(unique(), { ttlMs })
  const [gone, left] = [nodes.slice(0, 3), nodes.slice(3)]
  await Promise.all(gone.map(strike))

  const refused: string[] = []
  const attempt = async (options: { waitMs?: number }) => {
    const resource = unique()
    const begin = performance.now()
    const error = await rejection(manager.acquireQuorum(resource, { ttlMs, ...options }))
    refused.push(resource)
    return { error, took: performance.now() - begin }
  }
  const times: number[] = []
  for (let call = 0; call < 3; call += 1) {
    const { error, took } = await attempt({})
    times.push(took)
    expect(took).toBeLessThan(2 * limitMs + slackMs)
    // Of proposals to nodes that hang, or were killed meanwhile, it is not known whether they arrived.
    const classes =
      how === 'stopped' || call === 0
        ? [OutcomeUnknownError, BackendUnavailableError]
        : [BackendUnavailableError]
    expect(classes).toContain(error.constructor)
    expect(error.message).toMatch(/of the quorum agreed, and 3 must/)
    for (const { proxy } of gone) expect(error.message).toContain(`:${proxy.port}: `)
  }
  // All but the first connect again. A busy machine may delay one of them.
  expect(Math.min(...times.slice(1))).toBeLessThan(2 * limitMs + 700)
  const { error, took } = await attempt({ waitMs })
  expect([OutcomeUnknownError, BackendUnavailableError]).toContain(error.constructor)
  expect(took).toBeLessThan(waitMs + 2 * limitMs + slackMs)
  if (error instanceof BackendUnavailableError) expect(took).toBeGreaterThan(waitMs - 50)
  console.log(`${how}: ${error.constructor.name} after ${took.toFixed(0)} ms with waitMs ${waitMs}`)

  // What the others granted is undone at once.
  for (const resource of refused) await nothingIsLeft(left, resource)
  expect(await holdersOf(left, held.resource)).toEqual([0, 1])
  const extension = await rejection(held.extend())
  expect([OutcomeUnknownError, BackendUnavailableError]).toContain(extension.constructor)
  expect(held.held).toBe(true)

  // A waiter that began during the outage is granted the lock after it.
  const waiter = manager.acquireQuorum(unique(), { ttlMs, waitMs: 10_000 })
  const waited = waiter.then(
    (lock) => lock,
    (reason: unknown) => reason,
  )
  await Promise.all(gone.map(mend))
  const outcome = await waited
  if (how === 'stopped' && outcome instanceof OutcomeUnknownError) refused.push(outcome.resource as string)
  else expect(outcome).toMatchObject({ held: true })

  await goesOn(manager)
  for (const resource of refused) await nothingIsLeft(nodes, resource)
})

async function goesOn(manager: LockManager): Promise<void> {
  const resource = unique()
  let last = 0n
  for (let lease = 0; lease < 5; lease += 1) {
    const lock = await manager.acquireQuorum(resource, { ttlMs, waitMs: 5000 })
    expect(lock.token).toBeGreaterThan(last)
    last = lock.token
    expect(await lock.release()).toBe(true)
  }
}
