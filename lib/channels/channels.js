'use strict'

/**
 * The channels of `node:diagnostics_channel` that this package publishes on. Kept here for as long as it is
 * loaded: a channel that only its subscribers refer to may be another one the next time.
 */

const { channel, tracingChannel } = require('node:diagnostics_channel')

/** @typedef {import('node:diagnostics_channel').TracingChannel<object>} Tracing */

/** Calls, each with its beginning and its end. */
const acquiring = tracingChannel('fencelock:acquire')
const waiting = tracingChannel('fencelock:wait')
const extending = tracingChannel('fencelock:extend')
const releasing = tracingChannel('fencelock:release')
const connecting = tracingChannel('fencelock:connect')
/** What happens without a call. */
const lost = channel('fencelock:lost')
const renewed = channel('fencelock:renewed')
const connection = channel('fencelock:connection')

/**
 * Whether there is any subscriber. Asked for every call, so no context may be put together before. Bun
 * (1.2.21 and 1.4.5) has no `hasSubscribers` of tracing channels, but of the channels that they consist of.
 * @param {Tracing} tracing
 */
function isTraced({ start, end, asyncStart, asyncEnd, error }) {
  return (
    start.hasSubscribers ||
    end.hasSubscribers ||
    asyncStart.hasSubscribers ||
    asyncEnd.hasSubscribers ||
    error.hasSubscribers
  )
}

module.exports = {
  acquiring,
  connecting,
  connection,
  extending,
  isTraced,
  lost,
  releasing,
  renewed,
  waiting,
}
