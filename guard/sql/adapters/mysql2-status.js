'use strict'

/**
 * Finds out whether a transaction of `mysql2` ended before its callback did, by reading the status that the
 * server sends with each result.
 *
 * This replaces two methods of the client while a transaction lasts, because its public API has nothing that
 * would do:
 * - a savepoint, as with the other clients, costs two round trips, because `mysql2` does not pipeline;
 * - a COMMIT without a transaction succeeds, and its own status is that after the commit;
 * - `mysql2` keeps no status, emits no event for a result, and its tracing channels do not identify the
 *   connection;
 * - a wrapper around the connection would miss statements that reach it in other ways: prepared statements,
 *   query builders, the callback API, a variable outside the callback.
 *
 * All of these end in `connection.addCommand(command)`, and `command.onResult` gets the result. Guards also
 * work with a version of `mysql2` without these methods, but do not notice there that a transaction ended
 * early.
 */

const { hasMethods, propertiesOf } = require('../../core/properties.js')
const { rollsBack } = require('../dialects/mysql.js')

/** @import { Watched } from './mysql-transaction.js' */

/** @typedef {(error: unknown, ...results: unknown[]) => void} OnResult */
/** @typedef {{ onResult?: OnResult }} Command */

const SERVER_STATUS_IN_TRANS = 1

/** The state of a transaction, from the results of its statements. */
class TransactionStatus {
  #begun = false
  /** Remains true: a transaction that the callback begins afterwards has no fence. */
  ended = false

  /**
   * @param {unknown} error
   * @param {unknown} result
   */
  observe(error, result) {
    if (rollsBack(error)) this.ended = true
    const { serverStatus } = propertiesOf(result)
    if (typeof serverStatus !== 'number') return
    // A proxy may not report the status. Then the transaction never seems to begin, and must not seem to end.
    if (serverStatus & SERVER_STATUS_IN_TRANS) this.#begun = true
    else if (this.#begun) this.ended = true
  }
}

/**
 * @param {object} tx
 * @returns {Watched}
 */
function watchStatus(tx) {
  const status = new TransactionStatus()
  const stop = observeResults(connectionOf(tx), (error, result) => status.observe(error, result))
  return { before: [], ended: () => status.ended, stop }
}

/**
 * The connection behind a wrapper that returns promises; a connection may have several of these.
 * @param {object} tx
 */
function connectionOf(tx) {
  return propertiesOf(tx).connection ?? tx
}

/**
 * Calls `observe` for each result on a connection, until the returned function is called.
 * @param {object} connection
 * @param {OnResult} observe
 * @returns {() => void}
 */
function observeResults(connection, observe) {
  // The feature test for both methods: without `onResult` below, commands pass unchanged.
  if (!hasMethods(connection, 'addCommand')) return () => {}
  const { addCommand } = connection
  // Other code may have replaced the method on this object; then that one is restored.
  const wasOwn = Object.hasOwn(connection, 'addCommand')
  connection.addCommand = (/** @type {Command} */ command) => {
    const { onResult } = command
    if (typeof onResult === 'function') {
      command.onResult = (error, ...results) => {
        observe(error, results[0])
        onResult.call(command, error, ...results)
      }
    }
    return addCommand.call(connection, command)
  }
  return () => {
    if (wasOwn) connection.addCommand = addCommand
    else Reflect.deleteProperty(connection, 'addCommand')
  }
}

module.exports = { connectionOf, watchStatus }
