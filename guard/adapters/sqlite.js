'use strict'

/** better-sqlite3, `node:sqlite` and `bun:sqlite`, which agree on `exec`, `prepare` and the statement's `all`. */

const { invalid } = require('../../lib/errors.js')
const { TransactionEnded } = require('../ended.js')

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
        const value = work(client)
        if (inTransaction() === false) throw new TransactionEnded('no transaction is active')
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

module.exports = { syncSqlite }
