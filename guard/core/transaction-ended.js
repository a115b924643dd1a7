'use strict'

/**
 * A transaction that was over before the guard ended it: the callback committed or rolled back, or a statement of MySQL did
 * (DDL commits; a deadlock rolls back, even if its error is caught). Later statements of the callback were not fenced.
 */
class TransactionEnded extends Error {
  /**
   * @param {string} [message] the database's own, if it has one
   * @param {ErrorOptions} [options]
   */
  constructor(message = 'no transaction is in progress', options) {
    super(message, options)
  }
}

/**
 * Rethrows what a callback threw, unless the callback had ended the transaction before that: its own error would hide it.
 * @param {unknown} error
 * @param {TransactionEnded | undefined} ended
 * @returns {never}
 */
function rethrow(error, ended) {
  if (ended === undefined) throw error
  throw new TransactionEnded(ended.message, { cause: error })
}

/**
 * Runs the callback of a transaction.
 * @template T
 * @param {() => T | Promise<T>} work
 * @param {(error: unknown) => Promise<TransactionEnded | undefined>} findEnd asks after a failure whether the
 *   transaction had ended before
 */
async function runCallback(work, findEnd) {
  try {
    return await work()
  } catch (error) {
    return rethrow(error, await findEnd(error))
  }
}

module.exports = { TransactionEnded, rethrow, runCallback }
