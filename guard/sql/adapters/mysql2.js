'use strict'

/** `mysql2` and `mysql2/promise`: a pool or a connection. The callback gets a connection that gives promises. */

const { mysqlTransaction } = require('./mysql-transaction.js')

/** After these nothing is left of a transaction: dead-lock; MariaDB: changed since the snapshot. */
const ROLLED_BACK = new Set([1213, 1020])
const SERVER_STATUS_IN_TRANS = 1

/**
 * @param {any} given
 * @returns {import('../../index').SqlAdapter<any> | undefined}
 */
function mysql2(given) {
  const client = typeof given.promise === 'function' ? given.promise() : given
  // `batch` is what only the client called `mariadb` has.
  if (typeof client.execute !== 'function' || typeof client.batch === 'function') return undefined
  const isPool = typeof client.getConnection === 'function'
  if (!isPool && typeof client.beginTransaction !== 'function') return undefined
  return {
    // Of a connection, not of its promise-giving cover, of which there may be several.
    connection: isPool ? undefined : (client.connection ?? client),
    transaction: (work, how) => mysqlTransaction({ client, isPool, query, watch }, work, how),
    query,
  }
}

/**
 * A question to the server would be a round trip. So the answers to the callback's statements are looked at: those that
 * carry a status say whether the connection is in a transaction, and some errors end one. Where a version of mysql2 has
 * no such method, nothing is watched.
 */
function watch(tx) {
  const connection = tx.connection ?? tx
  // Once it is over, it stays so: another one that the callback began has no fence.
  let [begun, ended] = [false, false]
  const look = (error, result) => {
    if (ROLLED_BACK.has(error?.errno)) ended = true
    const { serverStatus } = result ?? {}
    if (typeof serverStatus !== 'number') return
    // What was never said to begin, by a proxy that does not say, cannot be seen to end.
    if (serverStatus & SERVER_STATUS_IN_TRANS) begun = true
    else if (begun) ended = true
  }
  const { addCommand } = connection
  // Somebody else may watch, too.
  const wasOwn = Object.hasOwn(connection, 'addCommand')
  if (typeof addCommand === 'function') {
    connection.addCommand = (command) => {
      const { onResult } = command
      if (typeof onResult === 'function') {
        command.onResult = (error, ...rest) => {
          look(error, rest[0])
          onResult.call(command, error, ...rest)
        }
      }
      return addCommand.call(connection, command)
    }
  }
  return {
    before: [],
    ended: () => ended,
    end() {
      if (typeof addCommand !== 'function') return
      if (wasOwn) connection.addCommand = addCommand
      else delete connection.addCommand
    },
  }
}

async function query(tx, text) {
  const [result] = await tx.query({ sql: text, rowsAsArray: false })
  return Array.isArray(result) ? { rows: result } : { insertId: result.insertId }
}

module.exports = { mysql2 }
