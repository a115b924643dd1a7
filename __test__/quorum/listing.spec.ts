/** All locks of a quorum, some of whose nodes do not answer, or have what no majority has. */
import { expect, test } from 'vitest'

import { rejection, unique } from '../fixtures/locks'
import { lockKey, managerOf, startProxiedNodes } from './support'

/** No node is restarted, and no lease ends. */
const options = { maxTtlMs: 60_000, restartDelayMs: 0 }
const ttlMs = 60_000

async function namesOf(locks: ReturnType<typeof managerOf>): Promise<string[]> {
  const names = []
  for await (const { resource } of locks.list({ strategy: 'quorum' })) names.push(resource)
  return names.toSorted()
}

test('a node that hangs delays a listing by a moment only, and a minority’s locks are left out', async () => {
  const nodes = await startProxiedNodes(3)
  const locks = managerOf(nodes, { ...options, commandTimeoutMs: 4_000 })
  const names = Array.from({ length: 200 }, (_, index) => `list:${index}`).toSorted()
  await Promise.all(names.map((name) => locks.acquireQuorum(name, { ttlMs })))
  await nodes[0]!.server.cmd('SET', lockKey(unique('ghost')), '0'.repeat(32), 'PX', 60_000)
  expect(await namesOf(locks)).toEqual(names)
  nodes[2]!.proxy.hold()
  for (let round = 0; round < 2; round++) {
    const start = performance.now()
    expect(await namesOf(locks)).toEqual(names)
    // Not the time limit of a command.
    expect(performance.now() - start).toBeLessThan(3_800)
  }
  nodes[1]!.proxy.hold()
  const hurried = managerOf(nodes, { ...options, connectTimeoutMs: 500, commandTimeoutMs: 500 })
  expect(await rejection(namesOf(hurried))).toMatchObject({ code: 'BACKEND_UNAVAILABLE' })
  nodes.forEach(({ proxy }) => proxy.flow())
})

test('a key of another type in the place of a lock hides no other lock', async () => {
  const nodes = await startProxiedNodes(3)
  const locks = managerOf(nodes, options)
  const names = ['list:a', 'list:b']
  await Promise.all(names.map((name) => locks.acquireQuorum(name, { ttlMs })))
  const [one, ...others] = nodes
  await one!.server.cmd('SET', lockKey('list:odd'), '0'.repeat(32), 'PX', 60_000)
  for (const { server } of others) await server.cmd('RPUSH', lockKey('list:odd'), 'a')
  expect(await namesOf(locks)).toEqual(names)
})
