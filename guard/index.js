'use strict'

/** `fencelock/guard`: the check of fencing tokens where the data lives. Loads no addon. */

const {
  BackendUnavailableError,
  LockError,
  LockLostError,
  OutcomeUnknownError,
  StaleTokenError,
  UnsupportedError,
} = require('../lib/errors.js')
const { httpFence } = require('./http/fence.js')
const { fencedFetch, fencingHeaders } = require('./http/fetch.js')
const { redisGuard } = require('./redis/guard.js')
const { mysqlGuard, postgresGuard, sqliteGuard } = require('./sql/factories.js')
const { fencedUpdate } = require('./sql/fenced-update.js')

// Spelled out, so that ES modules can import each by its name.
module.exports = {
  BackendUnavailableError,
  LockError,
  LockLostError,
  OutcomeUnknownError,
  StaleTokenError,
  UnsupportedError,
  fencedFetch,
  fencedUpdate,
  fencingHeaders,
  httpFence,
  mysqlGuard,
  postgresGuard,
  redisGuard,
  sqliteGuard,
}
