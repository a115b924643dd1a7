'use strict'

/**
 * Finds out whether a transaction of `mysql2` ended before its callback did, by reading the status that the server sends
 * with each result.
 *
 * This replaces two methods of the client, for as long as a transaction lasts, because its public interface has nothing
 * that would do:
 * - a savepoint, as with the other clients, costs two round trips: `mysql2` sends a command when the previous one is done;
 * - COMMIT succeeds without a transaction, and its own status is that after the commit;
 * - `mysql2` keeps no status, emits no event for a result, and its tracing channels do not name the connection;
 * - a wrapper around the connection would miss what reaches the connection in another way: prepared statements, query
 *   builders, the callback interface, a variable outside of the callback.
 *
 * All of these end in `connection.addCommand(command)`, and `command.onResult` gets the result. A version of `mysql2`
 * without these methods works as well; a transaction that ended early is not noticed there.
 */

const { undoes } = require('../dialects/mysql.js')

const SERVER_STATUS_IN_TRANS = 1

/** The state of a transaction, from the results of its statements. */
class TransactionStatus {
  #begun = false
  /** Remains true: a transaction that the callback begins afterwards has no fence. */
  ended = false

  /** @param {unknown} error @param {unknown} result */
  observe(error, result) {
    if (undoes(error)) this.ended = true
    const { serverStatus } = result ?? {}
    if (typeof serverStatus !== 'number') return
    // A proxy may not report the status. Then the transaction never seems to begin, so it must not seem to end.
    if (serverStatus & SERVER_STATUS_IN_TRANS) this.#begun = true
    else if (this.#begun) this.ended = true
  }
}

/** @param {any} tx @returns {import('./mysql-transaction').Watched} */
function watchStatus(tx) {
  const status = new TransactionStatus()
  const stop = observeResults(tx.connection ?? tx, (error, result) => status.observe(error, result))
  return { before: [], ended: () => status.ended, end: stop }
}

/** Calls `observe` for each result of a connection until the returned function is called. */
function observeResults(connection, observe) {
  const { addCommand } = connection
  if (typeof addCommand !== 'function') return () => {}
  // Other code may have replaced it as well: then that replacement is restored.
  const wasOwn = Object.hasOwn(connection, 'addCommand')
  connection.addCommand = (command) => {
    const { onResult } = command
    if (typeof onResult === 'function') {
      command.onResult = (error, ...rest) => {
        observe(error, rest[0])
        onResult.call(command, error, ...rest)
      }
    }
    return addCommand.call(connection, command)
  }
  return () => {
    if (wasOwn) connection.addCommand = addCommand
    else delete connection.addCommand
  }
}

module.exports = { watchStatus }
