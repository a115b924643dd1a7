'use strict'

/** Extensions, releases and connections with subscribers. Loaded by the first of them. */

const { connecting, extending, releasing } = require('./channels.js')
const { outcomeOf } = require('./outcomes.js')
const { trace, traceSync } = require('./trace.js')

/** @import * as Public from '../../index.js' */
/** @import { StrategyInfo } from '../strategies.js' */
/** @typedef {InstanceType<typeof import('../native/call-batch.js').ManagerCalls>} ManagerCalls */
/** @typedef {import('./trace.js').Context} Context */
/** @typedef {{ lease: number, resources: readonly string[], owner: string, token: bigint }} LeaseFacts */

/**
 * @param {ManagerCalls} calls
 * @param {StrategyInfo} strategy
 * @param {LeaseFacts} lease
 */
function facts(calls, strategy, { lease, resources, owner, token }) {
  const { address: serverAddress, port: serverPort } = calls.server(strategy)
  const heldMs = calls.heldMs(lease)
  return {
    resources,
    strategy: strategy.name,
    owner,
    token,
    heldMs: heldMs < 0 ? undefined : heldMs,
    outcome: undefined,
    serverAddress,
    serverPort,
    error: undefined,
  }
}

/**
 * @param {ManagerCalls} calls
 * @param {StrategyInfo} strategy
 * @param {LeaseFacts} lease
 * @param {number | undefined} ttlMs
 * @param {() => Promise<void>} call
 */
function traceExtend(calls, strategy, lease, ttlMs, call) {
  /** @type {Public.ExtendContext} */
  const context = { ...facts(calls, strategy, lease), ttlMs }
  const done = () => {
    context.outcome = 'extended'
  }
  return trace(extending, /** @type {Context} */ (context), call, { done })
}

/**
 * @template {boolean | string} T
 * @param {ManagerCalls} calls
 * @param {StrategyInfo} strategy
 * @param {LeaseFacts} lease
 * @param {() => Promise<T>} call a release, or a hand-over, which returns a ticket
 */
function traceRelease(calls, strategy, lease, call) {
  const context = facts(calls, strategy, lease)
  return trace(releasing, /** @type {Context} */ (context), call, notesOf(context))
}

/**
 * @param {ManagerCalls} calls
 * @param {StrategyInfo} strategy
 * @param {LeaseFacts} lease
 * @param {() => boolean} call
 */
function traceReleaseSync(calls, strategy, lease, call) {
  const context = facts(calls, strategy, lease)
  return traceSync(releasing, /** @type {Context} */ (context), call, notesOf(context))
}

/**
 * @template {boolean | string} T
 * @param {Public.ReleaseContext} context
 * @returns {import('./trace.js').Notes<T, T>}
 */
function notesOf(context) {
  return {
    done(result) {
      if (typeof result === 'string') context.outcome = 'handed-over'
      else context.outcome = result ? 'released' : 'lost'
      return result
    },
  }
}

/**
 * @param {ManagerCalls} calls
 * @param {StrategyInfo} strategy
 * @param {() => Promise<void>} call
 */
function traceConnect(calls, strategy, call) {
  const { address: serverAddress, port: serverPort } = calls.server(strategy)
  /** @type {Public.ConnectContext} */
  const context = { strategy: strategy.name, outcome: undefined, serverAddress, serverPort, error: undefined }
  const locate = () => {
    const { address, port } = calls.server(strategy)
    context.serverAddress = address
    context.serverPort = port
  }
  const done = () => {
    context.outcome = 'connected'
    locate()
  }
  /** @param {unknown} error */
  const failed = (error) => {
    locate()
    return outcomeOf(error)
  }
  return trace(connecting, /** @type {Context} */ (context), call, { done, failed })
}

module.exports = { traceConnect, traceExtend, traceRelease, traceReleaseSync }
