'use strict'

const {
  BackendUnavailableError,
  ClosedError,
  InsufficientReplicasError,
  LockError,
  LockHeldError,
  LockLostError,
  OutcomeUnknownError,
  StaleTokenError,
  UnsupportedError,
} = require('./lib/errors.js')
const { LockManager } = require('./lib/lock-manager.js')

/**
 * Spelled out, so that ES modules can import each by its name.
 * @satisfies {Record<keyof typeof import('./index.js'), unknown>}
 */
module.exports = {
  BackendUnavailableError,
  ClosedError,
  InsufficientReplicasError,
  LockError,
  LockHeldError,
  LockLostError,
  LockManager,
  OutcomeUnknownError,
  StaleTokenError,
  UnsupportedError,
}
