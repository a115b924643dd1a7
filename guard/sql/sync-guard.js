'use strict'

/**
 * The guard of SQLite's synchronous drivers. The whole transaction is one synchronous call: with an `await`
 * in it, statements of other code on the same connection would become part of it, and be committed or rolled
 * back with it.
 */

const { types } = require('node:util')

const { invalid } = require('../../lib/errors.js')
const { identify, throughProxies } = require('../../lib/identity.js')
const { resourceName } = require('../../lib/options/names.js')
const { wrongType } = require('../../lib/options/validate.js')
const { propertiesOf } = require('../core/properties.js')
const { assertHeld, assertNotAborted, readLock } = require('../core/token.js')
const { missingColumns } = require('./dialects/rows.js')
const { FenceTable } = require('./fence-table.js')
const { notMigrated } = require('./fence.js')
const { retry } = require('./retry.js')

/** @import * as Public from '../index.js' */
/** @import { FencedLock } from '../fenced-lock.js' */
/** @import { Lease } from '../core/token.js' */
/** @import { SyncAdapter } from './adapters/sqlite.js' */
/** @import { Dialect } from './dialects/dialect.js' */
/** @import { Fence } from './fence.js' */

/** Each attempt blocks the event loop for the client's busy timeout, so there must not be many. */
const PATIENCE_MS = 2_000

/**
 * @typedef {object} Progress
 * @property {boolean} begun whether the callback was called
 * @property {boolean} committing
 */

function asynchronous() {
  return invalid(
    TypeError,
    'the callback of run must be synchronous with this SQLite client: while it waits, statements of other ' +
      'code on the connection would become part of the transaction; nothing was written by the transaction. ' +
      'Read and compute before run, after advance',
  )
}

/**
 * @template Client
 * @implements {Public.SqliteGuard<Client>}
 */
class SyncSqliteGuard {
  #adapter
  #dialect
  #table
  #abortOnLoss

  /**
   * @param {SyncAdapter<Client>} adapter
   * @param {Dialect} dialect
   * @param {{ abortOnLoss: boolean }} options
   */
  constructor(adapter, dialect, { abortOnLoss }) {
    identify(this, 'a guard cannot be cloned')
    this.#adapter = adapter
    this.#dialect = dialect
    this.#table = new FenceTable(dialect)
    this.#abortOnLoss = abortOnLoss
  }

  /**
   * @template T
   * @param {FencedLock} lock
   * @param {(client: Client) => T} fn
   */
  async run(lock, fn) {
    const progress = { begun: false, committing: false }
    return retry(
      () => this.#attempt(lock, fn, progress),
      (error) => !progress.begun && this.#dialect.isConflict(error),
      PATIENCE_MS,
    )
  }

  /**
   * @template T
   * @param {FencedLock} lock
   * @param {(client: Client) => T} fn
   */
  runSync(lock, fn) {
    return this.#attempt(lock, fn, { begun: false, committing: false })
  }

  /** @param {FencedLock} lock */
  async advance(lock) {
    await this.run(lock, () => undefined)
  }

  /** @param {FencedLock} lock */
  advanceSync(lock) {
    this.runSync(lock, () => undefined)
  }

  /** @param {string} resource */
  async highWater(resource) {
    return this.highWaterSync(resource)
  }

  /** @param {string} resource */
  highWaterSync(resource) {
    const name = resourceName(resource)
    try {
      const [row] = this.#adapter.query(this.#dialect.read([Buffer.from(name)])).rows
      return row === undefined ? null : BigInt(row.token)
    } catch (error) {
      if (!this.#dialect.isMissingTable(error)) throw error
      throw notMigrated(this.#dialect, error, { names: [name], strategy: undefined })
    }
  }

  ddl() {
    return this.#dialect.ddl
  }

  async migrate() {
    await retry(() => this.migrateSync(), this.#dialect.isConflict, PATIENCE_MS)
  }

  migrateSync() {
    const { ddl, columns, addColumn, isConcurrentCreate } = this.#dialect
    this.#adapter.exec(ddl)
    for (const name of missingColumns(this.#adapter.query(columns))) {
      try {
        this.#adapter.exec(addColumn(name))
      } catch (error) {
        // Another process has just added it.
        if (!isConcurrentCreate(error)) throw error
      }
    }
    this.#table.migrated()
  }

  /**
   * @template T
   * @param {FencedLock} lock
   * @param {(client: Client) => T} fn
   * @param {Progress} progress
   */
  #attempt(lock, fn, progress) {
    const lease = readLock(lock)
    if (typeof fn !== 'function') throw wrongType('the second argument of run', 'a function', fn)
    // Before it runs: what it does after its first await could not be undone.
    if (types.isAsyncFunction(fn)) throw asynchronous()
    assertHeld(lease)
    const fence = this.#table.fence(lease)
    try {
      return this.#transact(lease, fence, fn, progress)
    } catch (error) {
      if (progress.begun || !this.#table.lacksOwners(fence, error)) throw error
      return this.#transact(lease, this.#table.fence(lease), fn, progress)
    }
  }

  /**
   * @template T
   * @param {Lease} lease
   * @param {InstanceType<typeof Fence>} fence
   * @param {(client: Client) => T} fn
   * @param {Progress} progress
   */
  #transact(lease, fence, fn, progress) {
    try {
      return this.#adapter.transaction((client) => {
        fence.assertPassed(this.#adapter.query(fence.statement))
        progress.begun = true
        const value = fn(client)
        if (isThenable(value)) {
          // The guard does not wait for it; its rejection must not end the process.
          Promise.resolve(value).catch(() => {})
          throw asynchronous()
        }
        if (this.#abortOnLoss) assertNotAborted(lease)
        progress.committing = true
        return value
      })
    } catch (error) {
      throw progress.begun ? fence.failure(error, progress.committing) : fence.unpassed(error)
    }
  }
}

/** @param {unknown} value */
function isThenable(value) {
  return typeof propertiesOf(value).then === 'function'
}

throughProxies(SyncSqliteGuard)

module.exports = { SyncSqliteGuard }
