'use strict'

/**
 * Publishes the beginning and the end of a call, in the asynchronous context of its caller. As
 * `TracingChannel#tracePromise`, but for that a rejection is not always an error: that a lock is busy is an
 * answer.
 *
 * A subscriber that throws harms no call: the runtime catches what it throws, and reports it as an uncaught
 * exception in the next tick.
 */

const { noteFailure, outcomeOf } = require('./outcomes.js')

/** @import { Tracing } from './channels.js' */

/**
 * What subscribers get; `outcome` is set when the call ends.
 * @typedef {{ outcome: string | undefined, error?: unknown }} Context
 */
/**
 * How a context notes the end of its call.
 * @template T, R
 * @typedef {object} Notes
 * @property {(result: T) => R} done returns what the caller gets, or throws what the call fails with
 * @property {(error: unknown) => string} [failed] returns the outcome
 */

/**
 * @template T, R
 * @param {Tracing} tracing
 * @param {Context} context
 * @param {() => Promise<T>} call may throw, too
 * @param {Notes<T, R>} notes
 * @returns {Promise<R>}
 */
function trace(tracing, context, call, notes) {
  return tracing.start.runStores(context, () => run(tracing, context, call, notes))
}

/**
 * @template T, R
 * @param {Tracing} tracing
 * @param {Context} context
 * @param {() => Promise<T>} call
 * @param {Notes<T, R>} notes
 */
async function run({ end, asyncStart, asyncEnd, error }, context, call, notes) {
  try {
    let promise
    try {
      promise = call()
    } finally {
      end.publish(context)
    }
    return notes.done(await promise)
  } catch (reason) {
    fail(error, context, notes, reason)
    throw reason
  } finally {
    asyncStart.publish(context)
    asyncEnd.publish(context)
  }
}

/**
 * The same for a call on this thread: it has ended when `end` is published.
 * @template T, R
 * @param {Tracing} tracing
 * @param {Context} context
 * @param {() => T} call
 * @param {Notes<T, R>} notes
 * @returns {R}
 */
function traceSync({ start, end, error }, context, call, notes) {
  return start.runStores(context, () => {
    try {
      return notes.done(call())
    } catch (reason) {
      fail(error, context, notes, reason)
      throw reason
    } finally {
      end.publish(context)
    }
  })
}

/**
 * Notes what a call failed with, and publishes it if it is an error.
 * @template T, R
 * @param {Tracing['error']} channel
 * @param {Context} context
 * @param {Notes<T, R>} notes
 * @param {unknown} reason
 */
function fail(channel, context, notes, reason) {
  noteFailure(context, notes.failed?.(reason) ?? outcomeOf(reason), reason)
  if (context.error !== undefined) channel.publish(context)
}

module.exports = { trace, traceSync }
