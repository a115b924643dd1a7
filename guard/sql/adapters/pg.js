'use strict'

/** `pg`: a Pool, or a Client that is connected. */

const { invalid } = require('../../../lib/errors.js')
const { TransactionEnded, runCallback } = require('../../core/transaction-ended.js')

const noop = () => {}

/** No transaction, no such savepoint: a transaction's savepoints are gone with it, also when another one has begun since. */
const ENDED = new Set(['25P01', '3B001'])

/**
 * @param {any} client
 * @returns {import('../../index').SqlAdapter<any> | undefined}
 */
function pg(client) {
  if (typeof client.query !== 'function' || typeof client.connect !== 'function') return undefined
  const isPool = typeof client.totalCount === 'number'
  if (!isPool && typeof client.escapeIdentifier !== 'function') return undefined
  return {
    connection: isPool ? undefined : client,
    async transaction(work, { fence, isolation }) {
      const tx = isPool ? await client.connect() : client
      if (isOpen(tx) === true) {
        if (isPool) tx.release(true)
        throw invalid(
          TypeError,
          'the connection of pg is in a transaction already: a guard begins its own, because the fence must come first',
        )
      }
      // A connection that breaks also emits an error, which without a listener ends the process; its queries reject.
      tx.on('error', noop)
      let broken
      let isOver = false
      try {
        return await transact(tx, work, { fence, isolation, over: () => (isOver = true) })
      } catch (error) {
        // Once the connection is broken, this fails at once.
        if (!isOver) await tx.query('ROLLBACK').catch((failure) => (broken = failure))
        throw error
      } finally {
        tx.off('error', noop)
        if (isPool) tx.release(broken)
      }
    },
    query,
  }
}

/** Inside of another transaction BEGIN is a warning only, and COMMIT ends the outer one. Before 8.17 pg cannot tell. */
function isOpen(tx) {
  const status = tx.getTransactionStatus?.()
  return status === undefined ? undefined : status === 'T' || status === 'E'
}

async function transact(tx, work, { fence, isolation, over }) {
  const begin = isolation === undefined ? 'BEGIN' : `BEGIN ISOLATION LEVEL ${isolation}`
  // One message, one round trip: the fence costs no more than BEGIN does.
  const answers = await tx.query(fence === undefined ? begin : `${begin}; SAVEPOINT fencelock; ${fence}`)
  if (fence === undefined) {
    const value = await work(tx)
    await tx.query('COMMIT')
    return value
  }
  const value = await runCallback(
    () => work(tx, answers.at(-1)),
    () => rollback(tx, over),
  )
  try {
    // One message again. COMMIT alone would succeed, with a warning, where no transaction is, or another one.
    await tx.query('RELEASE SAVEPOINT fencelock; COMMIT')
    return value
  } catch (error) {
    if (ENDED.has(error?.code)) throw new TransactionEnded(error.message)
    if (error?.code !== '25P02') throw error
    throw Object.assign(
      new Error(
        'a statement of the callback had failed, and its error was caught: PostgreSQL gives up a transaction with that, so ' +
          'nothing was written: do not catch the error of a statement, or use a savepoint',
        { cause: error },
      ),
      { code: '25P02' },
    )
  }
}

/** After a failure of the callback; returns what shows that the transaction had ended before. */
async function rollback(tx, over) {
  try {
    // One message. It also works after a failed statement.
    await tx.query('ROLLBACK TO SAVEPOINT fencelock; ROLLBACK')
    over()
    return undefined
  } catch ({ code, message }) {
    // Any other failure: the caller rolls back, and destroys the connection if that fails, too.
    return ENDED.has(code) ? new TransactionEnded(message) : undefined
  }
}

function query(tx, text) {
  return tx.query(text)
}

module.exports = { pg }
