'use strict'

/**
 * Time limits that fake timers of tests neither reach nor stop, even if they are installed before this module
 * is loaded: a call that never settles would hang the test.
 */

const { elapsed, monotonic } = require('./clock.js')

/** The runtime's own functions, unless tests have replaced them already. */
const { clearTimeout, setTimeout } = globalThis

/**
 * @typedef {object} Limit
 * @property {number} at by {@link monotonic}
 * @property {() => void} onOver
 */

/** @type {Set<Limit>} */
const limits = new Set()

/** When the next look at the limits is due. A wait cannot be cancelled, so all limits share one. */
let nextLook = Infinity

/** @param {number} at */
function lookAt(at) {
  if (at >= nextLook) return
  nextLook = at
  void elapsed(Math.max(at - monotonic(), 1)).then(() => {
    // An earlier look may have been added since.
    if (nextLook === at) nextLook = Infinity
    look()
  })
}

function look() {
  const now = monotonic()
  let next = Infinity
  for (const limit of limits) {
    if (limit.at <= now) {
      limits.delete(limit)
      limit.onOver()
    } else {
      next = Math.min(next, limit.at)
    }
  }
  lookAt(next)
}

/**
 * Calls `onOver` after this many milliseconds, and keeps the process alive until then.
 * @param {number} ms
 * @param {() => void} onOver must not throw
 * @returns {() => void} ends that
 */
function limitTime(ms, onOver) {
  const limit = { at: monotonic() + ms, onOver }
  limits.add(limit)
  lookAt(limit.at)
  // The wait on memory does not keep the process alive. This timer need not fire.
  const alive = setTimeout(() => {}, ms + 1_000)
  return () => {
    limits.delete(limit)
    clearTimeout(alive)
  }
}

module.exports = { limitTime }
