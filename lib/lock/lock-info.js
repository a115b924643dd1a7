'use strict'

/** What `inspect()` and `list()` find. */

/** @import * as Native from '../../binding.js' */
/** @import * as Public from '../../index.js' */

/**
 * A lease and its holder. `toJSON` belongs to the class: JSON.stringify of Bun 1.2 does not see one that is a
 * hidden property of a plain object.
 * @implements {Public.LockInfo}
 */
class LockInfo {
  /**
   * @param {Omit<Public.LockInfo, 'token' | 'toJSON'>} fields
   * @param {bigint} token
   */
  constructor({ resource, strategy, owner, remainingMs, waiters, holder }, token) {
    this.resource = resource
    this.strategy = strategy
    this.owner = owner
    this.remainingMs = remainingMs
    this.waiters = waiters
    this.holder = holder
    this.token = token
    // Loggers, test runners and JSON.stringify fail on a bigint in a copy.
    Object.defineProperty(this, 'token', { enumerable: false, writable: false })
  }

  /**
   * As the addon describes it.
   * @param {Public.Strategy} strategy
   * @param {Native.Info} found
   */
  static of(strategy, { resource, owner, token, remainingMs, waiters, holder }) {
    const who = holder && {
      name: holder.name,
      host: holder.host,
      pid: holder.pid,
      since: new Date(holder.sinceMs),
    }
    const fields = { resource, strategy, owner, remainingMs, waiters, holder: who ?? null }
    return new LockInfo(fields, BigInt(token))
  }

  toJSON() {
    return Object.assign({}, this, { token: String(this.token) })
  }

  /**
   * @param {number} _depth
   * @param {import('node:util').InspectOptions} options
   * @param {typeof import('node:util').inspect} inspect
   */
  [Symbol.for('nodejs.util.inspect.custom')](_depth, options, inspect) {
    return inspect(Object.assign({}, this, { token: this.token }), options)
  }
}

module.exports = { LockInfo }
