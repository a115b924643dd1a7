'use strict'

/** The process warnings of this library. */

/** @import { StillHeld } from '../binding.js' */

/**
 * @param {string} code
 * @param {string} message what happened, and what it means
 * @param {string} detail what to do
 */
function warn(code, message, detail) {
  process.emitWarning(message, { type: 'FencelockWarning', code, detail })
}

/**
 * The handle of a lease was collected that is not renewed.
 * @param {string} resource
 */
function warnOfDropped(resource) {
  warn(
    'FENCELOCK_LOCK_DROPPED',
    `a lock on ${JSON.stringify(resource)} was garbage-collected without release(); its lease will expire`,
    'Keep the lock until its work is done, then release it.',
  )
}

/**
 * The handle of a renewed lease was collected.
 * @param {string} resource
 */
function warnOfKept(resource) {
  warn(
    'FENCELOCK_LOCK_DROPPED',
    `a lock on ${JSON.stringify(resource)} was garbage-collected without release(); its lease goes on: it is ` +
      'renewed until it is lost, reaches maxHoldMs, or its manager is closed',
    'Keep the lock, at least in a variable of the module, so that it can be released and its signal be read.',
  )
}

/**
 * An acquire waits for a lock that the function that made the call holds itself.
 * @param {string} strategy
 * @param {string} resource
 */
function warnOfSelfWait(strategy, resource) {
  warn(
    'FENCELOCK_WAITS_FOR_ITSELF',
    `an acquire has waited for a second for the ${strategy} lock ${JSON.stringify(resource)}, which the function ` +
      'that made the call holds itself, through withLock: if the function awaits the call, both wait until waitMs ' +
      'is over',
    'Pass the lock on to the code that needs it, instead of acquiring it again.',
  )
}

/**
 * A manager had drained for as long as it was allowed to.
 * @param {StillHeld | undefined} stillHeld
 */
function warnOfStillHeld(stillHeld) {
  if (stillHeld === undefined) return
  const { named, count } = stillHeld
  const names = named.map((name) => JSON.stringify(name)).join(', ')
  const others = count > named.length ? ` and ${count - named.length} more` : ''
  const locks = count === 1 ? 'a lock was' : `${count} locks were`
  warn(
    'FENCELOCK_CLOSED_WHILE_HELD',
    `a lock manager was closed while ${locks} still held: ${names}${others}; released now, although the work ` +
      'under it may go on',
    'Stop the work when locks.closing aborts, release locks when it is done, or pass a longer drainMs.',
  )
}

/**
 * The function for credentials failed, or what it returned was refused.
 * @param {string} name that of the option
 * @param {string} why
 */
function warnOfCredentials(name, why) {
  warn(
    'FENCELOCK_CREDENTIALS',
    `${name}: ${why}; open connections keep the credentials that they have, and it is asked again`,
    'Have the function return credentials that the servers accept, well before the ones before expire.',
  )
}

/**
 * A campaign goes on after an error.
 * @param {string} message of the error
 */
function warnOfCampaign(message) {
  warn(
    'FENCELOCK_CAMPAIGN_FAILED',
    `elect: ${message}; it tries again`,
    'Nothing needs to be done if this passes. Until then there may be no leader.',
  )
}

module.exports = {
  warnOfCampaign,
  warnOfCredentials,
  warnOfDropped,
  warnOfKept,
  warnOfSelfWait,
  warnOfStillHeld,
}
