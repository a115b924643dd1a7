/** The SDK of OpenTelemetry with exporters in memory. `npm test` installs it, in `__test__/projects/otel`. */
import { context, trace } from '@opentelemetry/api'
import { instrument, type InstrumentOptions } from 'fencelock/otel'
import { createRequire } from 'node:module'
import { join } from 'node:path'

import { onCleanup } from '../fixtures/cleanup'
import { root } from '../fixtures/temp'

const requirePackage = createRequire(join(root, '__test__/projects/otel/package.json'))

/** Loads a package of that project. Without types, as in a JavaScript application. */
export function load(name: string): any {
  try {
    return requirePackage(`@opentelemetry/${name}`)
  } catch (error) {
    throw new Error(`${name} does not load: run \`npm ci\` in __test__/projects/otel`, { cause: error })
  }
}

export interface Span {
  name: string
  kind: number
  attributes: Record<string, unknown>
  status: { code: number; message?: string }
  ended: boolean
  parentSpanContext?: { spanId: string }
  spanContext: () => { spanId: string; traceId: string }
}

export interface Point {
  attributes: Record<string, unknown>
  value: number & { count: number; sum: number; buckets: { boundaries: number[]; counts: number[] } }
}

export interface Metric {
  unit: string
  isHistogram: boolean
  isCounter: boolean
  points: Point[]
}

/** Instruments until the end of the test. */
export function instrumented(options: InstrumentOptions = {}) {
  const { BasicTracerProvider, InMemorySpanExporter, SimpleSpanProcessor } = load('sdk-trace-base')
  const { AggregationTemporality, InMemoryMetricExporter, MeterProvider, PeriodicExportingMetricReader } =
    load('sdk-metrics')
  const { AsyncLocalStorageContextManager } = load('context-async-hooks')
  const exporter = new InMemorySpanExporter()
  const tracerProvider = new BasicTracerProvider({ spanProcessors: [new SimpleSpanProcessor(exporter)] })
  const metricExporter = new InMemoryMetricExporter(AggregationTemporality.CUMULATIVE)
  const reader = new PeriodicExportingMetricReader({
    exporter: metricExporter,
    exportIntervalMillis: 600_000,
  })
  const meterProvider = new MeterProvider({ readers: [reader] })
  context.setGlobalContextManager(new AsyncLocalStorageContextManager().enable())
  const stop = instrument({ tracerProvider, meterProvider, ...options })
  onCleanup(async () => {
    stop()
    context.disable()
    await meterProvider.shutdown()
    await tracerProvider.shutdown()
  })
  return {
    stop,
    tracer: trace.getTracer('test'),
    tracerProvider,
    meterProvider,
    spans: (name?: string): Span[] =>
      (exporter.getFinishedSpans() as Span[]).filter((span) => name === undefined || span.name === name),
    /** What the metrics are now, by their names. */
    metrics: async (): Promise<Record<string, Metric>> => {
      metricExporter.reset()
      await reader.forceFlush()
      const scopes = metricExporter.getMetrics().flatMap((each: any) => each.scopeMetrics)
      const all = scopes.flatMap((scope: any) => scope.metrics)
      return Object.fromEntries(
        all.map(({ descriptor: { name, unit, type }, dataPoints, isMonotonic = false }: any) => [
          name,
          { unit, isHistogram: type === 'HISTOGRAM', isCounter: isMonotonic, points: dataPoints },
        ]),
      )
    },
  }
}
