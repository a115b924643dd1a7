'use strict'

/** `mariadb`, its promise API: a pool or a connection. */

const { hasMethods } = require('../../core/properties.js')
const { driverError } = require('../dialects/driver-error.js')
const { mysqlTransaction } = require('./mysql-transaction.js')

/** @import { SqlAdapter, SqlAnswer } from '../../index.js' */
/** @import { MysqlClient, MysqlConnection, Watch } from './mysql-transaction.js' */

/**
 * @typedef {MysqlConnection & { query(options: object): Promise<object[] | SqlAnswer> }} MariadbConnection
 */

const NO_SUCH_SAVEPOINT = 1305

/**
 * @param {object} client
 * @returns {SqlAdapter<MariadbConnection> | undefined}
 */
function mariadb(client) {
  if (!hasMethods(client, 'query', 'batch')) return undefined
  const isPool = hasMethods(client, 'getConnection')
  if (!isPool && !hasMethods(client, 'beginTransaction')) return undefined
  // The callback API has the same methods.
  if (client.constructor?.name.endsWith('Callback')) return undefined
  const known = /** @type {MysqlClient<MariadbConnection>} */ (/** @type {unknown} */ (client))
  return {
    connection: isPool ? undefined : client,
    transaction: (work, how) => mysqlTransaction({ client: known, query, watch }, work, how),
    query,
  }
}

/**
 * A transaction that is over has no savepoints, however it ended. The client does not wait for an answer
 * before it sends the next statement, so this costs no round trip.
 * @type {Watch<MariadbConnection>}
 */
function watch(tx) {
  return {
    before: ['SAVEPOINT fencelock'],
    ended: () =>
      query(tx, 'RELEASE SAVEPOINT fencelock').then(
        () => false,
        (error) => driverError(error).errno === NO_SUCH_SAVEPOINT,
      ),
    stop() {},
  }
}

/**
 * @param {MariadbConnection} tx
 * @param {string} text
 * @returns {Promise<SqlAnswer>}
 */
async function query(tx, text) {
  const result = await tx.query({ sql: text, rowsAsArray: false, metaAsArray: false, nestTables: false })
  return Array.isArray(result) ? { rows: result } : { insertId: result.insertId }
}

module.exports = { mariadb }
