'use strict'

/** PostgreSQL. */

const { byCause } = require('./driver-error.js')
const { storedIn } = require('./rows.js')

/** @import { Dialect } from './dialect.js' */
/** @import { DriverError } from './driver-error.js' */

/** Serialization failure and deadlock. */
const CONFLICTS = new Set(['40001', '40P01'])
/** The name of a table is unique, and so are those of its type and of its columns. */
const CONCURRENT_CREATES = new Set(['23505', '42P07', '42710', '42701'])
/** There is no such table, or no such schema. */
const MISSING_TABLES = new Set(['42P01', '3F000'])
const MISSING_COLUMNS = new Set(['42703'])
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
  // Node's own codes look similar (EPIPE), and so do Prisma's (P2010).
  return typeof state === 'string' && /\d/.test(state) && !/^P[1-9]/.test(state) ? state : undefined
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
/** @param {string} value */
const text = (value) => `convert_from(${bytes(Buffer.from(value))}, 'UTF8')`

/**
 * Whether a row keeps its owner when the fence is raised: its token is higher, or is equal and has an owner.
 */
const KEEPS =
  'f.token > EXCLUDED.token OR (f.token = EXCLUDED.token AND f.owner_token IS NOT DISTINCT FROM f.token)'
const RAISE = 'token = GREATEST(f.token, EXCLUDED.token)'
/** @type {(column: string) => string} */
const replace = (column) => `${column} = CASE WHEN ${KEEPS} THEN f.${column} ELSE EXCLUDED.${column} END`
/** Stores an owner, too. */
const RAISE_OWNED = `${RAISE}, ${replace('owner')}, ${replace('owner_token')}`

/** Text and hexadecimal: a client's type parsers for numbers and bytes cannot change these. */
const ANSWER = "encode(f.resource, 'hex') AS resource, f.token::text AS token"
/** After a fence with an owner, a row with its token has the owner of that token. */
const OWNER = 'f.owner::text AS owner'

/**
 * @param {string} table quoted
 * @returns {Dialect}
 */
function postgres(table) {
  const ddl = `CREATE TABLE IF NOT EXISTS ${table} (resource bytea PRIMARY KEY, token bigint NOT NULL, owner bigint, owner_token bigint)`
  /** @type {Dialect['select']} */
  const select = (keys, owners) =>
    `SELECT ${ANSWER}${owners ? `, ${OWNER}` : ''} FROM ${table} AS f WHERE resource IN (${keys.map(bytes).join(', ')})`
  /** @type {(columns: string, rows: string[], changes: string, answer: string) => string} */
  const upsert = (columns, rows, changes, answer) =>
    `INSERT INTO ${table} AS f (${columns}) VALUES ${rows.join(', ')} ` +
    `ON CONFLICT (resource) DO UPDATE SET ${changes} RETURNING ${answer}`
  return {
    table,
    ddl,
    // Without the notice that the table exists already, which some clients print.
    creation: ['SET LOCAL client_min_messages TO warning', ddl],
    columns:
      `SELECT attname::text AS name FROM pg_attribute WHERE attrelid = to_regclass(${text(table)}) ` +
      "AND attname IN ('owner', 'owner_token') AND NOT attisdropped",
    addColumn: (name) => `ALTER TABLE ${table} ADD COLUMN ${name} bigint`,
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
    isConflict: byCause((error) => hasState(error, CONFLICTS)),
    isConcurrentCreate: byCause((error) => hasState(error, CONCURRENT_CREATES)),
    isMissingTable: byCause((error) => hasState(error, MISSING_TABLES)),
    isMissingColumn: byCause((error) => hasState(error, MISSING_COLUMNS)),
    isRefusal: byCause((error) => {
      // Bun reports this for a COMMIT that the server answered with ROLLBACK.
      if (error.code === 'ERR_POSTGRES_COMMIT_ROLLED_BACK') return true
      const state = sqlState(error)
      return state !== undefined && !UNKNOWN.test(state)
    }),
  }
}

module.exports = { postgres, quote }
