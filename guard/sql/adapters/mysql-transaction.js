'use strict'

/**
 * A transaction of the clients `mysql2` and `mariadb`.
 *
 * START TRANSACTION and the fence are passed to the client at once: `mariadb` sends them together. `mysql2`
 * sends a command when the previous one has been answered, so there the fence costs a round trip.
 *
 * A COMMIT without a transaction succeeds. So a `Watch` finds out whether the transaction ended earlier,
 * without a round trip.
 */

const { hasMethods } = require('../../core/properties.js')
const { TransactionEnded, runCallback } = require('../../core/transaction-ended.js')
const { rollsBack } = require('../dialects/mysql.js')

/** @import { SqlAdapter, SqlAnswer } from '../../index.js' */

/**
 * A connection; `destroy` and `release` are those of a pool's.
 * @typedef {object} MysqlConnection
 * @property {() => unknown} destroy
 * @property {() => unknown} release
 */

/**
 * @template Tx
 * @typedef {{ getConnection(): Promise<Tx> } | Tx} MysqlClient
 */

/**
 * Follows a transaction until `stop` is called.
 * @template Tx
 * @typedef {(tx: Tx) => Watched} Watch
 */

/**
 * @typedef {object} Watched
 * @property {string[]} before statements to send before the fence
 * @property {() => boolean | Promise<boolean>} ended called when the callback is done
 * @property {() => void} stop
 */

/**
 * @template {MysqlConnection} Tx
 * @template T
 * @param {object} how the client works
 * @param {MysqlClient<Tx>} how.client
 * @param {(tx: Tx, text: string) => Promise<SqlAnswer>} how.query
 * @param {Watch<Tx>} how.watch
 * @param {(tx: Tx, fenceAnswer?: SqlAnswer) => Promise<T>} work
 * @param {Parameters<SqlAdapter<Tx>['transaction']>[1]} statements
 * @returns {Promise<T>}
 */
async function mysqlTransaction({ client, query, watch }, work, { fence, question, isolation }) {
  const isPool = hasMethods(client, 'getConnection')
  const tx = isPool ? await client.getConnection() : client
  let broken = false
  // Without a fence it is a migration, which commits implicitly.
  const watched = fence === undefined ? unwatched : watch(tx)
  try {
    const begin = [
      ...(isolation === undefined ? [] : [`SET TRANSACTION ISOLATION LEVEL ${isolation}`]),
      'START TRANSACTION',
      ...watched.before,
      ...[fence, question].filter((text) => text !== undefined),
    ]
    const answers = await allSettled(begin.map((text) => query(tx, text)))
    const value = await runCallback(
      () => work(tx, fence === undefined ? undefined : answers.at(-1)),
      async (error) => (!rollsBack(error) && (await watched.ended()) ? new TransactionEnded() : undefined),
    )
    // Before the next statement is sent: COMMIT itself ends the transaction.
    const ended = watched.ended()
    const [commit] = await Promise.allSettled([query(tx, 'COMMIT')])
    if (await ended) throw new TransactionEnded()
    if (commit.status === 'rejected') throw commit.reason
    return value
  } catch (error) {
    await query(tx, 'ROLLBACK').catch(() => (broken = true))
    throw error
  } finally {
    watched.stop()
    // A connection in an unknown state must not be used again.
    if (isPool && broken) await tx.destroy()
    else if (isPool) await tx.release()
  }
}

/** @type {Watched} */
const unwatched = { before: [], ended: () => false, stop() {} }

/**
 * The results, or the first failure, once all are settled: only then may the connection be used for anything
 * else.
 * @template T
 * @param {Promise<T>[]} promises
 */
async function allSettled(promises) {
  const results = await Promise.allSettled(promises)
  return results.map((result) => {
    if (result.status === 'rejected') throw result.reason
    return result.value
  })
}

module.exports = { mysqlTransaction }
