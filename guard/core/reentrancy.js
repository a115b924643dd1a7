'use strict'

/**
 * Who waits for whom inside of a callback. One connection carries one transaction at a time: guards of one connection take
 * turns, also when there are several guards, for example of two tables. And a fence is locked until its transaction ends.
 */

const { AsyncLocalStorage } = require('node:async_hooks')

const { invalid } = require('../../lib/errors.js')

/** The end of the line, by connection. @type {WeakMap<object, Promise<unknown>>} */
const lines = new WeakMap()
/**
 * What the current code holds, being part of a callback: to wait for it would be to wait for oneself.
 * @type {AsyncLocalStorage<{ what: object, names: readonly string[], isOver: boolean }[]>}
 */
const inside = new AsyncLocalStorage()

const holds = (what) => (inside.getStore() ?? []).filter((held) => held.what === what && !held.isOver)

/**
 * Runs `work`, which holds `what` meanwhile.
 * @template T
 * @param {object} what
 * @param {readonly string[]} names
 * @param {() => Promise<T>} work
 * @returns {Promise<T>}
 */
async function holding(what, names, work) {
  const held = { what, names, isOver: false }
  try {
    return await inside.run([...(inside.getStore() ?? []), held], work)
  } finally {
    held.isOver = true
  }
}

/**
 * Runs `work` when all earlier ones of this connection have ended.
 * @template T
 * @param {object} connection
 * @param {() => Promise<T>} work
 * @returns {Promise<T>}
 */
function inTurn(connection, work) {
  if (holds(connection).length > 0) {
    throw invalid(
      TypeError,
      'a guard cannot run inside of another one on the same connection: pass both locks’ resources to one run, or give the guard a pool',
    )
  }
  const before = lines.get(connection) ?? Promise.resolve()
  const result = before.then(() => holding(connection, [], work))
  lines.set(
    connection,
    result.then(
      () => {},
      () => {},
    ),
  )
  return result
}

/**
 * Runs `work`, which locks the fences of these resources until it ends. On another connection of the pool the same fence
 * would be waited for, and no server sees that circle.
 * @template T
 * @param {object} client of which there may be several guards
 * @param {string} table
 * @param {readonly string[]} names
 * @param {() => Promise<T>} work
 * @returns {Promise<T>}
 */
function fencing(client, table, names, work) {
  const fences = names.map((name) => `${table}\0${name}`)
  const held = new Set(holds(client).flatMap((each) => each.names))
  const again = names[fences.findIndex((fence) => held.has(fence))]
  if (again !== undefined) {
    throw invalid(
      TypeError,
      `a guard cannot run inside of another one for the same resource, ${JSON.stringify(again)}: it would wait for itself; the ` +
        'outer callback has a transaction whose fence stands: use that',
    )
  }
  return holding(client, fences, work)
}

module.exports = { fencing, inTurn }
