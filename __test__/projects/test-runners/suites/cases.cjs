'use strict'

/** What the tests of all runners check: how the job takes a lock that is free, held, lost, slow, unknown. */

const assert = require('node:assert/strict')
const { LockManager } = require('fencelock')
const { delay, expire, fail, hold, lose } = require('fencelock/testing')
const { importOnce, importSoon } = require('./import-job.cjs')

const cases = {
  async 'runs when the lock is free'(locks) {
    const rows = []
    assert.equal(await importOnce(locks, (row) => rows.push(row)), 'done')
    assert.deepEqual(rows, [0, 1, 2])
    assert.equal(await locks.inspect('import'), null)
  },

  async 'is skipped while another owner holds the lock'(locks) {
    const other = await hold(locks, 'import')
    assert.equal(await importOnce(locks, () => assert.fail('it runs')), 'skipped')
    await other.release()
    assert.equal(await importOnce(locks, () => {}), 'done')
  },

  async 'stops when the lock is lost'(locks) {
    let held
    let rows = 0
    const acquire = locks.withLock
    // The job keeps its lock to itself; the test takes it on its way.
    locks.withLock = (name, options, routine) =>
      acquire.call(locks, name, options, (lock) => {
        held = lock
        return routine(lock)
      })
    const outcome = await importOnce(locks, async () => {
      if (++rows === 2) assert.equal(await lose(held, 'a failover'), true)
    })
    assert.deepEqual([outcome, rows], ['stopped', 2])
    assert.match(held.signal.reason.message, /a failover/)
  },

  async 'stops when the lease runs out'(locks) {
    let rows = 0
    const outcome = await importOnce(locks, async () => {
      if (++rows === 1) assert.equal(await expire(locks, 'import'), true)
    })
    assert.deepEqual([outcome, rows], ['stopped', 1])
  },

  async 'gives up on a slow lock'(locks) {
    const slow = delay(locks, 60_000)
    assert.equal(await importSoon(locks, 5), 'TimeoutError')
    slow.stop()
    assert.equal(await importSoon(locks, 5_000), 'done')
  },

  async 'is tried again when it is unknown whether it has the lock'(locks) {
    fail(locks, 'import', 'OUTCOME_UNKNOWN')
    assert.equal(await importOnce(locks, () => assert.fail('it runs')), 'retry')
    assert.equal(await importOnce(locks, () => {}), 'done')
    fail(locks, 'import', new Error('a bug'))
    await assert.rejects(
      importOnce(locks, () => {}),
      { message: 'a bug' },
    )
  },
}

/** How long each test took, in milliseconds. */
const durations = []

/** 100 tests, each with a manager of its own, as `[name, test]`. */
const tests = Array.from({ length: 100 }, (_, index) => {
  const [name, check] = Object.entries(cases)[index % Object.keys(cases).length]
  const test = async () => {
    const began = performance.now()
    const locks = new LockManager({ local: ':memory:' })
    await check(locks)
    await locks.close()
    durations.push(performance.now() - began)
  }
  return [`${name} (${index})`, test]
})

/** Prints what the spec of this project reads. */
function report(runner) {
  console.log(`durations of ${runner}: ${JSON.stringify(durations)}`)
}

/** With fake timers: `advance` lets them believe that a minute has passed. */
async function underFakeTimers(advance) {
  const locks = new LockManager({ local: ':memory:' })
  const lock = await locks.acquire('import', { ttlMs: 10_000 })
  await advance()
  assert.equal(lock.held, true)
  await expire(locks, 'import')
  assert.deepEqual([lock.held, lock.signal.aborted], [false, true])
  await locks.close()
}

module.exports = { report, tests, underFakeTimers }
