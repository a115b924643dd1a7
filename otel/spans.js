'use strict'

/** The spans of calls. */

const { SpanKind, SpanStatusCode, context: active, trace } = require('@opentelemetry/api')
const { ATTRIBUTES } = require('./names.js')

/** @import { Attributes, Span, Tracer } from '@opentelemetry/api' */
/** @import * as Public from '../index.js' */

/** @typedef {Public.AcquireContext | Public.ExtendContext | Public.ReleaseContext} CallContext */

/** The spans of one instrumentation. */
class Spans {
  #tracer
  #settings

  /**
   * @param {Tracer} tracer
   * @param {{ recordResources: boolean, requireParentSpan: boolean }} settings
   */
  constructor(tracer, settings) {
    this.#tracer = tracer
    this.#settings = settings
  }

  /**
   * The span of a call that begins, in the context of its caller.
   * @param {string} name
   * @param {CallContext} call
   * @param {string | undefined} group of its resources
   */
  start(name, { strategy, resources, serverAddress, serverPort }, group) {
    const { recordResources, requireParentSpan } = this.#settings
    const parent = active.active()
    if (requireParentSpan && trace.getSpan(parent) === undefined) return undefined
    /** @type {Attributes} */
    const attributes = { [ATTRIBUTES.strategy]: strategy }
    if (group !== undefined) attributes[ATTRIBUTES.group] = group
    if (recordResources) attributes[ATTRIBUTES.resources] = [...resources]
    if (serverAddress !== undefined) attributes[ATTRIBUTES.address] = serverAddress
    if (serverPort !== undefined) attributes[ATTRIBUTES.port] = serverPort
    const kind = strategy === 'local' ? SpanKind.INTERNAL : SpanKind.CLIENT
    return this.#tracer.startSpan(name, { kind, attributes }, parent)
  }

  /**
   * Ends the span of a call that has ended.
   * @param {Span | undefined} span
   * @param {CallContext} call
   */
  end(span, call) {
    if (span === undefined) return
    if (span.isRecording()) describe(span, call)
    span.end()
  }
}

/**
 * @param {Span} span
 * @param {CallContext} call
 */
function describe(span, call) {
  span.setAttribute(ATTRIBUTES.outcome, call.outcome ?? '')
  if (call.token !== undefined) span.setAttribute(ATTRIBUTES.token, String(call.token))
  if ('waitedMs' in call) {
    if (call.waitedMs) span.setAttribute(ATTRIBUTES.waited, call.waitedMs / 1_000)
    if (call.acks) span.setAttribute(ATTRIBUTES.acks, call.acks.received)
    if (call.serverAddress !== undefined) span.setAttribute(ATTRIBUTES.address, call.serverAddress)
    if (call.serverPort !== undefined) span.setAttribute(ATTRIBUTES.port, call.serverPort)
  } else if (call.heldMs !== undefined) span.setAttribute(ATTRIBUTES.held, call.heldMs / 1_000)
  const { error } = call
  if (error === undefined) return
  const { code = 'Error', message = '' } = /** @type {{ code?: string, message?: string }} */ (error)
  span.setAttribute(ATTRIBUTES.errorType, code)
  span.setStatus({ code: SpanStatusCode.ERROR, message })
}

module.exports = { Spans }
