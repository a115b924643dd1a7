'use strict'

/** The client's side of fencing over HTTP: sends the token of a lock with a request. */

const { assertHeld, readLock } = require('../core/token.js')
const { writeFencing } = require('./headers.js')
const { isStaleResponse, staleOf } = require('./problems.js')

/** @param {import('../fenced-lock').FencedLock} lock */
function fencingHeaders(lock) {
  return writeFencing(readLock(lock))
}

async function fencedFetch(lock, input, init) {
  const lease = readLock(lock)
  assertHeld(lease)
  // As fetch does it: headers of `init` replace those of a Request.
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
      // Nobody will read it, and an unread body keeps its connection.
      await response.body?.cancel()
      throw error
    }
  }
  return response
}

module.exports = { fencedFetch, fencingHeaders }
