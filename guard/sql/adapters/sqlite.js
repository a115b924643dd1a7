'use strict'

/** better-sqlite3, `node:sqlite` and `bun:sqlite`, which agree on `exec`, `prepare` and the statement's `all`. */

const { invalid } = require('../../../lib/errors.js')
const { TransactionEnded, rethrow } = require('../../core/transaction-ended.js')
const { byCause } = require('../dialects/errors.js')
const { isCode } = require('../dialects/sqlite.js')

/** Errors with which SQLite has undone the transaction by itself. */
const undoes = byCause((error) =>
  [
    [7, 'SQLITE_NOMEM'],
    [9, 'SQLITE_INTERRUPT'],
    [10, 'SQLITE_IOERR'],
    [13, 'SQLITE_FULL'],
  ].some(([number, name]) => isCode(error, number, name)),
)

/**
 * @typedef {object} SyncAdapter
 * @property {<T>(work: (tx: any) => T) => T} transaction
 * @property {(text: string) => { rows: any[] }} query
 * @property {(text: string) => void} exec
 */

/**
 * @param {any} client
 * @returns {SyncAdapter | undefined}
 */
function syncSqlite(client) {
  if (typeof client.exec !== 'function' || typeof client.prepare !== 'function') return undefined
  /** Undefined where an early node:sqlite cannot tell. */
  const inTransaction = () => client.inTransaction ?? client.isTransaction
  const rollback = () => {
    // Some errors have rolled back by themselves.
    if (inTransaction() === false) return
    try {
      client.exec('ROLLBACK')
    } catch {
      // The error that led here is the one to tell.
    }
  }
  /**
   * Returns why it failed: a {@link TransactionEnded} if there is no such savepoint. It ends with its transaction, and a
   * transaction that began since has none.
   * @returns {Error | undefined}
   */
  const releaseSavepoint = () => {
    try {
      client.exec('RELEASE fencelock')
      return undefined
    } catch (error) {
      return /no such savepoint/.test(error?.message) ? new TransactionEnded(error.message) : error
    }
  }
  return {
    transaction(work) {
      if (inTransaction() === true) {
        throw invalid(
          TypeError,
          'the SQLite client is in a transaction already: a guard begins its own, because the fence must come first',
        )
      }
      // The write lock at once: a transaction that reads first and then writes can fail in between.
      client.exec('BEGIN IMMEDIATE')
      try {
        client.exec('SAVEPOINT fencelock')
        const value = runCallback(() => work(client), releaseSavepoint)
        const failure = releaseSavepoint()
        if (failure !== undefined) throw failure
        client.exec('COMMIT')
        return value
      } catch (error) {
        rollback()
        throw error
      }
    },
    query(text) {
      const statement = client.prepare(text)
      // A database of node:sqlite may be set to give arrays.
      statement.setReturnArrays?.(false)
      const rows = statement.all()
      // bun:sqlite would keep it until it is garbage.
      statement.finalize?.()
      return { rows }
    },
    exec(text) {
      client.exec(text)
    },
  }
}

/** Like the function of this name in core/, but synchronous. */
function runCallback(work, releaseSavepoint) {
  try {
    return work()
  } catch (error) {
    const failure = undoes(error) ? undefined : releaseSavepoint()
    return rethrow(error, failure instanceof TransactionEnded ? failure : undefined)
  }
}

module.exports = { syncSqlite }
