'use strict'

/** `mysql2` and `mysql2/promise`: a pool or a connection. The callback gets a connection that gives promises. */

const { mysqlTransaction } = require('./mysql-transaction.js')
const { watchStatus } = require('./mysql2-status.js')

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
    transaction: (work, how) => mysqlTransaction({ client, isPool, query, watch: watchStatus }, work, how),
    query,
  }
}

async function query(tx, text) {
  const [result] = await tx.query({ sql: text, rowsAsArray: false })
  return Array.isArray(result) ? { rows: result } : { insertId: result.insertId }
}

module.exports = { mysql2 }
