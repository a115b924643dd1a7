'use strict'

/**
 * Guards inside the callback of another guard. A connection carries one transaction at a time, so all guards
 * of a connection form a queue. A fence is locked until its transaction ends. Waiting for the outer guard
 * would be a deadlock that no server detects, so it is refused.
 */

const { AsyncLocalStorage } = require('node:async_hooks')

const { invalid } = require('../../lib/errors.js')

/**
 * What a callback occupies while it runs: a connection, or the fences of a client.
 * @typedef {object} Occupation
 * @property {object} what
 * @property {readonly string[]} fences
 * @property {boolean} isOver
 */

/** The last transaction in the queue of a connection. @type {WeakMap<object, Promise<unknown>>} */
const queues = new WeakMap()

/** What the callbacks around the current code occupy. @type {AsyncLocalStorage<Occupation[]>} */
const surrounding = new AsyncLocalStorage()

/** @param {object} what */
function occupations(what) {
  return (surrounding.getStore() ?? []).filter((each) => each.what === what && !each.isOver)
}

/**
 * Runs `work`, which occupies `what` until it ends.
 * @template T
 * @param {object} what
 * @param {readonly string[]} fences
 * @param {() => Promise<T>} work
 */
async function occupying(what, fences, work) {
  const occupation = { what, fences, isOver: false }
  try {
    return await surrounding.run([...(surrounding.getStore() ?? []), occupation], work)
  } finally {
    occupation.isOver = true
  }
}

/**
 * Runs `work` when all earlier transactions of this connection have ended.
 * @template T
 * @param {object} connection
 * @param {() => Promise<T>} work
 */
function inTurn(connection, work) {
  if (occupations(connection).length > 0) {
    throw invalid(
      TypeError,
      'a guard cannot run inside another one on the same connection: pass the resources of both locks to one ' +
        'run, or give the guard a pool',
    )
  }
  const previous = queues.get(connection) ?? Promise.resolve()
  const result = previous.then(() => occupying(connection, [], work))
  queues.set(
    connection,
    result.then(
      () => {},
      () => {},
    ),
  )
  return result
}

/**
 * Each callback around the current code holds a connection of this pool until the current code is done. If
 * these are all that the pool has, there will never be another one.
 * @param {object} client
 * @param {number} maxConnections of the pool
 */
function assertRoom(client, maxConnections) {
  if (occupations(client).length < maxConnections) return
  throw invalid(
    TypeError,
    `a guard cannot run inside ${maxConnections === 1 ? 'another one' : `${maxConnections} others`} on a pool ` +
      `of ${maxConnections}: they hold all connections, so it would wait for itself. Pass the resources of all ` +
      'locks to one run, or give the pool more connections',
  )
}

/**
 * Runs `work`, which locks the fences of these resources until it ends.
 * @template T
 * @param {object} client which several guards may share
 * @param {string} table
 * @param {readonly string[]} names
 * @param {() => Promise<T>} work
 */
function withFences(client, table, names, work) {
  const fences = names.map((name) => `${table}\0${name}`)
  const occupied = new Set(occupations(client).flatMap((each) => each.fences))
  const again = names[fences.findIndex((fence) => occupied.has(fence))]
  if (again !== undefined) {
    throw invalid(
      TypeError,
      `a guard cannot run inside another one for the same resource, ${JSON.stringify(again)}: ` +
        'it would wait for itself. Use the transaction of the outer callback, which is fenced already',
    )
  }
  return occupying(client, fences, work)
}

module.exports = { assertRoom, inTurn, withFences }
