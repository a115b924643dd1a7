'use strict'

/** `postgres` (postgres.js), and `Bun.sql`, which has the same methods; for `Bun.sql` also with MySQL or MariaDB. */

const { TransactionEnded } = require('../ended.js')

const SAVEPOINT = 'SAVEPOINT fencelock'

/**
 * What only works inside of a transaction, sent right before COMMIT where the client does not wait for the answer to send
 * on: so it costs no round trip. Bun waits, with PostgreSQL.
 */
const postgres = { before: undefined, after: SAVEPOINT, ended: '25P01' }
const bunPostgres = { before: undefined, after: undefined, ended: undefined }
/** Here a transaction that is over has no savepoints any more, whoever ended it. */
const mysql = { before: SAVEPOINT, after: `RELEASE ${SAVEPOINT}`, ended: 1305 }

/** @param {any} client */
function postgresJs(client) {
  return adapter(client, client.options?.adapter === undefined ? postgres : bunPostgres)
}

/** @param {any} client of Bun */
function bunMysql(client) {
  return adapter(client, mysql)
}

/**
 * @param {any} client
 * @returns {import('../index').SqlAdapter<any> | undefined}
 */
function adapter(client, { before, after, ended }) {
  if (
    typeof client !== 'function' ||
    typeof client.begin !== 'function' ||
    typeof client.unsafe !== 'function'
  ) {
    return undefined
  }
  return {
    async transaction(work, { fence, isolation }) {
      let isOver = Promise.resolve()
      const checked = async (tx) => {
        // A migration, which commits by itself in MySQL.
        if (fence === undefined) return work(tx)
        if (before !== undefined) tx.unsafe(before).catch(() => {})
        const value = await work(tx)
        if (after !== undefined) {
          isOver = tx.unsafe(after).then(
            () => undefined,
            (error) => (error.code === ended || error.errno === ended ? error : undefined),
          )
        }
        return value
      }
      const value = await (isolation === undefined
        ? client.begin(checked)
        : client.begin(`isolation level ${isolation}`, checked))
      const error = await isOver
      if (error !== undefined) throw new TransactionEnded(error.message)
      return value
    },
    async query(tx, text) {
      const rows = await tx.unsafe(text)
      return { rows, insertId: rows.lastInsertRowid }
    },
  }
}

module.exports = { bunMysql, postgresJs }
