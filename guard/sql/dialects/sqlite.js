'use strict'

/** SQLite, 3.35 or newer (RETURNING). */

const { byCause } = require('./errors.js')
const { quote } = require('./postgres.js')

const BUSY = 5
const IOERR = 10

/** The primary code, of drivers that tell it as a number or by its name. */
function isCode(error, number, name) {
  return (error.errcode & 0xff) === number || (typeof error.code === 'string' && error.code.startsWith(name))
}

const bytes = (key) => `X'${key.toString('hex')}'`

function tokens(answer) {
  return new Map((answer?.rows ?? []).map(({ resource, token }) => [resource.toLowerCase(), BigInt(token)]))
}

/** @param {string} table quoted @returns {import('./postgres').Dialect} */
function sqlite(table) {
  const ddl = `CREATE TABLE IF NOT EXISTS ${table} (resource BLOB NOT NULL PRIMARY KEY, token INTEGER NOT NULL) WITHOUT ROWID`
  const select = (keys) =>
    `SELECT hex(resource) AS resource, CAST(token AS TEXT) AS token FROM ${table} WHERE resource IN (${keys.map(bytes).join(', ')})`
  return {
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
    // A failed COMMIT leaves the transaction open, and it is rolled back; only a disk that fails says nothing.
    isRefusal: byCause(
      (error) => (error.errcode ?? error.code) !== undefined && !isCode(error, IOERR, 'SQLITE_IOERR'),
    ),
  }
}

module.exports = { isCode, quote, sqlite }
