/** What leaves the process: OTLP as exporters write it, and the names in the dashboard and the document. */
import { LockManager } from 'fencelock'
import { readFileSync } from 'node:fs'
import { createServer } from 'node:http'
import { createRequire } from 'node:module'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { expect, it } from 'vitest'

import { onCleanup } from '../fixtures/cleanup'
import { closing, rejection, unique } from '../fixtures/locks'
import { startRedis } from '../fixtures/servers/redis'
import { eventually, root } from '../fixtures/temp'
import { instrumented, load, type Metric } from './sdk'

const names = createRequire(import.meta.url)(join(root, 'otel/names.js')) as {
  SPANS: Record<string, string>
  ATTRIBUTES: Record<string, string>
  METRICS: Record<string, { name: string; unit: string }>
}
const metricNames = Object.values(names.METRICS).map(({ name }) => name)

/** Uses locks so that every metric has a value. */
async function use(): Promise<void> {
  const { url } = await startRedis()
  const options = { redis: { url, replicas: 0 } }
  const [locks, other] = [0, 1].map(() => closing(new LockManager(options))) as [LockManager, LockManager]
  const resource = unique()
  const lock = await locks.acquire(resource, { ttlMs: 2_400, renew: true })
  await rejection(other.acquire(resource, { waitMs: 400 }))
  await eventually('it was renewed', () => locks.stats().extended > 0)
  await locks.forceRelease(resource)
  await lock.release()
  await eventually('the loss was seen', () => locks.stats().lost === 1)
  await (await locks.acquire(resource)).release()
}

/** A server that takes OTLP/HTTP in JSON, as a collector does. */
async function startCollector() {
  const received: { path: string; body: any }[] = []
  const server = createServer((request, response) => {
    const parts: Buffer[] = []
    request.on('data', (part: Buffer) => parts.push(part))
    request.on('end', () => {
      received.push({ path: request.url!, body: JSON.parse(Buffer.concat(parts).toString()) })
      response.writeHead(200, { 'content-type': 'application/json' }).end('{}')
    })
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  onCleanup(() => new Promise((resolve) => server.close(resolve)))
  return { received, url: `http://127.0.0.1:${(server.address() as AddressInfo).port}` }
}

it('is written as OTLP by the exporters for collectors', async () => {
  const { received, url } = await startCollector()
  const { OTLPTraceExporter } = load('exporter-trace-otlp-http')
  const { OTLPMetricExporter } = load('exporter-metrics-otlp-http')
  const { BasicTracerProvider, BatchSpanProcessor } = load('sdk-trace-base')
  const { MeterProvider, PeriodicExportingMetricReader } = load('sdk-metrics')
  const exporter = new OTLPTraceExporter({ url: `${url}/v1/traces` })
  const tracerProvider = new BasicTracerProvider({ spanProcessors: [new BatchSpanProcessor(exporter)] })
  const reader = new PeriodicExportingMetricReader({
    exporter: new OTLPMetricExporter({ url: `${url}/v1/metrics` }),
    exportIntervalMillis: 600_000,
  })
  const meterProvider = new MeterProvider({ readers: [reader] })
  instrumented({ tracerProvider, meterProvider })
  await use()
  await tracerProvider.forceFlush()
  await meterProvider.forceFlush()
  onCleanup(async () => {
    await tracerProvider.shutdown()
    await meterProvider.shutdown()
  })
  // Spans that waited for some seconds are sent before the others.
  const traces = received.filter(({ path }) => path === '/v1/traces')
  const sets = traces.map(({ body }) => body.resourceSpans[0].scopeSpans[0])
  const { scope } = sets[0]
  const spans = sets.flatMap((set) => set.spans)
  const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'))
  expect(scope).toMatchObject({ name: 'fencelock', version })
  expect(new Set(spans.map(({ name }: { name: string }) => name))).toEqual(
    new Set(['fencelock.acquire', 'fencelock.release']),
  )
  const sent = received.findLast(({ path }) => path === '/v1/metrics')!.body
  const { metrics } = sent.resourceMetrics[0].scopeMetrics[0]
  expect(metrics.map(({ name }: { name: string }) => name).toSorted()).toEqual(metricNames.toSorted())
  for (const metric of metrics) {
    const known = Object.values(names.METRICS).find(({ name }) => name === metric.name)
    expect(metric.unit).toBe(known!.unit)
    expect([metric.name, metric.histogram ?? metric.sum]).toEqual([metric.name, expect.anything()])
    // Counters only rise, gauges of what there is now do not.
    const rises = /^fencelock\.(acquisitions|losses)$/.test(metric.name)
    if (metric.sum) expect([metric.name, metric.sum.isMonotonic ?? false]).toEqual([metric.name, rises])
  }
})

/**
 * The series that Prometheus makes of what it gets by OTLP, each with its labels: units and kinds become
 * suffixes.
 * https://opentelemetry.io/docs/specs/otel/compatibility/prometheus_and_openmetrics/
 */
function seriesOf(metrics: Record<string, Metric>): Map<string, Set<string>> {
  const series = new Map<string, Set<string>>()
  for (const [name, { unit, isHistogram, isCounter, points }] of Object.entries(metrics)) {
    const base = name.replaceAll('.', '_') + (unit === 's' ? '_seconds' : '')
    const labels = new Set(points.flatMap(({ attributes }) => Object.keys(attributes)))
    const kinds = isHistogram ? ['_bucket', '_count', '_sum'] : [isCounter ? '_total' : '']
    for (const kind of kinds) {
      series.set(base + kind, new Set([...labels].map((label) => label.replaceAll('.', '_'))))
    }
  }
  return series
}

it('has every series and label that the Grafana dashboard asks for, and the dashboard shows all metrics', async () => {
  const { metrics } = instrumented()
  await use()
  const series = seriesOf(await metrics())
  const file = join(root, 'examples/observability/grafana-dashboard.json')
  const { panels, templating } = JSON.parse(readFileSync(file, 'utf8'))
  const queries: string[] = panels.flatMap(({ targets }: any) => targets.map(({ expr }: any) => expr))
  const used = new Set<string>()
  for (const query of [...queries, templating.list[1].query.query as string]) {
    const words = new Set(query.match(/\b(?:fencelock|server)_\w+/g))
    const [name, ...others] = [...words].filter((word) => series.has(word))
    expect([query, name, others]).toEqual([query, expect.any(String), []])
    used.add(name!)
    words.delete(name!)
    expect([query, [...words].filter((label) => !series.get(name!)!.has(label))]).toEqual([query, []])
  }
  const shown = metricNames.filter((name) =>
    [...used].some((each) => each.startsWith(name.replaceAll('.', '_'))),
  )
  expect(shown).toEqual(metricNames)
})

it('has every name in the document', () => {
  const text = readFileSync(join(root, 'docs/guide/opentelemetry.md'), 'utf8')
  const all = [...metricNames, ...Object.values(names.SPANS), ...Object.values(names.ATTRIBUTES)]
  expect(all.filter((name) => !text.includes(`\`${name}\``))).toEqual([])
})
