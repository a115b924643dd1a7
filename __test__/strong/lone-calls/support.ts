/** Calls that are made one after another, and how their event loop is blocked. */
import { LockManager, type RedisOptions, type StrongOptions } from 'fencelock'
import { expect } from 'vitest'

import { onCleanup } from '../../fixtures/cleanup'
import { closing, unique } from '../../fixtures/locks'
import { onBun } from '../../fixtures/processes/runtimes'
import { type RedisServer } from '../../fixtures/servers/redis'
import { eventually, sleep } from '../../fixtures/temp'
import { patient } from '../support'

/** Whether they have a connection of their own here, which the event loop reads. */
export const isInline = !onBun && process.platform !== 'win32'
/** Connections to the server with replicas without and with that of lone calls. */
export const [SHARED, ALL] = [2, isInline ? 3 : 2]

export const open = (locks: LockManager): number | undefined => locks.stats().connections[0]?.open

/** Makes calls one after another until they have their connection. */
export async function alone(redis: string | RedisOptions): Promise<LockManager> {
  const locks = closing(new LockManager({ redis, defaults: patient }))
  await eventually('lone calls have their connection', async () => {
    await (await locks.acquireStrong(unique())).release()
    return open(locks) === ALL
  })
  // The event loop begins to read it.
  await sleep(20)
  return locks
}

/**
 * The same in a script, whose manager is called `locks`; `count` is how many connections there are then. It
 * says how many there are in the end.
 */
export const aloneInScript = (count: number): string => `
  for (let round = 0; round < 50 || (round < 2_000 && locks.stats().connections[0].open !== ${count}); round++)
    await (await locks.acquireStrong('r' + (round % 50), { ackTimeoutMs: 2_000 })).release()
  say(locks.stats().connections[0].open)`

/** The commands with this text that a server runs while `run` runs, each with the address of its client. */
export async function commandsWith(
  text: string,
  server: RedisServer,
  run: () => Promise<unknown>,
): Promise<{ from: string; command: string }[]> {
  const monitor = await server.connect()
  onCleanup(() => monitor.close())
  await monitor.cmd('MONITOR')
  await run()
  const end = unique('end')
  await server.cmd('PING', end)
  await eventually('it has told all', () => monitor.messages.some((line) => String(line).includes(end)))
  monitor.close()
  return monitor.messages.map(String).flatMap((line) => {
    const [, from, command] = /\[\d+ (\S+)\] (.*)/.exec(line) ?? []
    return from === undefined || !command?.includes(text) ? [] : [{ from, command }]
  })
}

/** The only connection over which the next call to acquire, and the release after it, come to a server. */
export async function ownConnection(
  server: RedisServer,
  locks: LockManager,
  options: StrongOptions = {},
): Promise<string> {
  const resource = unique()
  const all = await commandsWith(resource, server, async () => {
    const lock = await locks.acquireStrong(resource, { ackTimeoutMs: 2_000, ...options })
    expect(await lock.release()).toBe(true)
  })
  const clients = new Set(all.map(({ from }) => from))
  clients.delete('lua')
  expect(clients.size).toBe(1)
  return [...clients][0]!
}

/** Blocks the event loop as soon as the calls of this turn are sent: when its promise reactions have run. */
export function blockOnceSent(ms: number): void {
  const block = (): void => {
    const end = performance.now() + ms
    while (performance.now() < end);
  }
  process.nextTick(() => process.nextTick(block))
}
