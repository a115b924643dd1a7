'use strict'

/**
 * One connection carries one transaction at a time. Guards of one connection take turns, also when there are several
 * guards, for example of two tables.
 */

const { AsyncLocalStorage } = require('node:async_hooks')

const { invalid } = require('../lib/errors.js')

/** The end of the line, by connection. @type {WeakMap<object, Promise<unknown>>} */
const lines = new WeakMap()
/** The connections whose turn the current code is part of: to wait for the next one would be to wait for oneself. */
const inside = new AsyncLocalStorage()

/**
 * Runs `work` when all earlier ones of this connection have ended.
 * @template T
 * @param {object} connection
 * @param {() => Promise<T>} work
 * @returns {Promise<T>}
 */
function inTurn(connection, work) {
  const outer = inside.getStore() ?? []
  if (outer.some(({ connection: other, over }) => other === connection && !over.now)) {
    throw invalid(
      TypeError,
      'a guard cannot run inside of another one on the same connection: pass both locks’ resources to one run, or give the guard a pool',
    )
  }
  const over = { now: false }
  const before = lines.get(connection) ?? Promise.resolve()
  const result = before.then(() => inside.run([...outer, { connection, over }], work))
  const turn = result.then(
    () => {
      over.now = true
    },
    () => {
      over.now = true
    },
  )
  lines.set(connection, turn)
  return result
}

module.exports = { inTurn }
