'use strict'

/** The table of the fences, of which an earlier version may have made one without columns for owners. */

const { monotonic } = require('../core/clock.js')
const { Fence } = require('./fence.js')

/** @import { Lease } from '../core/token.js' */
/** @import { Dialect } from './dialects/dialect.js' */

/**
 * After a statement with an owner failed for a missing column, so long none is sent: in PostgreSQL each would
 * be an error in the server's log. Another process may migrate the table meanwhile.
 */
const RECHECK_MS = 300_000

class FenceTable {
  #dialect
  #now
  /** Until when owners are not compared, because the table has no columns for them. */
  #withoutOwnersUntil = -Infinity

  /**
   * @param {Dialect} dialect
   * @param {() => number} [now] in milliseconds
   */
  constructor(dialect, now = monotonic) {
    this.#dialect = dialect
    this.#now = now
  }

  /**
   * The fence of a lock, with its owner if the table has columns for it, as far as is known.
   * @param {Lease} lease
   */
  fence(lease) {
    const hasOwners = this.#now() >= this.#withoutOwnersUntil
    return new Fence(hasOwners ? lease : { ...lease, owner: undefined }, this.#dialect)
  }

  /**
   * Whether a fence failed only because the table has no columns for owners. Then the next one of the same
   * lock is without an owner.
   * @param {InstanceType<typeof Fence>} fence
   * @param {unknown} error
   */
  lacksOwners(fence, error) {
    if (!fence.hasOwner || !this.#dialect.isMissingColumn(error)) return false
    this.#withoutOwnersUntil = this.#now() + RECHECK_MS
    return true
  }

  /** The table was migrated. */
  migrated() {
    this.#withoutOwnersUntil = -Infinity
  }
}

module.exports = { FenceTable }
