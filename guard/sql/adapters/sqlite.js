'use strict'

/**
 * better-sqlite3, `node:sqlite` and `bun:sqlite`, which agree on `exec`, `prepare` and the statement's `all`.
 */

const { invalid } = require('../../../lib/errors.js')
const { hasMethods, messageOf } = require('../../core/properties.js')
const { TransactionEnded, rethrow } = require('../../core/transaction-ended.js')
const { byCause } = require('../dialects/driver-error.js')
const { isCode } = require('../dialects/sqlite.js')

/**
 * @typedef {object} SqliteClient
 * @property {(text: string) => unknown} exec
 * @property {(text: string) => SqliteStatement} prepare
 * @property {boolean} [inTransaction]
 * @property {boolean} [isTransaction]
 */

/**
 * @typedef {object} SqliteStatement
 * @property {() => Row[]} all
 * @property {(enabled: boolean) => void} [setReturnArrays]
 * @property {() => void} [finalize]
 */

/** @typedef {Readonly<Record<string, any>>} Row of the table of the fences, or a column of it */

/**
 * @template Client
 * @typedef {object} SyncAdapter
 * @property {<T>(work: (client: Client) => T) => T} transaction
 * @property {(text: string) => { rows: Row[] }} query
 * @property {(text: string) => void} exec
 */

/** Errors after which SQLite has rolled back the transaction. */
const rollsBack = byCause((error) =>
  [
    /** @type {const} */ ([7, 'SQLITE_NOMEM']),
    /** @type {const} */ ([9, 'SQLITE_INTERRUPT']),
    /** @type {const} */ ([10, 'SQLITE_IOERR']),
    /** @type {const} */ ([13, 'SQLITE_FULL']),
  ].some(([number, name]) => isCode(error, number, name)),
)

/**
 * @template {object} Client
 * @param {Client} given
 * @returns {SyncAdapter<Client> | undefined}
 */
function syncSqlite(given) {
  if (!hasMethods(given, 'exec', 'prepare')) return undefined
  const client = /** @type {SqliteClient} */ (/** @type {unknown} */ (given))
  return {
    transaction: (work) => transact(client, () => work(given)),
    query(text) {
      const statement = client.prepare(text)
      // A database of node:sqlite may be configured to return arrays.
      statement.setReturnArrays?.(false)
      const rows = statement.all()
      // bun:sqlite would keep it until it is garbage-collected.
      statement.finalize?.()
      return { rows }
    },
    exec(text) {
      client.exec(text)
    },
  }
}

/**
 * @template T
 * @param {SqliteClient} client
 * @param {() => T} work
 */
function transact(client, work) {
  if (isOpen(client) === true) {
    throw invalid(
      TypeError,
      'the SQLite client is in a transaction already: a guard begins its own, ' +
        'because the fence must come first',
    )
  }
  // Takes the write lock immediately: a transaction that reads first and then writes can fail in between.
  client.exec('BEGIN IMMEDIATE')
  try {
    client.exec('SAVEPOINT fencelock')
    const value = runCallback(client, work)
    const failure = releaseSavepoint(client)
    if (failure !== undefined) throw failure
    client.exec('COMMIT')
    return value
  } catch (error) {
    rollback(client)
    throw error
  }
}

/**
 * Like the function of this name in core/, but synchronous.
 * @template T
 * @param {SqliteClient} client
 * @param {() => T} work
 */
function runCallback(client, work) {
  try {
    return work()
  } catch (error) {
    const failure = rollsBack(error) ? undefined : releaseSavepoint(client)
    return rethrow(error, failure instanceof TransactionEnded ? failure : undefined)
  }
}

/**
 * Returns why it failed: a {@link TransactionEnded} if there is no such savepoint. A savepoint ends with its
 * transaction, and a transaction that began since has none.
 * @param {SqliteClient} client
 * @returns {Error | undefined}
 */
function releaseSavepoint(client) {
  try {
    client.exec('RELEASE fencelock')
    return undefined
  } catch (error) {
    const isMissing = messageOf(error).includes('no such savepoint')
    return isMissing ? new TransactionEnded(messageOf(error)) : /** @type {Error} */ (error)
  }
}

/** @param {SqliteClient} client */
function rollback(client) {
  // Some errors have rolled back already.
  if (isOpen(client) === false) return
  try {
    client.exec('ROLLBACK')
  } catch {
    // The error that led here is the one to report.
  }
}

/**
 * Undefined with an early node:sqlite, which does not know.
 * @param {SqliteClient} client
 */
function isOpen(client) {
  return client.inTransaction ?? client.isTransaction
}

module.exports = { syncSqlite }
