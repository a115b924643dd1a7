'use strict'

/** A program's own code: a job of which one runs at a time. Its tests are next to it, one for each runner. */

const { LockHeldError, LockLostError, OutcomeUnknownError } = require('fencelock')

/**
 * What came of the job: `done`, `skipped` because it runs elsewhere, `stopped` because its lock was lost, or
 * `retry` because it is unknown whether it runs elsewhere.
 */
async function importOnce(locks, write) {
  try {
    return await locks.withLock('import', { waitMs: 0 }, async ({ signal, token }) => {
      for (let row = 0; row < 3; row++) {
        await write(row, token)
        signal.throwIfAborted()
      }
      return 'done'
    })
  } catch (error) {
    if (error instanceof LockHeldError) return 'skipped'
    if (error instanceof LockLostError) return 'stopped'
    if (error instanceof OutcomeUnknownError) return 'retry'
    throw error
  }
}

/** Answers in time, even if the lock takes long. */
function importSoon(locks, ms) {
  const signal = AbortSignal.timeout(ms)
  return locks.withLock('import', { signal }, () => 'done').catch((error) => error.name)
}

module.exports = { importOnce, importSoon }
