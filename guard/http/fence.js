'use strict'

/** The service's side: checks the token of a request before its handler runs. */

const { invalid } = require('../../lib/errors.js')
const { identify, throughProxies } = require('../../lib/identity.js')
const {
  integerOrInfinity,
  keysOf,
  object,
  propertyOf,
  string,
  wrongType,
} = require('../../lib/options/validate.js')
const { OWNER, RESOURCE, TOKEN, readFencing } = require('./headers.js')
const { malformed, problemOf } = require('./problems.js')

/** @import * as Public from '../http.js' */

/** @type {Record<keyof Public.HttpFenceOptions, true>} */
const fenceOptions = { resource: true, maxAheadMs: true }
const KEYS = keysOf(fenceOptions)

/** @typedef {Parameters<typeof import('../http.js').httpFence>[0]} Guard */

/** What the adapters below use of requests and responses. */

/**
 * @typedef {{ headers: object, fencing?: Public.Fencing }} ServerRequest of Node, Connect, Express, Fastify
 */
/**
 * @typedef {object} NodeResponse
 * @property {boolean} headersSent
 * @property {(status: number, headers: Readonly<Record<string, string>>) => unknown} writeHead
 * @property {(body: string) => unknown} end
 */
/**
 * @typedef {object} FastifyReply
 * @property {(status: number) => FastifyReply} code
 * @property {(headers: Readonly<Record<string, string>>) => FastifyReply} headers
 * @property {(body: string) => unknown} send
 */
/**
 * @typedef {object} HonoContext
 * @property {{ raw: { headers: object } }} req
 * @property {(key: 'fencing', value: Public.Fencing) => void} set
 * @property {unknown} [error]
 * @property {Response} res
 */

/**
 * One header, from the headers of any server.
 * @param {object} headers
 * @param {string} name
 * @returns {string | undefined}
 */
function headerOf(headers, name) {
  const given = /** @type {{ get?: unknown, [name: string]: unknown }} */ (headers)
  if (typeof given?.get === 'function') return given.get(name) ?? undefined
  const value = /** @type {string | string[] | undefined} */ (propertyOf(headers, name.toLowerCase()))
  // Node joins a header that was sent twice; other servers make an array of it.
  return Array.isArray(value) ? value.join(', ') : value
}

/** @implements {Public.HttpFence} */
class HttpFence {
  #guard
  #resource
  #maxAheadMs

  /**
   * @param {Guard} guard
   * @param {Public.HttpFenceOptions['resource']} resource
   * @param {number} maxAheadMs
   */
  constructor(guard, resource, maxAheadMs) {
    identify(this, 'a fence cannot be cloned')
    this.#guard = guard
    this.#resource = resource
    this.#maxAheadMs = maxAheadMs
    // Frameworks call them without the object.
    this.node = this.node.bind(this)
    this.fastify = this.fastify.bind(this)
    this.hono = this.hono.bind(this)
  }

  /**
   * @param {object} headers
   * @param {unknown} [request]
   * @returns {Promise<Public.FencingResult>}
   */
  async check(headers, request) {
    const [given, names, owner] = [TOKEN, RESOURCE, OWNER].map((name) => headerOf(headers, name))
    const read = readFencing(given, names, owner)
    if (read.fault !== undefined) return { passed: false, ...malformed(read.fault) }
    const { token, resources, ownerHash } = read
    const [resource = ''] = resources
    const fencing = Object.freeze({
      resource,
      resources: Object.freeze(resources),
      token,
      ...(ownerHash !== undefined && { ownerHash }),
    })
    const fault = this.#fault(resources, request) ?? this.#tooHigh(token)
    if (fault !== undefined) return { passed: false, ...malformed(fault) }
    try {
      await this.#guard.advance(fencing)
      return { passed: true, fencing }
    } catch (error) {
      const problem = problemOf(error)
      if (problem === null) throw error
      return { passed: false, ...problem }
    }
  }

  /**
   * Why the token is not for what the request is about. A resource too many is one whose fence the caller
   * would raise without any right to it: with a high token, no other caller could ever write there.
   * @param {readonly string[]} resources of the token
   * @param {unknown} request
   */
  #fault(resources, request) {
    if (this.#resource === undefined) return undefined
    const wanted = [this.#resource(request)].flat()
    // Without a resource any token would pass.
    if (wanted.length === 0) {
      throw invalid(TypeError, 'the option resource of httpFence returned an empty array')
    }
    for (const name of wanted) string('what the option resource of httpFence returns', name)
    const missing = wanted.find((name) => !resources.includes(name))
    if (missing !== undefined) {
      return `this request needs a token for ${JSON.stringify(missing)}, which is not in ${RESOURCE}`
    }
    const other = resources.find((name) => !wanted.includes(name))
    if (other === undefined) return undefined
    return `this request is not about ${JSON.stringify(other)}: name in ${RESOURCE} only what it is about`
  }

  /** @param {bigint} token */
  #tooHigh(token) {
    if (Number(token) / 1_000 <= Date.now() + this.#maxAheadMs) return undefined
    return `${TOKEN} is more than ${this.#maxAheadMs} ms ahead of this service's clock`
  }

  /** @param {unknown} error */
  problem(error) {
    return problemOf(error)
  }

  /**
   * @param {ServerRequest} request
   * @param {NodeResponse} response
   * @param {(error?: unknown) => void} next
   */
  node(request, response, next) {
    void this.#respond(request, response, next)
  }

  /**
   * @param {ServerRequest} request
   * @param {NodeResponse} response
   * @param {(error?: unknown) => void} next
   */
  async #respond(request, response, next) {
    let result
    try {
      result = await this.check(request.headers, request)
    } catch (error) {
      return next(error)
    }
    // Outside the block above: what `next` throws is not a failure of the check.
    if (result.passed) {
      request.fencing = result.fencing
      return next()
    }
    // Another handler was faster, for example one for timeouts.
    if (response.headersSent) return undefined
    response.writeHead(result.status, result.headers)
    response.end(result.body)
    return undefined
  }

  /**
   * @param {ServerRequest} request
   * @param {FastifyReply} reply
   */
  async fastify(request, reply) {
    const result = await this.check(request.headers, request)
    if (!result.passed) return reply.code(result.status).headers(result.headers).send(result.body)
    request.fencing = result.fencing
    return undefined
  }

  /**
   * @param {HonoContext} context
   * @param {() => Promise<void>} next
   */
  async hono(context, next) {
    const result = await this.check(context.req.raw.headers, context)
    if (!result.passed) return toResponse(result)
    context.set('fencing', result.fencing)
    await next()
    // Hono keeps what the handler threw. A newer token may have passed since the check.
    const problem = problemOf(context.error)
    if (problem !== null) context.res = toResponse(problem)
    return undefined
  }

  /**
   * @template R
   * @template {unknown[]} A
   * @param {(request: R, fencing: Public.Fencing, ...rest: A) => Response | Promise<Response>} handler
   * @returns {(request: R, ...rest: A) => Promise<Response>}
   */
  fetch(handler) {
    if (typeof handler !== 'function') throw wrongType('the handler', 'a function', handler)
    return async (request, ...rest) => {
      const { headers } = /** @type {{ headers: object }} */ (request)
      const result = await this.check(headers, request)
      if (!result.passed) return toResponse(result)
      try {
        return await handler(request, result.fencing, ...rest)
      } catch (error) {
        const problem = problemOf(error)
        if (problem === null) throw error
        return toResponse(problem)
      }
    }
  }
}

throughProxies(HttpFence)

/** @param {Public.FencingProblem} problem */
function toResponse({ status, headers, body }) {
  return new Response(body, { status, headers })
}

/**
 * @param {Guard} guard
 * @param {Public.HttpFenceOptions} [options]
 */
function httpFence(guard, options) {
  if (typeof guard?.advance !== 'function') throw wrongType('guard', 'a guard, which has advance()', guard)
  const { resource, maxAheadMs = Infinity } = object('options', options, KEYS)
  if (resource !== undefined && typeof resource !== 'function') {
    throw wrongType('resource', 'a function', resource)
  }
  return new HttpFence(
    guard,
    /** @type {Public.HttpFenceOptions['resource']} */ (resource),
    integerOrInfinity('maxAheadMs', maxAheadMs, 0),
  )
}

module.exports = { httpFence }
