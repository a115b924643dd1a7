'use strict'

/** SQLite, 3.35 or newer (RETURNING). */

const { byCause } = require('./driver-error.js')
const { quote } = require('./postgres.js')
const { storedIn } = require('./rows.js')

/** @import { Dialect } from './dialect.js' */
/** @import { DriverError } from './driver-error.js' */

const BUSY = 5
const IOERR = 10
const MISSING_TABLE = /no such table: |unknown database /
const MISSING_COLUMN = /has no column named owner|no such column: owner/
const CONCURRENT_COLUMN = /duplicate column name: owner/

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

/** @param {string} value */
const text = (value) => `CAST(${bytes(Buffer.from(value))} AS TEXT)`

/**
 * Whether a row keeps its owner when the fence is raised: its token is higher, or is equal and has an owner.
 */
const KEEPS = 'token > excluded.token OR (token = excluded.token AND owner_token IS token)'
const RAISE = 'token = max(token, excluded.token)'
/** @type {(column: string) => string} */
const replace = (column) => `${column} = CASE WHEN ${KEEPS} THEN ${column} ELSE excluded.${column} END`
/** Stores an owner, too. */
const RAISE_OWNED = `${RAISE}, ${replace('owner')}, ${replace('owner_token')}`

const ANSWER = 'hex(resource) AS resource, CAST(token AS TEXT) AS token'
/** After a fence with an owner, a row with its token has the owner of that token. */
const OWNER = 'CAST(owner AS TEXT) AS owner'

/**
 * SQLite has no code of its own for most mistakes in a statement.
 * @param {RegExp} sentence
 */
const says = (sentence) => byCause(({ message }) => typeof message === 'string' && sentence.test(message))

/**
 * @param {{ table: string, name: string, schema: string | undefined }} names `table` quoted, the others not
 * @returns {Dialect}
 */
function sqlite({ table, name, schema }) {
  const ddl = `CREATE TABLE IF NOT EXISTS ${table} (resource BLOB NOT NULL PRIMARY KEY, token INTEGER NOT NULL, owner INTEGER, owner_token INTEGER) WITHOUT ROWID`
  /** @type {Dialect['select']} */
  const select = (keys, owners) =>
    `SELECT ${ANSWER}${owners ? `, ${OWNER}` : ''} FROM ${table} WHERE resource IN (${keys.map(bytes).join(', ')})`
  /** @type {(columns: string, rows: string[], changes: string, answer: string) => string} */
  const upsert = (columns, rows, changes, answer) =>
    `INSERT INTO ${table} (${columns}) VALUES ${rows.join(', ')} ` +
    `ON CONFLICT (resource) DO UPDATE SET ${changes} RETURNING ${answer}`
  const place = [name, ...(schema === undefined ? [] : [schema])].map(text).join(', ')
  return {
    table,
    ddl,
    creation: [ddl],
    columns: `SELECT name FROM pragma_table_info(${place}) WHERE name IN ('owner', 'owner_token')`,
    addColumn: (column) => `ALTER TABLE ${table} ADD COLUMN ${column} INTEGER`,
    fence: (keys, token, owner) =>
      owner === undefined
        ? upsert(
            'resource, token',
            keys.map((key) => `(${bytes(key)}, ${token})`),
            RAISE,
            ANSWER,
          )
        : upsert(
            'resource, token, owner, owner_token',
            keys.map((key) => `(${bytes(key)}, ${token}, ${owner}, ${token})`),
            RAISE_OWNED,
            `${ANSWER}, ${OWNER}`,
          ),
    read: (keys) => select(keys, false),
    select,
    stored: (answer) => storedIn(answer?.rows),
    isConflict: byCause((error) => isCode(error, BUSY, 'SQLITE_BUSY')),
    isConcurrentCreate: says(CONCURRENT_COLUMN),
    isMissingTable: says(MISSING_TABLE),
    isMissingColumn: says(MISSING_COLUMN),
    // A failed COMMIT leaves the transaction open, and it is rolled back. Only after a disk error the outcome
    // is unknown.
    isRefusal: byCause(
      (error) => (error.errcode ?? error.code) !== undefined && !isCode(error, IOERR, 'SQLITE_IOERR'),
    ),
  }
}

module.exports = { isCode, quote, sqlite }
