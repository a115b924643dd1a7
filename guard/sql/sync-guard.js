'use strict'

/**
 * The guard of SQLite's synchronous drivers. The whole transaction is one synchronous call: with an `await` in it,
 * statements of others on the same connection would become part of it, and be committed or rolled back with it.
 */

const { types } = require('node:util')

const { wrongType } = require('../../lib/options/validate.js')
const { invalid } = require('../../lib/errors.js')
const { resourceName } = require('../../lib/options/names.js')
const { assertHeld, assertNotAborted, readLock } = require('../core/token.js')
const { Fence } = require('./fence.js')
const { retry } = require('./retry.js')

function asynchronous() {
  return invalid(
    TypeError,
    'the callback of run must be synchronous with this SQLite client: whatever else uses the connection while it waits would ' +
      'become part of the transaction; nothing was written by the transaction: read and compute before run, after advance',
  )
}

/** A try waits for the client's busy timeout, and the event loop with it: then they must not be many. */
const PATIENCE_MS = 2_000

class SyncSqliteGuard {
  #adapter
  #dialect
  #abortOnLoss

  /**
   * @param {import('./adapters/sqlite').SyncAdapter} adapter
   * @param {import('./dialects/postgres').Dialect} dialect
   */
  constructor(adapter, dialect, { abortOnLoss }) {
    this.#adapter = adapter
    this.#dialect = dialect
    this.#abortOnLoss = abortOnLoss
  }

  async run(lock, fn) {
    const progress = { begun: false }
    return retry(
      () => this.#once(lock, fn, progress),
      (error) => !progress.begun && this.#dialect.isConflict(error),
      PATIENCE_MS,
    )
  }

  runSync(lock, fn) {
    return this.#once(lock, fn, { begun: false })
  }

  async advance(lock) {
    await this.run(lock, () => undefined)
  }

  advanceSync(lock) {
    this.runSync(lock, () => undefined)
  }

  async highWater(resource) {
    return this.highWaterSync(resource)
  }

  highWaterSync(resource) {
    const text = this.#dialect.read([Buffer.from(resourceName(resource))])
    const { rows } = this.#adapter.query(text)
    return rows.length === 0 ? null : BigInt(rows[0].token)
  }

  ddl() {
    return this.#dialect.ddl
  }

  async migrate() {
    await retry(() => this.migrateSync(), this.#dialect.isConflict, PATIENCE_MS)
  }

  migrateSync() {
    this.#adapter.exec(this.#dialect.ddl)
  }

  #once(lock, fn, progress) {
    const lease = readLock(lock)
    if (typeof fn !== 'function') throw wrongType('the second argument of run', 'a function', fn)
    // Before it runs: what it does after its first await could not be undone.
    if (types.isAsyncFunction(fn)) throw asynchronous()
    assertHeld(lease)
    const fence = new Fence(lease, this.#dialect)
    try {
      return this.#adapter.transaction((tx) => {
        fence.assertPassed(this.#adapter.query(fence.statement))
        progress.begun = true
        const value = fn(tx)
        if (typeof value?.then === 'function') {
          // Its end is nobody's to wait for; its error must not end the process.
          Promise.resolve(value).catch(() => {})
          throw asynchronous()
        }
        if (this.#abortOnLoss) assertNotAborted(lease)
        progress.committing = true
        return value
      })
    } catch (error) {
      throw fence.failure(error, progress.committing === true)
    }
  }
}

module.exports = { SyncSqliteGuard }
