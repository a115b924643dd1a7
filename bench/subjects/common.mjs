/**
 * What several subjects share.
 */
import { randomUUID } from 'node:crypto'

import { ACK_TIMEOUT_MS, REPLICAS } from './conditions.mjs'

/**
 * Imports a peer. By a name that the type checker does not follow: the peers are installed for the benchmark
 * only.
 *
 * @param {string} name
 * @returns {Promise<any>}
 */
export function load(name) {
  return import(name)
}

/**
 * @param {unknown} holds
 * @param {string} what
 * @returns {asserts holds}
 */
export function expect(holds, what) {
  if (!holds) throw new Error(what)
}

/** Compare and delete: after its lease has ended, the key may belong to another owner. */
export const RELEASE_SCRIPT = `
if redis.call('get', KEYS[1]) == ARGV[1] then
  return redis.call('del', KEYS[1])
end
return 0`

/** WAIT blocks its connection, so concurrent calls need many connections; sequential calls need one. */
const WAIT_CONNECTIONS = 16

/**
 * One of a list, always the same for a worker.
 *
 * @template T
 * @param {T[]} list not empty
 * @param {number} worker
 * @returns {T}
 */
export function pick(list, worker) {
  return /** @type {T} */ (list[worker % list.length])
}

/**
 * The connections for calls that wait.
 *
 * @template T
 * @param {number} atOnce
 * @param {() => T} connect
 */
export function connectMany(atOnce, connect) {
  return Array.from({ length: atOnce > 1 ? WAIT_CONNECTIONS : 1 }, connect)
}

/**
 * A pair as one writes it with a Redis client: SET NX PX and WAIT sent together, then compare-and-delete to
 * release or to roll back.
 *
 * @param {any} redis a client
 * @param {any} releases the client for releases
 * @param {string} resource
 * @param {...unknown} options of SET
 */
export async function setAndWait(redis, releases, resource, ...options) {
  const owner = randomUUID()
  const [set, acks] = await Promise.all([
    redis.set(resource, owner, ...options),
    redis.wait(REPLICAS, ACK_TIMEOUT_MS),
  ])
  expect(set === 'OK', 'not granted')
  const released = await releases.compareAndDelete(resource, owner)
  expect(acks >= REPLICAS, 'too few acknowledgements, rolled back')
  expect(released === 1, 'not released')
}
