'use strict'

/**
 * `mysql2` and `mysql2/promise`: a pool or a connection. The callback gets a connection that returns
 * promises.
 */

const { hasMethods, poolSize, propertiesOf } = require('../../core/properties.js')
const { mysqlTransaction } = require('./mysql-transaction.js')
const { connectionOf, watchStatus } = require('./mysql2-status.js')

/** @import { SqlAdapter, SqlAnswer } from '../../index.js' */
/** @import { MysqlClient, MysqlConnection } from './mysql-transaction.js' */

/**
 * @typedef {MysqlConnection & { query(options: object): Promise<[object[] | SqlAnswer, unknown]> }}
 *   Mysql2Connection
 */

/**
 * @param {object} given
 * @returns {SqlAdapter<Mysql2Connection> | undefined}
 */
function mysql2(given) {
  /** @type {object} */
  const client = hasMethods(given, 'promise') ? given.promise() : given
  // Only the client called `mariadb` has `batch`.
  if (!hasMethods(client, 'execute') || hasMethods(client, 'batch')) return undefined
  const isPool = hasMethods(client, 'getConnection')
  if (!isPool && !hasMethods(client, 'beginTransaction')) return undefined
  const known = /** @type {MysqlClient<Mysql2Connection>} */ (/** @type {unknown} */ (client))
  return {
    connection: isPool ? undefined : connectionOf(client),
    maxConnections: isPool
      ? poolSize(propertiesOf(propertiesOf(propertiesOf(client).pool).config).connectionLimit)
      : undefined,
    transaction: (work, how) => mysqlTransaction({ client: known, query, watch: watchStatus }, work, how),
    query,
  }
}

/**
 * @param {Mysql2Connection} tx
 * @param {string} text
 * @returns {Promise<SqlAnswer>}
 */
async function query(tx, text) {
  const [result] = await tx.query({ sql: text, rowsAsArray: false })
  return Array.isArray(result) ? { rows: result } : { insertId: result.insertId }
}

module.exports = { mysql2 }
