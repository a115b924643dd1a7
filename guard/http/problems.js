'use strict'

/** What a refused request is answered: problem details for HTTP (RFC 9457). */

const { StaleTokenError } = require('../../lib/errors.js')
const { stale } = require('../core/token.js')

const MEDIA_TYPE = 'application/problem+json'
const STALE = 'urn:fencelock:stale-token'
const MALFORMED = 'urn:fencelock:malformed-fencing'

/** Never from a cache: the next token may pass. */
const headers = Object.freeze({ 'Content-Type': MEDIA_TYPE, 'Cache-Control': 'no-store' })

function problem(status, type, title, detail, more) {
  return { status, headers, body: JSON.stringify({ type, title, status, detail, ...more }) }
}

/** 400: the headers are missing, or hold no token and resource. */
function malformed(detail) {
  return problem(400, MALFORMED, 'Bad fencing headers', detail)
}

/** The answer to a {@link StaleTokenError}, 409; null for any other error, which is the server's own affair. */
function problemOf(error) {
  if (!(error instanceof StaleTokenError)) return null
  const { resource, token, current } = error
  const detail = `the data has seen token ${current}: somebody else got the lock after token ${token}; nothing was done`
  return problem(409, STALE, 'Stale fencing token', detail, {
    resource,
    token: String(token),
    current: String(current),
  })
}

function isStaleResponse({ status, headers: given }) {
  return status === 409 && given.get('content-type')?.startsWith(MEDIA_TYPE) === true
}

/** The error that the other side had; undefined if that is another problem. */
function staleOf(body, lease) {
  const isOurs = body?.type === STALE && /^\d{1,19}$/.test(body.current)
  if (!isOurs) return undefined
  const name = lease.names.includes(body.resource) ? body.resource : lease.names[0]
  return stale(lease, name, BigInt(body.current))
}

module.exports = { isStaleResponse, malformed, problemOf, staleOf }
