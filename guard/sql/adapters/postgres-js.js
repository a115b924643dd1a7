'use strict'

/**
 * `postgres` (postgres.js), and `Bun.sql`, which has the same methods; `Bun.sql` also with MySQL or MariaDB.
 */

const { hasMethods, messageOf, poolSize, propertiesOf } = require('../../core/properties.js')
const { TransactionEnded, runCallback } = require('../../core/transaction-ended.js')
const { driverError } = require('../dialects/driver-error.js')
const { rollsBack } = require('../dialects/mysql.js')

/** @import { SqlAdapter } from '../../index.js' */

/**
 * @typedef {object} Sql
 * @property {(text: string) => Promise<object[] & { lastInsertRowid?: number | bigint | null }>} unsafe
 */

/**
 * @typedef {object} PostgresJs
 * @property {{
 *   <T>(work: (tx: Sql) => Promise<T>): Promise<T>
 *   <T>(options: string, work: (tx: Sql) => Promise<T>): Promise<T>
 * }} begin
 */

/**
 * How an early end of a transaction is found: a transaction that is over has no savepoints, however it ended,
 * and a transaction that began since has none either. Where the client does not wait for an answer before it
 * sends the next statement, the savepoint is set right after BEGIN and released right before COMMIT, which
 * costs no round trip. Bun waits with PostgreSQL, so there it is checked only when the callback has failed.
 * @typedef {object} EndCheck
 * @property {string} [before] sent before the callback
 * @property {string} [after] sent when the callback is done
 * @property {string} failed sent when the callback has failed
 * @property {ReadonlySet<unknown>} codes of errors that say that the transaction is over
 */

const SAVEPOINT = 'SAVEPOINT fencelock'

/** @type {EndCheck} */
const postgres = {
  before: SAVEPOINT,
  after: `RELEASE ${SAVEPOINT}`,
  failed: `ROLLBACK TO ${SAVEPOINT}`,
  codes: new Set(['25P01', '3B001']),
}
/** @type {EndCheck} */
const bunPostgres = { failed: SAVEPOINT, codes: new Set(['25P01']) }
/** @type {EndCheck} */
const mysql = {
  before: SAVEPOINT,
  after: `RELEASE ${SAVEPOINT}`,
  failed: `RELEASE ${SAVEPOINT}`,
  codes: new Set([1305]),
}

/** @param {object} client */
function postgresJs(client) {
  const isBun = propertiesOf(propertiesOf(client).options).adapter !== undefined
  return adapter(client, isBun ? bunPostgres : postgres)
}

/** @param {object} client of Bun */
function bunMysql(client) {
  return adapter(client, mysql)
}

/**
 * @param {object} given
 * @param {EndCheck} check
 * @returns {SqlAdapter<Sql> | undefined}
 */
function adapter(given, check) {
  if (typeof given !== 'function' || !hasMethods(given, 'begin', 'unsafe')) return undefined
  const client = /** @type {PostgresJs} */ (/** @type {unknown} */ (given))
  return {
    maxConnections: poolSize(propertiesOf(propertiesOf(given).options).max),
    async transaction(work, { fence, isolation }) {
      /** @type {Promise<Error | undefined>} */
      let ended = Promise.resolve(undefined)
      /** @param {Sql} tx */
      const checked = async (tx) => {
        // A migration, which commits implicitly in MySQL.
        if (fence === undefined) return work(tx)
        if (check.before !== undefined) tx.unsafe(check.before).catch(() => {})
        const value = await runCallback(
          () => work(tx),
          async (error) => (rollsBack(error) ? undefined : findEnd(tx, check.failed, check.codes)),
        )
        if (check.after !== undefined) ended = findEnd(tx, check.after, check.codes)
        return value
      }
      const value = await (isolation === undefined
        ? client.begin(checked)
        : client.begin(`isolation level ${isolation}`, checked))
      const error = await ended
      if (error !== undefined) throw error
      return value
    },
    async query(tx, text) {
      const rows = await tx.unsafe(text)
      return { rows, insertId: rows.lastInsertRowid }
    },
  }
}

/**
 * Not an async function: `then` sends the statement, and COMMIT must come after it.
 * @param {Sql} tx
 * @param {string} statement
 * @param {ReadonlySet<unknown>} codes
 * @returns {Promise<Error | undefined>}
 */
function findEnd(tx, statement, codes) {
  return tx.unsafe(statement).then(
    () => undefined,
    (error) => {
      const { code, errno } = driverError(error)
      return codes.has(code) || codes.has(errno) ? new TransactionEnded(messageOf(error)) : undefined
    },
  )
}

module.exports = { bunMysql, postgresJs }
