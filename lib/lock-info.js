'use strict'

/** What `inspect()` finds. */

/** @import * as Public from '../index.js' */

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
  constructor({ resource, strategy, owner, remainingMs }, token) {
    this.resource = resource
    this.strategy = strategy
    this.owner = owner
    this.remainingMs = remainingMs
    this.token = token
    // Loggers, test runners and JSON.stringify fail on a bigint in a copy.
    Object.defineProperty(this, 'token', { enumerable: false, writable: false })
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
