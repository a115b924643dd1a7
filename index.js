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

// Spelled out, so that ES modules can import each by its name.
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
