'use strict'

const { TransactionEnded, runCallback } = require('../../core/transaction-ended.js')
const { undoes } = require('../dialects/mysql.js')

/**
 * A transaction of the clients `mysql2` and `mariadb`.
 *
 * START TRANSACTION and the fence are handed to the client at once: `mariadb` sends them in one go; `mysql2` sends a
 * command when the one before was answered, so there the fence costs a round trip.
 *
 * The server tells nobody that a COMMIT had nothing to commit. `watch` finds out whether the transaction ended before,
 * without a round trip.
 *
 * @typedef {object} Watched
 * @property {string[]} before statements that it wants sent in front of the fence
 * @property {() => boolean | Promise<boolean>} ended asked when the callback is done
 * @property {() => void} end
 */
async function mysqlTransaction({ client, isPool, query, watch }, work, { fence, question, isolation }) {
  const tx = isPool ? await client.getConnection() : client
  let broken = false
  // Without a fence it is a migration, which commits by itself.
  const watched = fence === undefined ? unwatched : watch(tx)
  try {
    const begin = [
      ...(isolation === undefined ? [] : [`SET TRANSACTION ISOLATION LEVEL ${isolation}`]),
      'START TRANSACTION',
      ...watched.before,
      ...[fence, question].filter((text) => text !== undefined),
    ]
    const answers = await settled(begin.map((text) => query(tx, text)))
    const value = await runCallback(
      () => work(tx, fence === undefined ? undefined : answers.at(-1)),
      async (error) => (!undoes(error) && (await watched.ended()) ? new TransactionEnded() : undefined),
    )
    // Before the next statement is sent: COMMIT itself ends the transaction.
    const ended = watched.ended()
    const [outcome] = await Promise.allSettled([query(tx, 'COMMIT')])
    if (await ended) throw new TransactionEnded()
    if (outcome.status === 'rejected') throw outcome.reason
    return value
  } catch (error) {
    await query(tx, 'ROLLBACK').catch(() => (broken = true))
    throw error
  } finally {
    watched.end()
    // A connection whose state nobody knows must not be used again.
    if (isPool && broken) await tx.destroy()
    else if (isPool) await tx.release()
  }
}

/** @type {Watched} */
const unwatched = { before: [], ended: () => false, end() {} }

/** All of them must have ended before anything else is done on the connection. */
async function settled(promises) {
  const results = await Promise.allSettled(promises)
  const failed = results.find(({ status }) => status === 'rejected')
  if (failed !== undefined) throw failed.reason
  return results.map(({ value }) => value)
}

module.exports = { mysqlTransaction }
