'use strict'

/** SQLite, 3.35 or newer (RETURNING). */

const { byCause } = require('./driver-error.js')
const { quote } = require('./postgres.js')

/** @import { Dialect } from './dialect.js' */
/** @import { DriverError } from './driver-error.js' */

const BUSY = 5
const IOERR = 10
const MISSING_TABLE = /no such table: |unknown database /

/**
 * Compares the primary result code. Drivers give it as a number or as a name.
 * @param {DriverError} error
 * @param {number} number
 * @param {string} name
 */
function isCode({ code, errcode }, number, name) {
  return (Number(errcode) & 0xff) === number || (typeof code === 'string' && code.startsWith(name))
}

/** @param {Buffer} key */
const bytes = (key) => `X'${key.toString('hex')}'`

/** @type {Dialect['tokens']} */
function tokens(answer) {
  return new Map((answer?.rows ?? []).map(({ resource, token }) => [resource.toLowerCase(), BigInt(token)]))
}

/**
 * @param {string} table quoted
 * @returns {Dialect}
 */
function sqlite(table) {
  const ddl = `CREATE TABLE IF NOT EXISTS ${table} (resource BLOB NOT NULL PRIMARY KEY, token INTEGER NOT NULL) WITHOUT ROWID`
  /** @type {Dialect['select']} */
  const select = (keys) =>
    `SELECT hex(resource) AS resource, CAST(token AS TEXT) AS token FROM ${table} WHERE resource IN (${keys.map(bytes).join(', ')})`
  return {
    table,
    ddl,
    migration: [ddl],
    fence: (keys, token) =>
      `INSERT INTO ${table} (resource, token) VALUES ${keys.map((key) => `(${bytes(key)}, ${token})`).join(', ')} ` +
      'ON CONFLICT (resource) DO UPDATE SET token = max(token, excluded.token) ' +
      'RETURNING hex(resource) AS resource, CAST(token AS TEXT) AS token',
    read: select,
    select,
    tokens,
    isConflict: byCause((error) => isCode(error, BUSY, 'SQLITE_BUSY')),
    isConcurrentCreate: () => false,
    // SQLite has no code of its own for it.
    isMissingTable: byCause(({ message }) => typeof message === 'string' && MISSING_TABLE.test(message)),
    // A failed COMMIT leaves the transaction open, and it is rolled back. Only after a disk error the outcome
    // is unknown.
    isRefusal: byCause(
      (error) => (error.errcode ?? error.code) !== undefined && !isCode(error, IOERR, 'SQLITE_IOERR'),
    ),
  }
}

module.exports = { isCode, quote, sqlite }
