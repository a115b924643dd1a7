'use strict'

/** `fencelock/otel`: traces and metrics for OpenTelemetry, from what the diagnostics channels publish. */

const { diag, metrics: globalMetrics, trace: globalTrace } = require('@opentelemetry/api')
const dc = require('node:diagnostics_channel')
const { performance } = require('node:perf_hooks')
const { boolean, object, optional, wrongType } = require('../lib/options/validate.js')
const { version } = require('../package.json')
const { Metrics } = require('./metrics.js')
const { SPANS } = require('./names.js')
const { Spans } = require('./spans.js')

/** @import * as Public from '../index.js' */
/** @import { Span } from '@opentelemetry/api' */
/** @import { InstrumentOptions } from './index.js' */
/** @typedef {import('./spans.js').CallContext} CallContext */
/**
 * What belongs to a call that has begun.
 * @typedef {{ began: number, group: string | undefined, span: Span | undefined }} Begun
 */

const SCOPE = 'fencelock'
const KEYS = ['tracerProvider', 'meterProvider', 'resourceGroup', 'recordResources', 'requireParentSpan']

/** @param {InstrumentOptions} [options] */
function instrument(options) {
  const given = /** @type {InstrumentOptions} */ (object('options', options, KEYS))
  const { tracerProvider = globalTrace, meterProvider = globalMetrics, resourceGroup } = given
  if (resourceGroup !== undefined && typeof resourceGroup !== 'function') {
    throw wrongType('resourceGroup', 'a function', resourceGroup)
  }
  const settings = {
    recordResources: optional(boolean, 'recordResources', given.recordResources) ?? false,
    requireParentSpan: optional(boolean, 'requireParentSpan', given.requireParentSpan) ?? false,
  }
  const groupOf = grouping(resourceGroup)
  const spans = new Spans(tracerProvider.getTracer(SCOPE, version), settings)
  const metrics = new Metrics(meterProvider.getMeter(SCOPE, version), groupOf)
  const stops = subscribe(spans, metrics, groupOf)
  const stop = () => {
    for (const each of stops.splice(0)) each()
  }
  return Object.assign(stop, { [Symbol.dispose]: stop })
}

/**
 * What it throws would be an uncaught exception, which ends the process.
 * @param {InstrumentOptions['resourceGroup']} resourceGroup
 * @returns {(resources: readonly string[]) => string | undefined}
 */
function grouping(resourceGroup) {
  if (resourceGroup === undefined) return () => undefined
  return ([first = '']) => {
    try {
      return resourceGroup(first)
    } catch (error) {
      diag.error('fencelock: resourceGroup threw, so a lock has no group', error)
      return undefined
    }
  }
}

/**
 * @param {InstanceType<typeof Spans>} spans
 * @param {InstanceType<typeof Metrics>} metrics
 * @param {ReturnType<typeof grouping>} groupOf
 */
function subscribe(spans, metrics, groupOf) {
  return [
    onCalls('fencelock:acquire', spans, SPANS.acquire, groupOf, (call, { began, group }) =>
      metrics.acquired(/** @type {Public.AcquireContext} */ (call), group, performance.now() - began),
    ),
    onCalls('fencelock:extend', spans, SPANS.extend, groupOf, () => {}),
    onCalls('fencelock:release', spans, SPANS.release, groupOf, (call, { group }) =>
      metrics.released(/** @type {Public.ReleaseContext} */ (call), group),
    ),
    onTracing('fencelock:wait', {
      start: (/** @type {Public.WaitContext} */ wait) => metrics.waitBegan(wait),
      asyncEnd: (/** @type {Public.WaitContext} */ wait) => metrics.waited(wait),
    }),
    onMessages('fencelock:lost', (/** @type {Public.LostMessage} */ message) => metrics.lost(message)),
    onMessages('fencelock:renewed', (/** @type {Public.RenewedMessage} */ message) =>
      metrics.renewed(message),
    ),
    () => metrics.stop(),
  ]
}

/**
 * Makes a span of each call, and measures it.
 * @param {string} name of the channel
 * @param {InstanceType<typeof Spans>} spans
 * @param {string} spanName
 * @param {ReturnType<typeof grouping>} groupOf
 * @param {(call: CallContext, begun: Begun) => void} measure
 */
function onCalls(name, spans, spanName, groupOf, measure) {
  /** Where it is kept, on the context that all events of a call have. Each instrumentation has its own. */
  const key = Symbol(spanName)
  /** @typedef {CallContext & { [key]?: Begun }} Call */
  /** @param {Call} call */
  const finish = (call) => {
    const begun = call[key]
    // It began before this was listening.
    if (begun === undefined) return
    measure(call, begun)
    spans.end(begun.span, call)
  }
  return onTracing(name, {
    start: (/** @type {Call} */ call) => {
      const group = groupOf(call.resources)
      call[key] = { began: performance.now(), group, span: spans.start(spanName, call, group) }
    },
    // Calls on this thread have ended by then.
    end: (/** @type {Call} */ call) => call.outcome !== undefined && finish(call),
    asyncEnd: finish,
  })
}

/**
 * @param {string} name
 * @param {Record<string, (context: never) => void>} handlers
 */
function onTracing(name, handlers) {
  const tracing = dc.tracingChannel(name)
  const subscribers = /** @type {Parameters<typeof tracing.subscribe>[0]} */ (
    /** @type {unknown} */ (handlers)
  )
  tracing.subscribe(subscribers)
  return () => {
    tracing.unsubscribe(subscribers)
  }
}

/**
 * @param {string} name
 * @param {(message: never) => void} handler
 */
function onMessages(name, handler) {
  const listener = /** @type {(message: unknown) => void} */ (handler)
  dc.subscribe(name, listener)
  return () => {
    dc.unsubscribe(name, listener)
  }
}

/**
 * Spelled out, so that ES modules can import each by its name.
 * @satisfies {typeof import('./index.js')}
 */
module.exports = { instrument }
