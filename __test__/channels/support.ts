/** Records what is published on the channels. */
import type { ChannelMessages, TracingContexts } from 'fencelock'
import { subscribe, tracingChannel, unsubscribe } from 'node:diagnostics_channel'

import { onCleanup } from '../fixtures/cleanup'

export type EventName = 'start' | 'end' | 'asyncStart' | 'asyncEnd' | 'error'

/** What a subscriber of a tracing channel saw, in order. */
export interface Recorded<Context> {
  event: EventName
  context: Context
  /** What the context said at that moment. */
  outcome: unknown
}

/** Subscribes to a tracing channel until the end of the test. */
export function record<Name extends keyof TracingContexts>(
  name: Name,
  onEvent: (event: EventName, context: TracingContexts[Name]) => void = () => {},
): Recorded<TracingContexts[Name]>[] {
  const seen: Recorded<TracingContexts[Name]>[] = []
  const handler = (event: EventName) => (message: unknown) => {
    const context = message as TracingContexts[Name]
    seen.push({ event, context, outcome: context.outcome })
    onEvent(event, context)
  }
  const handlers = {
    start: handler('start'),
    end: handler('end'),
    asyncStart: handler('asyncStart'),
    asyncEnd: handler('asyncEnd'),
    error: handler('error'),
  }
  const tracing = tracingChannel(name)
  tracing.subscribe(handlers)
  onCleanup(() => {
    tracing.unsubscribe(handlers)
  })
  return seen
}

/** Subscribes to a plain channel until the end of the test. */
export function listen<Name extends keyof ChannelMessages>(name: Name): ChannelMessages[Name][] {
  const seen: ChannelMessages[Name][] = []
  const handler = (message: unknown): void => void seen.push(message as ChannelMessages[Name])
  subscribe(name, handler)
  onCleanup(() => {
    unsubscribe(name, handler)
  })
  return seen
}

/** The events of an asynchronous call: of one that ended well, or with an answer, and of one that failed. */
export const ENDED = ['start', 'end', 'asyncStart', 'asyncEnd']
export const FAILED = ['start', 'end', 'error', 'asyncStart', 'asyncEnd']

/** The context of the only call that was recorded, whose events are these. */
export function only<Context>(seen: Recorded<Context>[], events: string[]): Context {
  const names = seen.map(({ event }) => event)
  if (names.join() !== events.join()) throw new Error(`expected ${events.join()}, got ${names.join()}`)
  const { context } = seen[0]!
  if (seen.some((each) => each.context !== context)) throw new Error('the context is not the same object')
  const early = seen.filter(({ event, outcome }) => (event === 'start' || event === 'end') && outcome)
  if (early.length > 0) throw new Error('a call had an outcome before it ended')
  return context
}
