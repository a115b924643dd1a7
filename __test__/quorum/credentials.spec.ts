/** `credentials` of quorum nodes: each node has users of its own, whose passwords change. */
import { LockManager, type RedisCredentials } from 'fencelock'
import { expect, test } from 'vitest'

import { closing, fencelockWarnings, rejection, unique } from '../fixtures/locks'
import { startNodes, type RedisServer } from '../fixtures/servers/redis'
import { eventually } from '../fixtures/temp'

const username = 'locks'

async function setPassword(node: RedisServer, password: string): Promise<void> {
  await node.cmd('ACL', 'SETUSER', username, 'on', 'resetpass', `>${password}`, '~*', '&*', '+@all')
}

async function connections(node: RedisServer): Promise<string[]> {
  const list = String(await node.cmd('CLIENT', 'LIST'))
  const lines = list.split('\n').filter((line) => line.includes(` user=${username} `))
  return lines.map((line) => /^id=(\d+)/.exec(line)?.[1] ?? '')
}

async function killAll(node: RedisServer): Promise<void> {
  for (const id of await connections(node)) await node.cmd('CLIENT', 'KILL', 'ID', id)
}

async function startUsers(): Promise<{ nodes: RedisServer[]; passwords: string[] }> {
  const nodes = await startNodes(3)
  const passwords = nodes.map((_, index) => `before-${index}`)
  await Promise.all(nodes.map((node, index) => setPassword(node, passwords[index]!)))
  return { nodes, passwords }
}

test('are asked for node by node, and again when a node refuses them', async () => {
  const warnings = fencelockWarnings()
  const { nodes, passwords } = await startUsers()
  const calls = nodes.map(() => 0)
  const own = nodes.map(({ url }, index) => ({
    url,
    credentials: (): RedisCredentials => {
      calls[index]!++
      return { username, password: passwords[index]! }
    },
  }))
  const locks = closing(new LockManager({ quorum: { nodes: own, restartDelayMs: 0 } }))
  await (await locks.acquireQuorum(unique())).release()
  await eventually('all nodes were asked for', () => calls.every((count) => count === 1))
  passwords[1] = 'after-1'
  await setPassword(nodes[1]!, 'after-1')
  await killAll(nodes[1]!)
  await eventually('the node is used again', async () => {
    await (await locks.acquireQuorum(unique())).release()
    return (await connections(nodes[1]!)).length > 0
  })
  expect(calls).toEqual([1, 2, 1])
  await eventually('a warning', () => warnings.length > 0)
  expect(warnings[0]?.message).toContain('quorum.nodes[1].credentials: a server refused what it returned')
})

test('of all nodes are renewed ahead of their expiry, on open connections', async () => {
  const nodes = await startNodes(3)
  await Promise.all(nodes.map((node) => setPassword(node, 'one')))
  await Promise.all(nodes.map((node) => node.cmd('ACL', 'SETUSER', username, '>two')))
  let calls = 0
  const credentials = async (): Promise<RedisCredentials> => {
    const password = calls++ === 0 ? 'one' : 'two'
    return { username, password, ...(calls === 1 && { expiresInMs: 2_000 }) }
  }
  const urls = nodes.map(({ url }) => url)
  const locks = closing(new LockManager({ quorum: { nodes: urls, credentials, restartDelayMs: 0 } }))
  const held = await locks.acquireQuorum(unique(), { ttlMs: 10_000, renew: true })
  // A lock is granted before the last node is connected.
  const before = await eventually('all are connected', async () => {
    const all = await Promise.all(nodes.map(connections))
    return all.every(({ length }) => length > 0) && all
  })
  await eventually('they were asked for again', () => calls === 2)
  await Promise.all(nodes.map((node) => node.cmd('ACL', 'SETUSER', username, '<one')))
  for (let round = 0; round < 3; round++) await held.extend()
  expect(await Promise.all(nodes.map(connections))).toEqual(before)
  expect([held.held, held.signal.aborted, calls]).toEqual([true, false, 2])
  await held.release()
})

test('replace and are replaced by what a node has of its own', async () => {
  const { nodes, passwords } = await startUsers()
  const [first, second, third] = nodes.map(({ url }) => url) as [string, string, string]
  const locks = closing(
    new LockManager({
      quorum: {
        nodes: [
          first,
          { url: second, username, password: passwords[1]! },
          { url: third, credentials: () => ({ username, password: passwords[2]! }) },
        ],
        credentials: () => ({ username, password: passwords[0]! }),
        restartDelayMs: 0,
      },
    }),
  )
  await locks.connect()
  await eventually('all nodes are logged in to', async () => {
    await (await locks.acquireQuorum(unique())).release()
    return (await Promise.all(nodes.map(connections))).every(({ length }) => length > 0)
  })
})

test('are refused beside a username or password of the same level, and in a URL', async () => {
  const urls = ['redis://a', 'redis://b', 'redis://c']
  const credentials = () => ({ password: 'x' })
  const refused = (quorum: object) => () => closing(new LockManager({ quorum: quorum as never }))
  expect(refused({ nodes: urls, credentials, password: 'y' })).toThrow('quorum.credentials is asked for')
  const both = { url: 'redis://a', credentials, username: 'y' }
  expect(refused({ nodes: [both, 'redis://b', 'redis://c'] })).toThrow('quorum.nodes[0].credentials is asked')
  expect(refused({ nodes: ['redis://u:p@a', 'redis://b', 'redis://c'], credentials })).toThrow('of the URL')
  expect(refused({ nodes: urls, credentials: 5 })).toThrow('quorum.credentials must be a function')
})

test('that do not come are told, with the name of the option', async () => {
  const nodes = await startNodes(3)
  const urls = nodes.map(({ url }) => url)
  const credentials = (): RedisCredentials => ({ password: '' })
  const locks = closing(new LockManager({ quorum: { nodes: urls, credentials, restartDelayMs: 0 } }))
  const error = await rejection(locks.acquireQuorum(unique()))
  expect(error).toMatchObject({ code: 'BACKEND_UNAVAILABLE' })
  expect(error.message).toContain('the function for credentials failed')
})
