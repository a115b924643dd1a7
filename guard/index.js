'use strict'

/** `fencelock/guard`: checks fencing tokens where the data is. Does not load the addon. */

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

/** @typedef {typeof import('./index.js')} Declared */
/**
 * Their constructors are not public.
 * @typedef {Extract<keyof Declared, `${string}Error`>} ErrorName
 */

/**
 * Spelled out, so that ES modules can import each by its name.
 * @satisfies {Omit<Declared, ErrorName> & Record<ErrorName, Function>}
 */
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
