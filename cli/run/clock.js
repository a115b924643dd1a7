'use strict'

/**
 * Milliseconds, on a clock that never goes back. Node.js loads modules for `performance.now()`, which takes
 * longer than most of what `run` does.
 */
function now() {
  const [seconds, nanoseconds] = process.hrtime()
  return seconds * 1_000 + nanoseconds / 1_000_000
}

module.exports = { now }
