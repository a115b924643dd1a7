'use strict'

/** The fence of one call: its statement, and how the database's answer is judged. */

const { OutcomeUnknownError, UnsupportedError } = require('../../lib/errors.js')
const { toInteger } = require('../core/owner.js')
const { nameOf, stale } = require('../core/token.js')
const { TransactionEnded } = require('../core/transaction-ended.js')

/** @import { SqlAnswer } from '../index.js' */
/** @import { Lease } from '../core/token.js' */
/** @import { Dialect, Stored } from './dialects/dialect.js' */

class Fence {
  #lease
  #dialect
  #keys
  #owner

  /**
   * @param {Lease} lease
   * @param {Dialect} dialect
   */
  constructor(lease, dialect) {
    this.#lease = lease
    this.#dialect = dialect
    // All guards lock several fences in the same order, so that no two wait for each other.
    this.#keys = lease.names.map((name) => Buffer.from(name)).toSorted((a, b) => a.compare(b))
    this.#owner = lease.owner === undefined ? undefined : toInteger(lease.owner)
    /** Raises every stored token to that of the lock, and lowers none. */
    this.statement = dialect.fence(this.#keys, lease.token, this.#owner)
    /** Reads what is stored, if the answer to the statement does not contain it. */
    this.question = dialect.select(this.#keys, this.hasOwner)
  }

  /** Whether the owner is compared, and stored beside the token. */
  get hasOwner() {
    return this.#owner !== undefined
  }

  /**
   * Whether all fences are at the lock's token; false if the answer does not say. Throws if one is higher, or
   * another owner's.
   * @param {SqlAnswer | undefined} answer
   */
  passed(answer) {
    const stored = this.#dialect.stored(answer, this.#keys)
    if (stored === undefined) return false
    for (const name of this.#lease.names) this.#judge(name, stored.get(Buffer.from(name).toString('hex')))
    return true
  }

  /**
   * The same for an answer that must contain the tokens.
   * @param {SqlAnswer | undefined} answer
   */
  assertPassed(answer) {
    if (!this.passed(answer)) this.#judge(this.#lease.names[0], undefined)
  }

  /**
   * @param {string | undefined} name
   * @param {Stored | undefined} stored
   */
  #judge(name, stored) {
    const { token } = this.#lease
    const current = stored?.token
    if (current === token && !this.#isAnothers(stored?.owner)) return
    if (current !== undefined && current >= token) throw stale(this.#lease, name, current)
    throw new Error(
      `the fence of ${JSON.stringify(name)} did not advance to ${token}: the database returned ` +
        `${current ?? 'nothing'}; nothing was written. Either the adapter does not return the answer as ` +
        'SqlAdapter documents it, or the table is not the guard’s',
    )
  }

  /** @param {bigint | undefined} owner of the stored token */
  #isAnothers(owner) {
    return this.#owner !== undefined && owner !== undefined && owner !== this.#owner
  }

  /**
   * What to throw for a transaction that failed before its callback was called.
   * @param {unknown} error
   */
  unpassed(error) {
    return this.#dialect.isMissingTable(error) ? notMigrated(this.#dialect, error, this.#lease) : error
  }

  /**
   * What to throw for a transaction that failed. If the database itself refuses the COMMIT, nothing was
   * committed; any other error at COMMIT leaves the outcome unknown.
   * @param {unknown} error
   * @param {boolean} isCommitting
   */
  failure(error, isCommitting) {
    const isUnknown = error instanceof TransactionEnded || (isCommitting && !this.#dialect.isRefusal(error))
    return isUnknown ? this.#outcomeUnknown(error) : error
  }

  /** @param {unknown} cause */
  #outcomeUnknown(cause) {
    const { names, token, strategy } = this.#lease
    const lock = `the lock on ${nameOf(names)}`
    const message =
      cause instanceof TransactionEnded
        ? `the transaction under ${lock} had ended before its callback did: a statement committed it or rolled ` +
          'it back (COMMIT, ROLLBACK; in MySQL also a CREATE or ALTER, and a deadlock whose error was caught). ' +
          'Later statements of the callback were not fenced: keep all of these out of the callback, and do not ' +
          'catch errors of statements. To find out what was written, advance again under the same lock ' +
          '(guard.advance(lock)), then read'
        : `COMMIT under ${lock} got no clear answer: the writes, and the fence, may or may not have been ` +
          'committed. Advance again under the same lock (guard.advance(lock)), then read: after the fence of ' +
          `its token ${token}, earlier holders can no longer change what you read`
    return new OutcomeUnknownError(message, { resource: names[0], strategy, cause })
  }
}

/**
 * @param {Pick<Dialect, 'table'>} dialect
 * @param {unknown} cause
 * @param {Pick<Lease, 'names' | 'strategy'>} lease
 */
function notMigrated({ table }, cause, { names, strategy }) {
  return new UnsupportedError(
    `the guard’s table ${table} does not exist, so nothing was written. Create it once: call guard.migrate() ` +
      'when the program starts, or run guard.ddl() in your migrations',
    { resource: names[0], strategy, cause },
  )
}

module.exports = { Fence, notMigrated }
