'use strict'

/** The service's side of fencing over HTTP: checks the token of a request before its handler runs. */

const { string, wrongType } = require('../../lib/options/validate.js')
const { invalid } = require('../../lib/errors.js')
const { known } = require('../core/options.js')
const { RESOURCE, TOKEN, readFencing } = require('./headers.js')
const { malformed, problemOf } = require('./problems.js')

/** One header, from what any server calls headers. */
function headerOf(headers, name) {
  if (typeof headers?.get === 'function') return headers.get(name) ?? undefined
  const value = headers[name.toLowerCase()]
  // Node joins what was sent twice; others make an array of it.
  return Array.isArray(value) ? value.join(', ') : value
}

class HttpFence {
  #guard
  #resource

  constructor(guard, resource) {
    this.#guard = guard
    this.#resource = resource
    // So that they can be passed on by themselves.
    for (const name of ['node', 'fastify', 'hono']) this[name] = this[name].bind(this)
  }

  async check(headers, request) {
    const read = readFencing(headerOf(headers, TOKEN), headerOf(headers, RESOURCE))
    if (read.fault !== undefined) return { passed: false, ...malformed(read.fault) }
    const fencing = Object.freeze({
      resource: read.resources[0],
      resources: Object.freeze(read.resources),
      token: read.token,
    })
    const foreign = this.#missing(fencing.resources, request)
    if (foreign !== undefined) {
      return {
        passed: false,
        ...malformed(
          `this request needs a token for ${JSON.stringify(foreign)}, which is not in ${RESOURCE}`,
        ),
      }
    }
    try {
      await this.#guard.advance(fencing)
      return { passed: true, fencing }
    } catch (error) {
      const problem = problemOf(error)
      if (problem === null) throw error
      return { passed: false, ...problem }
    }
  }

  /** A resource that the handler is about, and the token is not. */
  #missing(resources, request) {
    if (this.#resource === undefined) return undefined
    const wanted = [this.#resource(request)].flat()
    // What it is about must be known, or anybody's token would do.
    if (wanted.length === 0)
      throw invalid(TypeError, 'the option resource of httpFence answered an empty array')
    for (const name of wanted) string('what the option resource of httpFence answers', name)
    return wanted.find((name) => !resources.includes(name))
  }

  problem(error) {
    return problemOf(error)
  }

  /** Node's http, Connect, Express. */
  node(request, response, next) {
    void this.#answer(request, response, next)
  }

  async #answer(request, response, next) {
    let result
    try {
      result = await this.check(request.headers, request)
    } catch (error) {
      return next(error)
    }
    // Outside of the block above: what `next` throws is no failure of the check.
    if (result.passed) {
      request.fencing = result.fencing
      return next()
    }
    // Another handler was sooner, for example one for time-outs.
    if (response.headersSent) return undefined
    response.writeHead(result.status, result.headers)
    return response.end(result.body)
  }

  async fastify(request, reply) {
    const result = await this.check(request.headers, request)
    if (!result.passed) return reply.code(result.status).headers(result.headers).send(result.body)
    request.fencing = result.fencing
    return undefined
  }

  async hono(context, next) {
    const result = await this.check(context.req.raw.headers, context)
    if (!result.passed) return toResponse(result)
    context.set('fencing', result.fencing)
    await next()
    // Hono keeps what the handler threw. Its guard may have been overtaken since the check.
    const problem = problemOf(context.error)
    if (problem !== null) context.res = toResponse(problem)
    return undefined
  }

  fetch(handler) {
    if (typeof handler !== 'function') throw wrongType('the handler', 'a function', handler)
    return async (request, ...rest) => {
      const result = await this.check(request.headers, request)
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

function toResponse({ status, headers, body }) {
  return new Response(body, { status, headers })
}

/**
 * @param {{ advance(fencing: import('../http').Fencing): Promise<void> }} guard
 * @param {import('../http').HttpFenceOptions} [options]
 */
function httpFence(guard, options) {
  if (typeof guard?.advance !== 'function') throw wrongType('guard', 'a guard, which has advance()', guard)
  const { resource } = known('options', options, ['resource'])
  if (resource !== undefined && typeof resource !== 'function')
    throw wrongType('resource', 'a function', resource)
  return new HttpFence(guard, resource)
}

module.exports = { httpFence }
