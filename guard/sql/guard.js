'use strict'

/**
 * The guard of all asynchronous clients. What differs is in dialects/ (the SQL) and adapters/ (the clients).
 */

const { identify, throughProxies } = require('../../lib/identity.js')
const { resourceName } = require('../../lib/options/names.js')
const { wrongType } = require('../../lib/options/validate.js')
const { assertRoom, inTurn, withFences } = require('../core/reentrancy.js')
const { assertHeld, assertNotAborted, readLock } = require('../core/token.js')
const { missingColumns } = require('./dialects/rows.js')
const { FenceTable } = require('./fence-table.js')
const { notMigrated } = require('./fence.js')
const { retry } = require('./retry.js')

/** @import * as Public from '../index.js' */
/** @import { FencedLock } from '../fenced-lock.js' */
/** @import { Lease } from '../core/token.js' */
/** @import { Dialect } from './dialects/dialect.js' */
/** @import { Fence } from './fence.js' */

/** How far a transaction is. It may be repeated only before the callback. */
const Phase = /** @type {const} */ ({ FENCE: 0, CALLBACK: 1, COMMIT: 2 })

/**
 * @typedef {object} Progress
 * @property {(typeof Phase)[keyof typeof Phase]} phase
 */

/**
 * @template Tx
 * @implements {Public.SqlGuard<Tx>}
 */
class SqlGuard {
  #adapter
  #client
  #dialect
  #table
  #abortOnLoss
  #isolation

  /**
   * @param {Public.SqlAdapter<Tx>} adapter
   * @param {Dialect} dialect
   * @param {{ client: unknown, abortOnLoss: boolean, isolation: Public.IsolationLevel | undefined }} options
   */
  constructor(adapter, dialect, { client, abortOnLoss, isolation }) {
    identify(this, 'a guard cannot be cloned')
    this.#adapter = adapter
    /** Guards of the same client refuse to run inside each other. */
    this.#client = client ?? adapter
    this.#dialect = dialect
    this.#table = new FenceTable(dialect)
    this.#abortOnLoss = abortOnLoss
    this.#isolation = isolation
  }

  /**
   * @template T
   * @param {FencedLock} lock
   * @param {(tx: Tx) => T | PromiseLike<T>} fn
   */
  async run(lock, fn) {
    const lease = readLock(lock)
    if (typeof fn !== 'function') throw wrongType('the second argument of run', 'a function', fn)
    return this.#fenced(lease, fn)
  }

  /** @param {FencedLock} lock */
  async advance(lock) {
    await this.#fenced(readLock(lock), () => undefined)
  }

  /** @param {string} resource */
  async highWater(resource) {
    const name = resourceName(resource)
    const text = this.#dialect.read([Buffer.from(name)])
    const answer = await this.#inTurn(() => this.#plain([text])).catch((/** @type {unknown} */ error) => {
      if (!this.#dialect.isMissingTable(error)) throw error
      throw notMigrated(this.#dialect, error, { names: [name], strategy: undefined })
    })
    if (typeof answer !== 'object' || answer === null) {
      throw new TypeError('the adapter does not return the database’s answer as SqlAdapter documents it')
    }
    const { rows = [] } = answer
    return rows.length === 0 ? null : BigInt(rows[0].token)
  }

  ddl() {
    return this.#dialect.ddl
  }

  async migrate() {
    await this.#inTurn(() =>
      // When two processes create the same table, the slower one fails. It finds the table when it retries.
      retry(
        () => this.#migrate(),
        (error) => this.#dialect.isConflict(error) || this.#dialect.isConcurrentCreate(error),
      ),
    )
    this.#table.migrated()
  }

  async #migrate() {
    const { creation, columns, addColumn } = this.#dialect
    await this.#plain(creation)
    // Not by IF NOT EXISTS: an ALTER that changes nothing would wait for all transactions on the table, too.
    const missing = missingColumns(await this.#plain([columns]))
    if (missing.length > 0) await this.#plain(missing.map((name) => addColumn(name)))
  }

  /**
   * Runs statements without a fence. Resolves with the answer to the last one.
   * @param {readonly string[]} texts
   */
  #plain(texts) {
    return this.#adapter.transaction(async (tx) => {
      /** @type {Public.SqlAnswer | undefined} */
      let answer
      for (const text of texts) answer = await this.#adapter.query(tx, text)
      return answer
    }, {})
  }

  /**
   * @template T
   * @param {() => Promise<T>} work
   */
  async #inTurn(work) {
    const { connection, maxConnections } = this.#adapter
    if (maxConnections !== undefined) assertRoom(this.#client, maxConnections)
    return connection === undefined ? work() : inTurn(connection, work)
  }

  /**
   * @template T
   * @param {Lease} lease
   * @param {(tx: Tx) => T | PromiseLike<T>} fn
   */
  #fenced(lease, fn) {
    // Before the queue, too: a lock that was lost has nothing to wait for.
    assertHeld(lease)
    /** @type {Progress} */
    const progress = { phase: Phase.FENCE }
    /** @param {unknown} error */
    const isTransient = (error) => progress.phase === Phase.FENCE && this.#dialect.isConflict(error)
    const attempt = async () => {
      const fence = this.#table.fence(lease)
      try {
        return await this.#attempt(lease, fence, fn, progress)
      } catch (error) {
        if (progress.phase !== Phase.FENCE || !this.#table.lacksOwners(fence, error)) throw error
        return this.#attempt(lease, this.#table.fence(lease), fn, progress)
      }
    }
    const work = () => retry(attempt, isTransient)
    return this.#inTurn(() => withFences(this.#client, this.#dialect.ddl, lease.names, work))
  }

  /**
   * @template T
   * @param {Lease} lease
   * @param {InstanceType<typeof Fence>} fence
   * @param {(tx: Tx) => T | PromiseLike<T>} fn
   * @param {Progress} progress
   * @returns {Promise<T>}
   */
  async #attempt(lease, fence, fn, progress) {
    assertHeld(lease)
    const { statement, question } = fence
    // One insert id cannot carry several tokens. An adapter that sends several statements at once sends this
    // one, too.
    const more = lease.names.length > 1 ? question : undefined
    try {
      return await this.#adapter.transaction(
        async (tx, early) => {
          const answer = early ?? (await this.#adapter.query(tx, statement))
          if (!fence.passed(answer)) fence.assertPassed(await this.#adapter.query(tx, question))
          progress.phase = Phase.CALLBACK
          const value = await fn(tx)
          if (this.#abortOnLoss) assertNotAborted(lease)
          progress.phase = Phase.COMMIT
          return value
        },
        { fence: statement, question: more, isolation: this.#isolation },
      )
    } catch (error) {
      if (progress.phase === Phase.FENCE) throw fence.unpassed(error)
      throw fence.failure(error, progress.phase === Phase.COMMIT)
    }
  }
}

throughProxies(SqlGuard)

module.exports = { SqlGuard }
