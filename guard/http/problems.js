'use strict'

/** The response to a refused request: problem details for HTTP (RFC 9457). */

const { StaleTokenError } = require('../../lib/errors.js')
const { propertiesOf } = require('../core/properties.js')
const { stale } = require('../core/token.js')

/** @import { StaleTokenError as PublicStaleTokenError } from '../../index.js' */
/** @import { FencingProblem } from '../http.js' */
/** @import { Lease } from '../core/token.js' */

const MEDIA_TYPE = 'application/problem+json'
const STALE = 'urn:fencelock:stale-token'
const MALFORMED = 'urn:fencelock:malformed-fencing'

/** Not to be cached: the next token may pass. */
const headers = Object.freeze({ 'Content-Type': MEDIA_TYPE, 'Cache-Control': 'no-store' })

/**
 * @param {FencingProblem['status']} status
 * @param {string} type
 * @param {string} title
 * @param {string} detail
 * @param {object} [more]
 * @returns {FencingProblem}
 */
function problem(status, type, title, detail, more) {
  return { status, headers, body: JSON.stringify({ type, title, status, detail, ...more }) }
}

/**
 * 400: the headers are missing, or hold no token and resource.
 * @param {string} detail
 */
function malformed(detail) {
  return problem(400, MALFORMED, 'Bad fencing headers', detail)
}

/**
 * The response to a {@link StaleTokenError}, 409; null for any other error, which the server has to handle.
 * @param {unknown} error
 */
function problemOf(error) {
  if (!(error instanceof StaleTokenError)) return null
  const { resource, token, current } = /** @type {PublicStaleTokenError} */ (error)
  const whose =
    current === token
      ? ' from another owner of the lock'
      : `: another owner got the lock after token ${token}`
  const detail = `the data has seen token ${current}${whose}; nothing was done`
  return problem(409, STALE, 'Stale fencing token', detail, {
    resource,
    token: String(token),
    current: String(current),
  })
}

/** @param {Response} response */
function isStaleResponse({ status, headers: given }) {
  return status === 409 && given.get('content-type')?.startsWith(MEDIA_TYPE) === true
}

/**
 * The error of the service; undefined if this is another problem.
 * @param {unknown} body
 * @param {Lease} lease
 */
function staleOf(body, lease) {
  const { type, resource, current } = propertiesOf(body)
  const token = String(current)
  if (type !== STALE || !/^\d{1,19}$/.test(token)) return undefined
  const name = lease.names.find((each) => each === resource) ?? lease.names[0]
  return stale(lease, name, BigInt(token))
}

module.exports = { isStaleResponse, malformed, problemOf, staleOf }
