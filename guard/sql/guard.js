'use strict'

/** What the guards of all SQL stores do. What differs is in dialects/ (the SQL) and adapters/ (the clients). */

const { wrongType } = require('../../lib/options/validate.js')
const { resourceName } = require('../../lib/options/names.js')
const { fencing, inTurn } = require('../core/reentrancy.js')
const { assertHeld, assertNotAborted, readLock } = require('../core/token.js')
const { Fence } = require('./fence.js')
const { retry } = require('./retry.js')

/** How far a transaction is. Only before the callback may it be done again. */
const Phase = { FENCE: 0, CALLBACK: 1, COMMIT: 2 }

class SqlGuard {
  #adapter
  #client
  #dialect
  #abortOnLoss
  #isolation

  /**
   * @param {import('../index').SqlAdapter<unknown>} adapter
   * @param {import('./dialects/postgres').Dialect} dialect
   */
  constructor(adapter, dialect, { client, abortOnLoss, isolation }) {
    this.#adapter = adapter
    this.#client = client ?? adapter
    this.#dialect = dialect
    this.#abortOnLoss = abortOnLoss
    this.#isolation = isolation
  }

  async run(lock, fn) {
    const lease = readLock(lock)
    if (typeof fn !== 'function') throw wrongType('the second argument of run', 'a function', fn)
    return this.#fenced(lease, fn)
  }

  async advance(lock) {
    await this.#fenced(readLock(lock), () => undefined)
  }

  async highWater(resource) {
    const text = this.#dialect.read([Buffer.from(resourceName(resource))])
    const answer = await this.#turn(() => this.#plain([text]))
    if (typeof answer !== 'object' || answer === null) {
      throw new TypeError('the adapter does not pass the database’s answer on as SqlAdapter documents it')
    }
    const { rows = [] } = answer
    return rows.length === 0 ? null : BigInt(rows[0].token)
  }

  ddl() {
    return this.#dialect.ddl
  }

  async migrate() {
    await this.#turn(() =>
      // Two processes create the same table at once: the one that comes too late finds it the next time.
      retry(
        () => this.#plain(this.#dialect.migration),
        (error) => this.#dialect.isConflict(error) || this.#dialect.isConcurrentCreate(error),
      ),
    )
  }

  /** Statements without a fence; the answer to the last one. */
  #plain(texts) {
    return this.#adapter.transaction(async (tx) => {
      let answer
      for (const text of texts) answer = await this.#adapter.query(tx, text)
      return answer
    }, {})
  }

  #turn(work) {
    const { connection } = this.#adapter
    return connection === undefined ? work() : inTurn(connection, work)
  }

  #fenced(lease, fn) {
    // Before it waits for its turn, too: for a lock that is gone there is nothing to wait for.
    assertHeld(lease)
    const fence = new Fence(lease, this.#dialect)
    const progress = { phase: Phase.FENCE }
    const isTransient = (error) => progress.phase === Phase.FENCE && this.#dialect.isConflict(error)
    const work = () => retry(() => this.#once(lease, fence, fn, progress), isTransient)
    return this.#turn(() => fencing(this.#client, this.#dialect.ddl, lease.names, work))
  }

  async #once(lease, fence, fn, progress) {
    assertHeld(lease)
    const { statement, question } = fence
    // One insert id cannot tell of several tokens: a client that sends several statements at once sends this one, too.
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
      throw fence.failure(error, progress.phase === Phase.COMMIT)
    }
  }
}

module.exports = { SqlGuard }
