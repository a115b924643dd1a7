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
const { fencedUpdate } = require('./column.js')
const { fencedFetch, fencingHeaders, httpFence } = require('./http.js')
const { redisGuard } = require('./redis.js')
const { mysqlGuard, postgresGuard, sqliteGuard } = require('./sql-guards.js')

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
