'use strict'

/**
 * A clock and a pause that fake timers of tests do not reach, even if they are installed before this module
 * is loaded: otherwise a guarded write would wait for a test that waits for it.
 */

const { uptime } = process

/** A monotonic clock, in milliseconds. */
function monotonic() {
  return uptime.call(process) * 1000
}

/** Memory that is never notified, to wait on with a time limit. */
const never = new Int32Array(new SharedArrayBuffer(Int32Array.BYTES_PER_ELEMENT))

/**
 * Resolves after this many milliseconds.
 * @param {number} ms
 */
async function pause(ms) {
  // The timer keeps the process alive, the wait on memory does not. That is no timer of JavaScript.
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let timer
  const timeout = new Promise((resolve) => {
    timer = setTimeout(resolve, ms)
  })
  await Promise.race([timeout, elapsed(ms)])
  clearTimeout(timer)
}

/**
 * The same, but does not keep the process alive, and no timer of JavaScript ends it early.
 * @param {number} ms
 */
async function elapsed(ms) {
  const { waitAsync } = /** @type {AsyncAtomics} */ (/** @type {unknown} */ (Atomics))
  await waitAsync(never, 0, 0, ms).value
}

/**
 * Declared here because the library of ES2022 lacks it.
 * @typedef {object} AsyncAtomics
 * @property {(cell: Int32Array, index: number, value: number, ms: number) => { value: unknown }} waitAsync
 */

module.exports = { elapsed, monotonic, pause }
