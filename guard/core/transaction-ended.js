'use strict'

/** How guards report that a callback ended its transaction. */

/**
 * A transaction that was over before the guard ended it: the callback committed or rolled back, or a
 * statement of MySQL did (DDL commits; a deadlock rolls back, even if its error is caught). Later statements
 * of the callback were not fenced.
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
 * Rethrows what a callback threw. If the callback had ended the transaction before that, its error would hide
 * it, so it becomes the cause of a {@link TransactionEnded}.
 * @param {unknown} error
 * @param {Error | undefined} ended a {@link TransactionEnded} in that case
 * @returns {never}
 */
function rethrow(error, ended) {
  if (ended === undefined) throw error
  throw new TransactionEnded(ended.message, { cause: error })
}

/**
 * Runs the callback of a transaction.
 * @template T
 * @param {() => T | PromiseLike<T>} work
 * @param {(error: unknown) => Promise<Error | undefined>} findEnd called after a failure; resolves with a
 *   {@link TransactionEnded} if the transaction had ended before
 */
async function runCallback(work, findEnd) {
  try {
    return await work()
  } catch (error) {
    return rethrow(error, await findEnd(error))
  }
}

module.exports = { TransactionEnded, rethrow, runCallback }
