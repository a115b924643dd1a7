/**
 * `fencelock/otel`: traces and metrics for OpenTelemetry. Needs `@opentelemetry/api`, an optional peer
 * dependency; the application chooses the SDK.
 *
 * Spans, metrics and attributes are listed in docs/guide/opentelemetry.md.
 *
 * @packageDocumentation
 */
import type { MeterProvider, TracerProvider } from '@opentelemetry/api'

/** What {@link instrument} takes. */
export interface InstrumentOptions {
  /** @default the global one, also if it is registered later */
  tracerProvider?: TracerProvider | undefined
  /**
   * The global one must be registered before {@link instrument} is called.
   * @default the global one
   */
  meterProvider?: MeterProvider | undefined
  /**
   * Names the group of a resource: the attribute `fencelock.resource.group` of spans and metrics. By default
   * neither has anything of the resource, because names that are made from ids would make a series each. Of
   * several resources the first one is asked for. Called several times for a lock, so it should be cheap. If
   * it throws, the lock has no group, and the error goes to `diag` of OpenTelemetry.
   * @example
   * instrument({ resourceGroup: (resource) => resource.split(':')[0] ?? '' })
   */
  resourceGroup?: ((resource: string) => string) | undefined
  /**
   * Whether spans have the names of the resources: the attribute `fencelock.resources`.
   * @default false
   */
  recordResources?: boolean | undefined
  /**
   * Whether only calls that are made within a span get one.
   * @default false
   */
  requireParentSpan?: boolean | undefined
}

/** Ends an instrumentation. Calls that have not ended then get no end of their spans. */
export interface Instrumentation extends Disposable {
  (): void
}

/**
 * Makes a span of each acquire, extension and release, and measures them, until the function that it returns
 * is called. For all managers of this process that use this copy of the package. Call it once, before locks
 * are acquired.
 * @example
 * const stop = instrument({ tracerProvider, meterProvider })
 */
export function instrument(options?: InstrumentOptions): Instrumentation
