'use strict'

/** PostgreSQL. */

const { byCause } = require('./driver-error.js')

/** @import { Dialect } from './dialect.js' */
/** @import { DriverError } from './driver-error.js' */

/** Serialization failure and deadlock. */
const CONFLICTS = new Set(['40001', '40P01'])
/** The name of a table is unique, and so is that of its type. */
const CONCURRENT_CREATES = new Set(['23505', '42P07', '42710'])
/** There is no such table, or no such schema. */
const MISSING_TABLES = new Set(['42P01', '3F000'])
/**
 * SQLSTATEs that may follow a commit: connection exceptions, "completion unknown", and those of a server that
 * is out of resources, fails or shuts down. 25P03 and 25P04 end the connection. Codes, because messages are
 * in the server's language.
 */
const UNKNOWN = /^(08|53|57P|58|XX|25P0[34]|40003)/

/** @param {DriverError} error */
function sqlState({ code, errno }) {
  // Bun has its own code, and the server's is in errno.
  const state = [code, errno].find((each) => typeof each === 'string' && /^[\dA-Z]{5}$/.test(each))
  // Node's own codes look similar: EPIPE.
  return typeof state === 'string' && /\d/.test(state) ? state : undefined
}

/**
 * @param {DriverError} error
 * @param {Set<string>} states
 */
function hasState(error, states) {
  const state = sqlState(error)
  return state !== undefined && states.has(state)
}

/** @param {string} name */
const quote = (name) => `"${name.replaceAll('"', '""')}"`
/** @param {Buffer} key */
const bytes = (key) => `decode('${key.toString('hex')}','hex')`

/**
 * Text and hexadecimal: a client's type parsers for numbers and bytes cannot change these.
 * @type {Dialect['tokens']}
 */
const tokens = (answer) =>
  new Map((answer?.rows ?? []).map(({ resource, token }) => [resource, BigInt(token)]))

/**
 * @param {string} table quoted
 * @returns {Dialect}
 */
function postgres(table) {
  const ddl = `CREATE TABLE IF NOT EXISTS ${table} (resource bytea PRIMARY KEY, token bigint NOT NULL)`
  /** @type {Dialect['select']} */
  const select = (keys) =>
    `SELECT encode(resource, 'hex') AS resource, token::text AS token FROM ${table} WHERE resource IN (${keys.map(bytes).join(', ')})`
  return {
    table,
    ddl,
    // Without the notice that the table exists already, which some clients print.
    migration: ['SET LOCAL client_min_messages TO warning', ddl],
    fence: (keys, token) =>
      `INSERT INTO ${table} AS f (resource, token) VALUES ${keys.map((key) => `(${bytes(key)}, ${token})`).join(', ')} ` +
      'ON CONFLICT (resource) DO UPDATE SET token = GREATEST(f.token, EXCLUDED.token) ' +
      "RETURNING encode(f.resource, 'hex') AS resource, f.token::text AS token",
    read: select,
    select,
    tokens,
    isConflict: byCause((error) => hasState(error, CONFLICTS)),
    isConcurrentCreate: byCause((error) => hasState(error, CONCURRENT_CREATES)),
    isMissingTable: byCause((error) => hasState(error, MISSING_TABLES)),
    isRefusal: byCause((error) => {
      // Bun reports this for a COMMIT that the server answered with ROLLBACK.
      if (error.code === 'ERR_POSTGRES_COMMIT_ROLLED_BACK') return true
      const state = sqlState(error)
      return state !== undefined && !UNKNOWN.test(state)
    }),
  }
}

module.exports = { postgres, quote }
