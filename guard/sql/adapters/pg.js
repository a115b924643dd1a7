'use strict'

/** `pg`: a Pool, or a connected Client. */

const { invalid } = require('../../../lib/errors.js')
const { hasMethods, messageOf, poolSize, propertiesOf } = require('../../core/properties.js')
const { TransactionEnded, runCallback } = require('../../core/transaction-ended.js')
const { driverError } = require('../dialects/driver-error.js')

/** @import { SqlAdapter, SqlAnswer } from '../../index.js' */

/**
 * @typedef {object} PgClient
 * @property {(text: string) => Promise<unknown>} query resolves with a result, or with an array of them for
 *   several statements
 * @property {() => string | null} [getTransactionStatus] since 8.17
 * @property {(event: 'error', listener: () => void) => void} on
 * @property {(event: 'error', listener: () => void) => void} off
 * @property {(destroy?: unknown) => void} release of a pool's client
 */

/** @typedef {Parameters<SqlAdapter<PgClient>['transaction']>[1]} Statements */

/**
 * No transaction, or no such savepoint: savepoints end with their transaction, and a transaction that began
 * since has none.
 * @type {ReadonlySet<unknown>}
 */
const ENDED = new Set(['25P01', '3B001'])
const FAILED_TRANSACTION = '25P02'

const noop = () => {}

/**
 * @param {object} given
 * @returns {SqlAdapter<PgClient> | undefined}
 */
function pg(given) {
  if (!hasMethods(given, 'query', 'connect')) return undefined
  const isPool = typeof propertiesOf(given).totalCount === 'number'
  if (!isPool && !hasMethods(given, 'escapeIdentifier')) return undefined
  const client = /** @type {PgClient} */ (/** @type {unknown} */ (given))
  const pool = /** @type {{ connect(): Promise<PgClient> }} */ (/** @type {unknown} */ (given))
  return {
    connection: isPool ? undefined : client,
    maxConnections: isPool ? poolSize(propertiesOf(propertiesOf(given).options).max) : undefined,
    transaction: async (work, statements) =>
      isPool
        ? onConnection(await pool.connect(), true, work, statements)
        : onConnection(client, false, work, statements),
    query,
  }
}

/**
 * @template T
 * @param {PgClient} tx
 * @param {boolean} isPooled
 * @param {(tx: PgClient, fenceAnswer?: SqlAnswer) => Promise<T>} work
 * @param {Statements} statements
 */
async function onConnection(tx, isPooled, work, statements) {
  if (isOpen(tx)) {
    if (isPooled) tx.release(true)
    throw invalid(
      TypeError,
      'the connection of pg is in a transaction already: a guard begins its own, ' +
        'because the fence must come first',
    )
  }
  // A connection that breaks also emits an error, which without a listener ends the process. Its queries
  // reject anyway.
  tx.on('error', noop)
  let failure
  const state = { isOver: false }
  try {
    return await transact(tx, work, statements, state)
  } catch (error) {
    // Fails immediately if the connection is broken.
    if (!state.isOver) await tx.query('ROLLBACK').catch((/** @type {unknown} */ reason) => (failure = reason))
    throw error
  } finally {
    tx.off('error', noop)
    // A connection that could not roll back is destroyed.
    if (isPooled) tx.release(failure)
  }
}

/**
 * Inside another transaction BEGIN is only a warning, and COMMIT ends the outer one. Before 8.17 pg does not
 * know.
 * @param {PgClient} tx
 */
function isOpen(tx) {
  const status = tx.getTransactionStatus?.()
  return status === 'T' || status === 'E'
}

/**
 * @template T
 * @param {PgClient} tx
 * @param {(tx: PgClient, fenceAnswer?: SqlAnswer) => Promise<T>} work
 * @param {Statements} statements
 * @param {{ isOver: boolean }} state set when the transaction has been rolled back already
 */
async function transact(tx, work, { fence, isolation }, state) {
  const begin = isolation === undefined ? 'BEGIN' : `BEGIN ISOLATION LEVEL ${isolation}`
  if (fence === undefined) {
    await tx.query(begin)
    const value = await work(tx)
    await tx.query('COMMIT')
    return value
  }
  // One message, one round trip: the fence costs no more than BEGIN does.
  const answers = /** @type {SqlAnswer[]} */ (await tx.query(`${begin}; SAVEPOINT fencelock; ${fence}`))
  const value = await runCallback(
    () => work(tx, answers.at(-1)),
    () => rollback(tx, state),
  )
  await commit(tx)
  return value
}

/**
 * After a failure of the callback.
 * @param {PgClient} tx
 * @param {{ isOver: boolean }} state
 */
async function rollback(tx, state) {
  try {
    // One message. It also works after a failed statement.
    await tx.query('ROLLBACK TO SAVEPOINT fencelock; ROLLBACK')
    state.isOver = true
    return undefined
  } catch (error) {
    // After any other failure the caller tries a plain ROLLBACK.
    return ENDED.has(driverError(error).code) ? new TransactionEnded(messageOf(error)) : undefined
  }
}

/** @param {PgClient} tx */
async function commit(tx) {
  try {
    // One message again. A COMMIT alone would succeed, with a warning, without a transaction or in another
    // one.
    await tx.query('RELEASE SAVEPOINT fencelock; COMMIT')
  } catch (error) {
    const { code } = driverError(error)
    if (ENDED.has(code)) throw new TransactionEnded(messageOf(error))
    if (code !== FAILED_TRANSACTION) throw error
    throw Object.assign(
      new Error(
        'a statement of the callback had failed, and its error was caught: PostgreSQL aborts the transaction ' +
          'then, so nothing was written. Do not catch the errors of statements, or use a savepoint',
        { cause: error },
      ),
      { code: FAILED_TRANSACTION },
    )
  }
}

/**
 * @param {PgClient} tx
 * @param {string} text
 */
async function query(tx, text) {
  return /** @type {SqlAnswer} */ (await tx.query(text))
}

module.exports = { pg }
