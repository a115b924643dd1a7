'use strict'

/** `mariadb`, its promise API: a pool or a connection. */

const { mysqlTransaction } = require('./mysql-transaction.js')

/**
 * @param {any} client
 * @returns {import('../index').SqlAdapter<any> | undefined}
 */
function mariadb(client) {
  if (typeof client.query !== 'function' || typeof client.batch !== 'function') return undefined
  const isPool = typeof client.getConnection === 'function'
  if (!isPool && typeof client.beginTransaction !== 'function') return undefined
  // The callback API has the same methods.
  if (client.constructor?.name.endsWith('Callback')) return undefined
  return {
    connection: isPool ? undefined : client,
    transaction: (work, how) => mysqlTransaction(client, isPool, query, work, how),
    query,
  }
}

async function query(tx, text) {
  const result = await tx.query({ sql: text, rowsAsArray: false, metaAsArray: false, nestTables: false })
  return Array.isArray(result) ? { rows: result } : { insertId: result.insertId }
}

module.exports = { mariadb }
