import { setTimeout as sleep } from 'node:timers/promises'

/**
 * Waits until `probe` returns something truthy, and returns that.
 *
 * @template T
 * @param {string} what for the message of the error
 * @param {() => T | Promise<T>} probe
 * @param {number} [limitMs] after which it throws
 * @returns {Promise<NonNullable<T>>}
 */
export async function eventually(what, probe, limitMs = 10_000) {
  const end = performance.now() + limitMs
  for (;;) {
    const value = await probe()
    if (value) return value
    if (performance.now() > end) throw new Error(`not within ${limitMs} ms: ${what}`)
    await sleep(10)
  }
}
