'use strict'

/** `mariadb`, its promise API: a pool or a connection. */

const { mysqlTransaction } = require('./mysql-transaction.js')

const NO_SUCH_SAVEPOINT = 1305

/**
 * @param {any} client
 * @returns {import('../../index').SqlAdapter<any> | undefined}
 */
function mariadb(client) {
  if (typeof client.query !== 'function' || typeof client.batch !== 'function') return undefined
  const isPool = typeof client.getConnection === 'function'
  if (!isPool && typeof client.beginTransaction !== 'function') return undefined
  // The callback API has the same methods.
  if (client.constructor?.name.endsWith('Callback')) return undefined
  return {
    connection: isPool ? undefined : client,
    transaction: (work, how) => mysqlTransaction({ client, isPool, query, watch }, work, how),
    query,
  }
}

/** A transaction that is over has no savepoints any more, whoever ended it. What is sent so early costs no round trip. */
function watch(tx) {
  return {
    before: ['SAVEPOINT fencelock'],
    ended: () =>
      query(tx, 'RELEASE SAVEPOINT fencelock').then(
        () => false,
        ({ errno }) => errno === NO_SUCH_SAVEPOINT,
      ),
    end() {},
  }
}

async function query(tx, text) {
  const result = await tx.query({ sql: text, rowsAsArray: false, metaAsArray: false, nestTables: false })
  return Array.isArray(result) ? { rows: result } : { insertId: result.insertId }
}

module.exports = { mariadb }
