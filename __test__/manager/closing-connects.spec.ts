/** A manager that is closed while servers do not answer: what waits for a connection ends at once. */
import { createServer, type AddressInfo, type Socket } from 'node:net'
import { expect, it } from 'vitest'

import { onCleanup } from '../fixtures/cleanup'
import { runCode } from '../fixtures/processes/processes'

/** Servers that accept connections and say nothing. */
async function silentServers(count: number): Promise<string[]> {
  const addresses = []
  for (let index = 0; index < count; index++) {
    const sockets: Socket[] = []
    const server = createServer((socket) => sockets.push(socket.on('error', () => undefined)))
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    onCleanup(() => {
      sockets.forEach((socket) => socket.destroy())
      server.close()
    })
    addresses.push(`127.0.0.1:${(server.address() as AddressInfo).port}`)
  }
  return addresses
}

/** Nothing is given up before it is closed. */
const limits = { connectTimeoutMs: 20_000, commandTimeoutMs: 20_000 }

const deployments: [name: string, servers: number, options: (addresses: string[]) => object][] = [
  ['strong', 1, ([at]) => ({ redis: { url: `redis://${at}`, ...limits } })],
  ['strong, with TLS', 1, ([at]) => ({ redis: { url: `rediss://${at}`, ...limits } })],
  [
    'strong, with Sentinels',
    2,
    (all) => ({ redis: { sentinels: all.map((at) => `redis://${at}`), name: 'x', ...limits } }),
  ],
  ['strong, in a cluster', 2, (all) => ({ redis: { cluster: all.map((at) => `redis://${at}`), ...limits } })],
  ['quorum', 3, (all) => ({ quorum: { nodes: all.map((at) => `redis://${at}`), ...limits } })],
]

interface Told {
  codes: string[]
  forced: string
  closedAfter: number
  endedAfter: number
}

it.each(deployments)('%s: the script ends as soon as it is closed', async (_, count, options) => {
  const addresses = await silentServers(count)
  const once = async (): Promise<Told> => {
    const ending = await runCode(
      `const { LockManager } = await import('fencelock')
       const locks = new LockManager(${JSON.stringify(options(addresses))})
       const listed = async () => { for await (const _ of locks.list()); }
       const calls = [
         locks.connect(), locks.inspect('a'), listed(), locks.describe(),
         ...Array.from({ length: 300 }, (_, index) => locks.tryAcquire('a' + index)),
         locks.acquire('b', { waitMs: 60_000 }), locks.acquire('b', { waitMs: 60_000, fair: true }),
       ]
       const forced = locks.forceRelease('a').then(() => 'none', ({ code }) => code)
       const codes = Promise.all(calls.map((call) => call.then(() => 'none', ({ code }) => code)))
       await new Promise((resolve) => setTimeout(resolve, 300))
       const begin = performance.now()
       const after = () => Math.round(performance.now() - begin)
       await locks.close()
       const closedAfter = after()
       const told = { codes: [...new Set(await codes)], forced: await forced, closedAfter }
       process.on('exit', () => say({ ...told, endedAfter: after() }))`,
    )
    expect(ending).toMatchObject({ code: 0, stderr: '' })
    return JSON.parse(ending.stdout) as Told
  }
  let told = await once()
  // A busy machine may be slow.
  for (let round = 0; round < 4 && told.endedAfter >= 200; round++) told = await once()
  expect(told.codes).toEqual(['CLOSED'])
  // Nodes of a quorum that say nothing may have ended it.
  expect(told.forced).toMatch(/^(CLOSED|OUTCOME_UNKNOWN)$/)
  expect(told.endedAfter).toBeLessThan(200)
})
