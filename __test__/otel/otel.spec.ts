/** `fencelock/otel` with the real SDK: what it emits of each call, loss and renewal. */
import { context, diag, SpanKind, SpanStatusCode, trace } from '@opentelemetry/api'
import { LockManager } from 'fencelock'
import type { ManagerOptions } from 'fencelock'
import { instrument } from 'fencelock/otel'
import { beforeAll, beforeEach, describe, expect, it } from 'vitest'

import { onCleanup } from '../fixtures/cleanup'
import { closing, rejection, unique } from '../fixtures/locks'
import { strategies } from '../fixtures/strategies'
import { eventually } from '../fixtures/temp'
import { instrumented, type Point } from './sdk'

/** The value of the only point with these attributes. */
const valueOf = (points: Point[] | undefined, attributes: Record<string, unknown>) =>
  points?.find((point) =>
    Object.entries(attributes).every(([name, value]) => point.attributes[`fencelock.${name}`] === value),
  )?.value

describe.each(strategies)('instrument: $name', ({ strategy, start }) => {
  let options: ManagerOptions
  beforeAll(async () => {
    options = await start()
  })
  let locks: LockManager
  let other: LockManager
  beforeEach(async () => {
    locks = closing(new LockManager(options))
    other = closing(new LockManager(options))
    await locks.connect()
  })

  it('makes a span of each call, whose parent is the one of its caller', async () => {
    const { spans, tracerProvider } = instrumented()
    const parent = tracerProvider.getTracer('test').startSpan('request')
    const lock = await context.with(trace.setSpan(context.active(), parent), async () => {
      const acquired = await locks.acquire(unique())
      await acquired.extend()
      await acquired.release()
      return acquired
    })
    expect(spans().map(({ name }) => name)).toEqual([
      'fencelock.acquire',
      'fencelock.extend',
      'fencelock.release',
    ])
    for (const span of spans()) {
      expect(span.parentSpanContext?.spanId).toBe(parent.spanContext().spanId)
      expect(span.kind).toBe(strategy === 'local' ? SpanKind.INTERNAL : SpanKind.CLIENT)
      expect(span.status.code).toBe(SpanStatusCode.UNSET)
      expect(span.attributes).toMatchObject({
        'fencelock.strategy': strategy,
        'fencelock.token': String(lock.token),
        ...(strategy === 'strong' && { 'server.address': '127.0.0.1', 'server.port': expect.any(Number) }),
      })
      expect(Object.keys(span.attributes)).not.toContain('fencelock.resources')
    }
    expect(spans().map(({ attributes }) => attributes['fencelock.outcome'])).toEqual([
      'granted',
      'extended',
      'released',
    ])
    expect(spans('fencelock.release')[0]!.attributes['fencelock.hold.duration']).toBeGreaterThan(0)
  })

  it('counts what is busy and timed out by its outcome; neither is an error', async () => {
    const { spans, metrics } = instrumented()
    const resource = unique()
    const lock = await other.acquire(resource)
    await locks.tryAcquire(resource)
    await rejection(locks.acquire(resource))
    await rejection(locks.acquire(resource, { waitMs: 120 }))
    const granted = locks.acquire(resource, { waitMs: 20_000 })
    await eventually('it waits', async () => {
      return valueOf((await metrics())['fencelock.queued_acquisitions']?.points, { strategy }) === 1
    })
    expect(valueOf((await metrics())['fencelock.active_leases']?.points, { strategy })).toBe(1)
    await lock.release()
    await granted
    for (const span of spans()) expect(span.status.code).toBe(SpanStatusCode.UNSET)
    const all = await metrics()
    const acquisitions = all['fencelock.acquisitions']?.points
    expect(valueOf(acquisitions, { strategy, outcome: 'busy' })).toBe(2)
    expect(valueOf(acquisitions, { strategy, outcome: 'timeout' })).toBe(1)
    expect(valueOf(acquisitions, { strategy, outcome: 'granted' })).toBe(2)
    const took = all['fencelock.acquire.duration']?.points
    expect(valueOf(took, { strategy, outcome: 'timeout' })).toMatchObject({ count: 1 })
    expect(valueOf(took, { strategy, outcome: 'timeout' })!.sum).toBeGreaterThanOrEqual(0.1)
    const waited = all['fencelock.wait.duration']?.points
    expect(valueOf(waited, { strategy, outcome: 'granted' })).toMatchObject({ count: 1 })
    expect(valueOf(waited, { strategy, outcome: 'timeout' })!.sum).toBeGreaterThanOrEqual(0.05)
    expect(valueOf(all['fencelock.queued_acquisitions']?.points, { strategy })).toBe(0)
    expect(valueOf(all['fencelock.active_leases']?.points, { strategy })).toBe(1)
    const held = valueOf(all['fencelock.hold.duration']?.points, { strategy, outcome: 'released' })
    expect(held!.count).toBe(1)
    expect(held!.sum).toBeGreaterThan(0.1)
  })

  it('reports losses by cause, and the lag of renewals', async () => {
    const { metrics, spans } = instrumented()
    const lock = await locks.acquire(unique(), { ttlMs: 2_400, renew: true })
    await eventually('it was renewed', async () => {
      const lag = (await metrics())['fencelock.renewal.lag']?.points
      return valueOf(lag, { strategy, outcome: 'extended' }) !== undefined
    })
    await locks.forceRelease(lock.resource)
    await eventually('the loss is reported', async () => {
      return valueOf((await metrics())['fencelock.losses']?.points, { strategy, 'loss.cause': 'taken' }) === 1
    })
    await lock.release()
    const all = await metrics()
    expect(all['fencelock.losses']?.points).toHaveLength(1)
    expect(valueOf(all['fencelock.losses']?.points, { 'loss.cause': 'taken' })).toBe(1)
    expect(valueOf(all['fencelock.hold.duration']?.points, { outcome: 'lost' })!.count).toBe(1)
    expect(spans('fencelock.release')[0]!.attributes['fencelock.outcome']).toBe('lost')
  })

  it('has nothing of a resource but its group, and its names only if they are wanted', async () => {
    const { metrics, spans } = instrumented({
      resourceGroup: (resource) => resource.split(':')[0]!,
      recordResources: true,
    })
    for (let id = 0; id < 5; id++) await (await locks.acquire(`order:${unique()}`)).release()
    expect(new Set(spans().map(({ attributes }) => attributes['fencelock.resource.group']))).toEqual(
      new Set(['order']),
    )
    expect(spans()[0]!.attributes['fencelock.resources']).toEqual([expect.stringMatching(/^order:/)])
    const all = await metrics()
    expect(all['fencelock.acquisitions']?.points).toHaveLength(1)
    for (const { points } of Object.values(all)) {
      for (const { attributes } of points) expect(JSON.stringify(attributes)).not.toMatch(/order:/)
    }
  })

  it('reports open connections', async () => {
    const { metrics } = instrumented()
    await (await locks.acquire(unique())).release()
    const expected = { strong: 1, quorum: 3, local: 0 }[strategy]
    const own = await eventually('all are reported', async () => {
      const points = (await metrics())['fencelock.connection.count']?.points ?? []
      const found = points.filter(({ attributes }) => attributes['fencelock.strategy'] === strategy)
      return found.length >= expected ? found : undefined
    })
    for (const { attributes } of own) expect(attributes).toMatchObject({ 'server.address': '127.0.0.1' })
  })
})

describe('instrument', () => {
  it('marks a span as failed, with the code of the error', async () => {
    const { spans, metrics } = instrumented()
    const locks = closing(new LockManager({ redis: { url: 'redis://127.0.0.1:1', connectTimeoutMs: 200 } }))
    await rejection(locks.acquire(unique()))
    expect(spans('fencelock.acquire')[0]).toMatchObject({
      status: { code: SpanStatusCode.ERROR, message: expect.stringContaining('127.0.0.1:1') },
      attributes: { 'error.type': 'BACKEND_UNAVAILABLE', 'fencelock.outcome': 'unavailable' },
    })
    expect(valueOf((await metrics())['fencelock.acquisitions']?.points, { outcome: 'unavailable' })).toBe(1)
  })

  it('sees calls on the calling thread', async () => {
    const { spans, metrics } = instrumented()
    const locks = closing(new LockManager({ local: ':memory:' }))
    const lock = locks.tryAcquireLocalSync('a')!
    locks.tryAcquireLocalSync('a')
    lock.releaseSync()
    expect(spans().map(({ attributes }) => attributes['fencelock.outcome'])).toEqual([
      'granted',
      'busy',
      'released',
    ])
    expect(valueOf((await metrics())['fencelock.acquisitions']?.points, { outcome: 'granted' })).toBe(1)
  })

  it('makes spans only within one, if that is wanted', async () => {
    const { spans, metrics, tracerProvider } = instrumented({ requireParentSpan: true })
    const locks = closing(new LockManager({ local: ':memory:' }))
    await (await locks.acquire('a')).release()
    expect(spans()).toEqual([])
    const parent = tracerProvider.getTracer('test').startSpan('request')
    await context.with(trace.setSpan(context.active(), parent), () => locks.withLock('a', () => 1))
    expect(spans()).toHaveLength(2)
    expect(valueOf((await metrics())['fencelock.acquisitions']?.points, { outcome: 'granted' })).toBe(2)
  })

  it('ends when its function is called, and a call that it saw only the end of is left out', async () => {
    const { stop, spans, metrics } = instrumented()
    const locks = closing(new LockManager({ local: ':memory:' }))
    await (await locks.acquire('a')).release()
    stop()
    stop()
    await (await locks.acquire('a')).release()
    expect(spans()).toHaveLength(2)
    const call = locks.acquire('b')
    const second = instrumented()
    await (await call).release()
    expect(second.spans().map(({ name }) => name)).toEqual(['fencelock.release'])
    expect((await metrics())['fencelock.acquisitions']?.points ?? []).toEqual([])
  })

  it('can be there twice, each with its own providers', async () => {
    const [one, two] = [instrumented(), instrumented()]
    const locks = closing(new LockManager({ local: ':memory:' }))
    await (await locks.acquire('a')).release()
    expect([one.spans().length, two.spans().length]).toEqual([2, 2])
  })

  it('counts as waiting only what it saw begin, in the group that it had then', async () => {
    let group = 'before'
    const first = instrumented({ resourceGroup: () => group })
    const locks = closing(new LockManager({ local: ':memory:' }))
    const lock = await locks.acquire('a')
    const next = locks.acquire('a', { waitMs: 20_000 })
    const queued = async ({ metrics }: typeof first) =>
      (await metrics())['fencelock.queued_acquisitions']?.points.map(({ value }) => value) ?? []
    await eventually('it waits', async () => (await queued(first))[0] === 1)
    const second = instrumented()
    group = 'after'
    await lock.release()
    await (await next).release()
    expect(await queued(first)).toEqual([0])
    expect(await queued(second)).toEqual([])
  })

  it('a resourceGroup that throws costs the group alone, and is reported to diag', async () => {
    const reported: unknown[] = []
    const ignore = () => undefined
    const error = (...args: unknown[]) => void reported.push(...args)
    diag.setLogger({ error, warn: ignore, info: ignore, debug: ignore, verbose: ignore })
    onCleanup(() => diag.disable())
    const broken = new Error('no group')
    const { spans, metrics } = instrumented({
      resourceGroup: () => {
        throw broken
      },
    })
    const locks = closing(new LockManager({ local: ':memory:' }))
    await (await locks.acquire('a')).release()
    expect(spans()).toHaveLength(2)
    expect(valueOf((await metrics())['fencelock.acquisitions']?.points, { outcome: 'granted' })).toBe(1)
    expect(reported).toContain(broken)
  })

  it('works without an SDK, and refuses options that it does not know', async () => {
    const stop = instrument()
    onCleanup(stop)
    const locks = closing(new LockManager({ local: ':memory:' }))
    expect(await (await locks.acquire('a')).release()).toBe(true)
    const wrong = instrument as (options: object) => unknown
    expect(() => wrong({ tracer: 1 })).toThrow(/tracerProvider/)
    expect(() => wrong({ resourceGroup: 'x' })).toThrow(TypeError)
    expect(() => wrong({ recordResources: 1 })).toThrow(TypeError)
  })
})
