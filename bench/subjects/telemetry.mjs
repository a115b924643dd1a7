/**
 * OpenTelemetry's SDK as an application has it, with exporters that drop what they get.
 */
import { createRequire } from 'node:module'
import { join } from 'node:path'

import { root } from '../../scripts/lib/shell.mjs'

/** The project of the tests has the SDK, so that there is one copy to keep up to date. */
export const PROJECT = '__test__/projects/otel'

const EXPORT_EVERY_MS = 1_000

/**
 * Instruments fencelock.
 *
 * @param {{ traced: number }} options the share of traces that are sampled; 0: metrics alone
 */
export function instrumentAll({ traced }) {
  const load = createRequire(join(root, PROJECT, 'package.json'))
  const { context } = load('@opentelemetry/api')
  const { AsyncLocalStorageContextManager } = load('@opentelemetry/context-async-hooks')
  const { MeterProvider, PeriodicExportingMetricReader } = load('@opentelemetry/sdk-metrics')
  const trace = load('@opentelemetry/sdk-trace-base')
  const exporter = {
    export: (/** @type {unknown} */ _batch, /** @type {(result: { code: number }) => void} */ done) =>
      done({ code: 0 }),
    selectAggregationTemporality: () => 1,
    forceFlush: () => Promise.resolve(),
    shutdown: () => Promise.resolve(),
  }
  context.setGlobalContextManager(new AsyncLocalStorageContextManager().enable())
  const reader = new PeriodicExportingMetricReader({
    exporter,
    exportIntervalMillis: EXPORT_EVERY_MS,
    exportTimeoutMillis: EXPORT_EVERY_MS,
  })
  const sampler = new trace.ParentBasedSampler({ root: new trace.TraceIdRatioBasedSampler(traced) })
  const spanProcessors = [new trace.BatchSpanProcessor(exporter)]
  createRequire(import.meta.url)('../../otel/index.js').instrument({
    meterProvider: new MeterProvider({ readers: [reader] }),
    ...(traced > 0 && { tracerProvider: new trace.BasicTracerProvider({ sampler, spanProcessors }) }),
  })
}
