'use strict'

/** The caller's side: sends the token of a lock with a request. */

const { assertHeld, readLock } = require('../core/token.js')
const { writeFencing } = require('./headers.js')
const { isStaleResponse, staleOf } = require('./problems.js')

/** @import { FencedLock } from '../fenced-lock.js' */

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
  const headers = new Headers(init?.headers ?? (input instanceof Request ? input.headers : undefined))
  for (const [name, value] of Object.entries(writeFencing(lease))) headers.set(name, value)
  const response = await fetch(input, { ...init, headers })
  if (isStaleResponse(response)) {
    const error = staleOf(
      await response
        .clone()
        .json()
        .catch(() => undefined),
      lease,
    )
    if (error !== undefined) {
      // An unread body keeps its connection.
      await response.body?.cancel()
      throw error
    }
  }
  return response
}

module.exports = { fencedFetch, fencingHeaders }
