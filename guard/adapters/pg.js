'use strict'

/** `pg`: a Pool, or a Client that is connected. */

const { invalid } = require('../../lib/errors.js')
const { TransactionEnded } = require('../ended.js')

const noop = () => {}

/**
 * @param {any} client
 * @returns {import('../index').SqlAdapter<any> | undefined}
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
      try {
        return await transact(tx, work, { fence, isolation })
      } catch (error) {
        // Once the connection is broken, this fails at once.
        await tx.query('ROLLBACK').catch((failure) => (broken = failure))
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

async function transact(tx, work, { fence, isolation }) {
  const begin = isolation === undefined ? 'BEGIN' : `BEGIN ISOLATION LEVEL ${isolation}`
  // One message, one round trip: the fence costs no more than BEGIN does.
  const answers = await tx.query(fence === undefined ? begin : `${begin}; ${fence}`)
  const value = await work(tx, fence === undefined ? undefined : answers.at(-1))
  // COMMIT would succeed, with a warning.
  if (isOpen(tx) === false) throw new TransactionEnded('no transaction is in progress')
  const { command } = await tx.query('COMMIT')
  if (command === 'COMMIT') return value
  // A statement had failed, the callback went on, and the server says so in this word only.
  throw Object.assign(
    new Error(
      `COMMIT was answered with ${command}: a statement of the callback had failed, so the server rolled everything back; ` +
        'nothing was written: do not catch the error of a statement, or use a savepoint',
    ),
    { code: '25P02' },
  )
}

function query(tx, text) {
  return tx.query(text)
}

module.exports = { pg }
