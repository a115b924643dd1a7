/**
 * The versions of a deploy that changes the lock, as docs/moving describes them: instances with the old
 * library, with the bridge and with fencelock, at the same time.
 */
import { beforeAll, describe, expect, it } from 'vitest'

import type { Script } from '../fixtures/processes/processes'
import { eventually, sleep } from '../fixtures/temp'
import { moves, service, type Move } from './service'
import { startServers, type Servers } from './support'

let servers: Servers
beforeAll(async () => {
  servers = await startServers()
})

describe('a bridge excludes the old version and the new one, which do not exclude each other', () => {
  it.each(moves)('from $library to $to', async (move) => {
    const start = await service(move, servers)
    const [before, bridge, after] = await Promise.all([start('old'), start('bridge'), start('new')])

    before.tell('take')
    expect(await before.next()).toEqual({ inside: true, token: false })
    bridge.tell('take')
    await staysOutside(bridge)
    // A deploy from the old to the new version, without the bridge: two at once.
    after.tell('take')
    expect(await after.next()).toEqual({ inside: true, token: true })
    after.tell('leave')

    before.tell('leave')
    expect(await bridge.next()).toEqual({ inside: true, token: true })
    before.tell('take')
    after.tell('take')
    await staysOutside(before, after)

    bridge.tell('leave')
    expect(await before.next()).toMatchObject({ inside: true })
    expect(await after.next()).toMatchObject({ inside: true })
    before.tell('leave')
    bridge.tell('take')
    await staysOutside(bridge)
    after.tell('leave')
    expect(await bridge.next()).toMatchObject({ inside: true })
  })
})

describe('the work under a bridge', () => {
  const short = { '10_000': '2_500' }
  const redlock5: Move = { page: 'from-redlock.md', library: 'redlock-5', to: 'strong', replace: short }
  const redlock4: Move = { ...redlock5, library: 'redlock-4' }
  const setNx: Move = { page: 'from-set-nx.md', library: 'set-nx', to: 'strong', replace: short }

  it.each<[string, Move, (name: string) => string | undefined]>([
    ['loses the old lock', redlock5, (name) => name],
    ['loses the new lock', redlock5, (name) => `fencelock:{${name}}:lock`],
    ['takes longer than an old lock that is not renewed (redlock 4)', redlock4, () => undefined],
    ['takes longer than an old lock that is not renewed (SET NX)', setNx, () => undefined],
  ])('is notified when it %s', async (_, move, lost) => {
    const start = await service(move, servers)
    const bridge = await start('bridge')
    bridge.tell('take')
    expect(await bridge.next()).toEqual({ inside: true, token: true })
    const key = lost(start.resource)
    if (key !== undefined) await start.redis.cmd('DEL', key)
    expect(await bridge.next()).toBe('aborted')
  })

  it('does not begin when the old lock was lost during the wait for the new one', async () => {
    const start = await service(redlock5, servers)
    const [bridge, after] = await Promise.all([start('bridge'), start('new')])
    after.tell('take')
    expect(await after.next()).toMatchObject({ inside: true })
    bridge.tell('take')
    const hasOld = async () => Number(await start.redis.cmd('EXISTS', start.resource)) === 1
    await eventually('it has the old lock', hasOld)
    await start.redis.cmd('DEL', start.resource)
    // It gives up, and the caller in instance.mjs tries again.
    await eventually('it has the old lock again', hasOld)
    after.tell('leave')
    expect(await bridge.next()).toEqual({ inside: true, token: true })
  })
})

/** Fails if one of them gets the lock soon. */
async function staysOutside(...instances: Script[]): Promise<void> {
  const before = instances.map(({ said }) => said.length)
  await sleep(200)
  expect(instances.map(({ said }) => said.length)).toEqual(before)
}
