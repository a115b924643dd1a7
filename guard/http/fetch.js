'use strict'

/** The caller's side: sends the token of a lock with a request. */

const { limitTime } = require('../core/time-limit.js')
const { assertHeld, readLock } = require('../core/token.js')
const { OWNER, writeFencing } = require('./headers.js')
const { isStaleResponse, staleOf } = require('./problems.js')

/** @import { FencedLock } from '../fenced-lock.js' */

/** Far more than our problem details need; a body without an end must not be read to it. */
const MAX_PROBLEM_BYTES = 16 * 1_024

/** How long they may take after the headers. They are sent together, so that one is much shorter. */
const MAX_PROBLEM_MS = 2_000

/** @param {FencedLock} lock */
function fencingHeaders(lock) {
  return writeFencing(readLock(lock))
}

/**
 * @param {FencedLock} lock
 * @param {Parameters<typeof fetch>[0]} input
 * @param {Parameters<typeof fetch>[1]} [init]
 */
async function fencedFetch(lock, input, init) {
  const lease = readLock(lock)
  assertHeld(lease)
  // As in fetch, the headers of `init` replace those of a Request.
  const headers = new Headers(init?.headers ?? headersOf(input))
  // It would belong to another token.
  headers.delete(OWNER)
  for (const [name, value] of Object.entries(writeFencing(lease))) headers.set(name, value)
  const response = await fetch(input, { ...init, headers })
  if (isStaleResponse(response)) {
    const error = staleOf(await readProblem(response), lease)
    if (error !== undefined) {
      // An unread body keeps its connection.
      await response.body?.cancel()
      throw error
    }
  }
  return response
}

/**
 * The headers of a Request, also of one of another realm or implementation.
 * @param {Parameters<typeof fetch>[0]} input
 */
function headersOf(input) {
  return typeof input === 'object' && 'headers' in input ? input.headers : undefined
}

/**
 * The JSON in the body of a response, which stays readable; undefined if there is none, too much, or if it
 * takes too long.
 * @param {Response} response
 * @returns {Promise<unknown>}
 */
async function readProblem(response) {
  const reader = response.clone().body?.getReader()
  if (reader === undefined) return undefined
  // Not awaited: it is settled only when the response’s own body has been read or cancelled, too.
  const cancel = () => void reader.cancel().catch(() => {})
  const endLimit = limitTime(MAX_PROBLEM_MS, cancel)
  try {
    const chunks = []
    let size = 0
    for (;;) {
      const { done, value } = await reader.read()
      if (done) break
      size += value.byteLength
      if (size > MAX_PROBLEM_BYTES) {
        cancel()
        return undefined
      }
      chunks.push(value)
    }
    // After the limit it may be a part, which is no JSON.
    return /** @type {unknown} */ (JSON.parse(Buffer.concat(chunks).toString()))
  } catch {
    return undefined
  } finally {
    endLimit()
  }
}

module.exports = { fencedFetch, fencingHeaders }
