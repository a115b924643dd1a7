'use strict'

/** `postgres` (postgres.js), and `Bun.sql`, which has the same methods; for `Bun.sql` also with MySQL or MariaDB. */

const { TransactionEnded, runCallback } = require('../../core/transaction-ended.js')
const { undoes } = require('../dialects/mysql.js')

const SAVEPOINT = 'SAVEPOINT fencelock'

/**
 * A transaction that is over has no savepoints any more, whoever ended it, also when another one has begun since. Sent right
 * behind BEGIN and right before COMMIT where the client does not wait for the answer to send on: so it costs no round trip.
 * Bun waits, with PostgreSQL: there it is asked only when the callback has failed.
 */
const postgres = {
  before: SAVEPOINT,
  after: `RELEASE ${SAVEPOINT}`,
  failed: `ROLLBACK TO ${SAVEPOINT}`,
  codes: new Set(['25P01', '3B001']),
}
const bunPostgres = { before: undefined, after: undefined, failed: SAVEPOINT, codes: new Set(['25P01']) }
const mysql = {
  before: SAVEPOINT,
  after: `RELEASE ${SAVEPOINT}`,
  failed: `RELEASE ${SAVEPOINT}`,
  codes: new Set([1305]),
}

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
 * @returns {import('../../index').SqlAdapter<any> | undefined}
 */
function adapter(client, { before, after, failed, codes }) {
  const isEnded = ({ code, errno }) => [code, errno].some((each) => codes.has(each))
  if (
    typeof client !== 'function' ||
    typeof client.begin !== 'function' ||
    typeof client.unsafe !== 'function'
  ) {
    return undefined
  }
  return {
    async transaction(work, { fence, isolation }) {
      /** @type {Promise<Error | undefined>} */
      let ended = Promise.resolve(undefined)
      const checked = async (tx) => {
        // A migration, which commits by itself in MySQL.
        if (fence === undefined) return work(tx)
        if (before !== undefined) tx.unsafe(before).catch(() => {})
        const ask = (text) =>
          tx.unsafe(text).then(
            () => undefined,
            (error) => (isEnded(error) ? new TransactionEnded(error.message) : undefined),
          )
        const value = await runCallback(
          () => work(tx),
          async (error) => (undoes(error) ? undefined : ask(failed)),
        )
        if (after !== undefined) ended = ask(after)
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

module.exports = { bunMysql, postgresJs }
