'use strict'

/** Publishes what happened without a call. Loaded by the first event. */

const { connection, lost, renewed } = require('./channels.js')
const { outcomeOf } = require('./outcomes.js')
const { fromFailure, lost: lostError } = require('../errors.js')
const wire = require('../native/wire.js')
const { STRATEGIES } = require('../strategies.js')

const { losses: LOSSES, renewals: RENEWALS } = wire.topic
const names = Object.values(STRATEGIES)

/** @import * as Native from '../../binding.js' */
/** @import * as Public from '../../index.js' */

/** @param {Native.Event} event */
function publish(event) {
  const info = names.find(({ number }) => number === event.strategy)
  const strategy = /** @type {import('../strategies.js').StrategyInfo} */ (info).name
  if (event.topic === LOSSES) lost.publish(lossOf(event, strategy))
  else if (event.topic === RENEWALS) renewed.publish(renewalOf(event, strategy))
  else connection.publish(connectionOf(event, strategy))
}

/**
 * @param {Native.Event} event
 * @param {Public.Strategy} strategy
 */
function leaseOf({ resources = [], owner = '', token = 0, heldMs = 0 }, strategy) {
  return { resources, strategy, owner, token: BigInt(token), heldMs }
}

/**
 * @param {Native.Event} event
 * @param {Public.Strategy} strategy
 * @returns {Public.LostMessage}
 */
function lossOf(event, strategy) {
  const lease = leaseOf(event, strategy)
  const cause = /** @type {Public.LossCause} */ (event.cause)
  const error = /** @type {Public.LockLostError} */ (
    lostError(strategy, lease.resources[0] ?? '', event.message ?? '')
  )
  return { ...lease, cause, error }
}

/**
 * @param {Native.Event} event
 * @param {Public.Strategy} strategy
 * @returns {Public.RenewedMessage}
 */
function renewalOf(event, strategy) {
  const lease = leaseOf(event, strategy)
  const { failure, lagMs = 0, durationMs = 0, remainingMs = 0 } = event
  const error = failure === undefined ? undefined : fromFailure(failure, strategy, lease.resources[0])
  const outcome = /** @type {Public.RenewedMessage['outcome']} */ (
    error === undefined ? 'extended' : outcomeOf(error)
  )
  return { ...lease, outcome, lagMs, durationMs, remainingMs, error }
}

/**
 * @param {Native.Event} event
 * @param {Public.Strategy} strategy
 * @returns {Public.ConnectionMessage}
 */
function connectionOf({ state, serverAddress = '', serverPort, open = 0, message }, strategy) {
  return {
    strategy,
    state: /** @type {Public.ConnectionMessage['state']} */ (state),
    serverAddress,
    serverPort,
    open,
    reason: message,
  }
}

module.exports = { publish }
