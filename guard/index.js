'use strict'

/** `fencelock/guard`: the check of fencing tokens where the data lives. Loads no addon. */

const { LockError, LockLostError, OutcomeUnknownError, StaleTokenError } = require('../lib/errors.js')
const { fencedUpdate } = require('./column.js')
const { mysqlGuard, postgresGuard, sqliteGuard } = require('./sql-guards.js')

// Spelled out, so that ES modules can import each by its name.
module.exports = {
  LockError,
  LockLostError,
  OutcomeUnknownError,
  StaleTokenError,
  fencedUpdate,
  mysqlGuard,
  postgresGuard,
  sqliteGuard,
}
