'use strict'

/** The fence of one call: its statement, and what the database's answer to it means. */

const { OutcomeUnknownError } = require('../../lib/errors.js')
const { nameOf, stale } = require('../core/token.js')
const { TransactionEnded } = require('../core/transaction-ended.js')

class Fence {
  #lease
  #dialect
  #keys

  /**
   * @param {ReturnType<import('../core/token').readLock>} lease
   * @param {import('./dialects/postgres').Dialect} dialect
   */
  constructor(lease, dialect) {
    this.#lease = lease
    this.#dialect = dialect
    // Everybody advances several fences in the same order, so that no two wait for each other.
    this.#keys = lease.names.map((name) => Buffer.from(name)).toSorted((a, b) => a.compare(b))
    /** Raises every stored token to ours, and lowers none. */
    this.statement = dialect.fence(this.#keys, lease.token)
    /** What has to be asked when the answer to the statement does not tell the tokens; undefined when it does. */
    this.question = dialect.select(this.#keys)
  }

  /** Whether all fences stand at our token now; undefined when that has to be asked. Throws when one is higher. */
  passed(answer) {
    const stored = this.#dialect.tokens(answer, this.#keys)
    if (stored === undefined) return undefined
    for (const name of this.#lease.names) this.#judge(name, stored.get(Buffer.from(name).toString('hex')))
    return true
  }

  /** The same for an answer that must tell. */
  assertPassed(answer) {
    if (!this.passed(answer)) this.#judge(this.#lease.names[0], undefined)
  }

  #judge(name, current) {
    const { token } = this.#lease
    if (current === token) return
    if (current > token) throw stale(this.#lease, name, current)
    throw new Error(
      `the fence of ${JSON.stringify(name)} did not advance to ${token}: the database answered ${current ?? 'nothing'}; nothing was ` +
        'written: the adapter does not pass the answer on as SqlAdapter documents it, or the table is not the guard’s',
    )
  }

  /**
   * What to throw for a transaction that failed. If the database itself refuses the COMMIT, nothing was committed; any other
   * error at COMMIT leaves the outcome unknown.
   */
  failure(error, isCommitting) {
    const isUnknown = error instanceof TransactionEnded || (isCommitting && !this.#dialect.isRefusal(error))
    return isUnknown ? this.#outcomeUnknown(error) : error
  }

  #outcomeUnknown(cause) {
    const { names, token, lock } = this.#lease
    const message =
      cause instanceof TransactionEnded
        ? `the transaction under the lock on ${nameOf(names)} had ended before its callback did: a statement committed it or ` +
          'rolled it back (COMMIT, ROLLBACK; in MySQL also a CREATE or ALTER, and a dead-lock whose error was caught); what the ' +
          'callback did after that was not fenced: leave all of these out of the callback, and do not catch errors of ' +
          'statements; to see what stands, advance again under the same lock (guard.advance(lock)), then read'
        : `COMMIT got no clear answer, under the lock on ${nameOf(names)}: what was written may stand or not, and so may the ` +
          'fence; advance again under the same lock (guard.advance(lock)), then read: behind the fence of its token ' +
          `${token} no earlier holder can change it any more`
    return new OutcomeUnknownError(message, {
      code: 'OUTCOME_UNKNOWN',
      resource: names[0],
      strategy: lock.strategy,
      cause,
    })
  }
}

module.exports = { Fence }
