'use strict'

/**
 * PostgreSQL. Statements hold their values as hexadecimal and decimal digits, which nothing can break out of: without
 * parameters `BEGIN` and the fence travel in one message of the simple protocol, no server-side prepared statement is
 * left behind a connection pooler, and every client and query builder can send them.
 */

const { byCause } = require('./errors.js')

/**
 * @typedef {object} Dialect
 * @property {string} ddl
 * @property {string[]} migration the same, as it is done
 * @property {(keys: Buffer[], token: bigint) => string} fence raises every stored token to this one, lowers none
 * @property {(keys: Buffer[]) => string} read the tokens, waiting for nobody
 * @property {(keys: Buffer[]) => string} select the tokens, behind a fence in the same transaction
 * @property {(answer: import('../../index').SqlAnswer, keys: Buffer[]) => Map<string, bigint> | undefined} tokens by key in
 *   hexadecimal; undefined when the answer does not tell them
 * @property {(error: unknown) => boolean} isConflict another transaction was in the way: do it again
 * @property {(error: unknown) => boolean} isConcurrentCreate another process creates the table, too
 * @property {(error: unknown) => boolean} isRefusal an error at COMMIT that says that nothing was committed
 */

/** Serialization failure and dead-lock. */
const CONFLICTS = new Set(['40001', '40P01'])
/** Tables and their types are unique, too. */
const TWINS = new Set(['23505', '42P07', '42710'])
/**
 * Connection exceptions, "completion unknown", and what a server says that is out of resources, fails or ends: these may come
 * after the commit. 25P03 and 25P04 end the connection. By their codes, for the server speaks its own language else.
 */
const UNKNOWN = /^(08|53|57P|58|XX|25P0[34]|40003)/

const sqlState = (error) => {
  // Bun has a code of its own, and the server's in errno.
  const found = [error.code, error.errno].find(
    (code) => typeof code === 'string' && /^[\dA-Z]{5}$/.test(code),
  )
  // Node's own codes look alike: EPIPE.
  return found !== undefined && /\d/.test(found) ? found : undefined
}

const quote = (name) => `"${name.replaceAll('"', '""')}"`
const bytes = (key) => `decode('${key.toString('hex')}','hex')`

/** Text and hexadecimal: whatever a client's type parsers make of numbers and bytes, these stay what they are. */
const tokens = (answer) =>
  new Map((answer?.rows ?? []).map(({ resource, token }) => [resource, BigInt(token)]))

/** @param {string} table quoted @returns {Dialect} */
function postgres(table) {
  const ddl = `CREATE TABLE IF NOT EXISTS ${table} (resource bytea PRIMARY KEY, token bigint NOT NULL)`
  const select = (keys) =>
    `SELECT encode(resource, 'hex') AS resource, token::text AS token FROM ${table} WHERE resource IN (${keys.map(bytes).join(', ')})`
  return {
    ddl,
    // Without the notice that the table is there already, which some clients print.
    migration: ['SET LOCAL client_min_messages TO warning', ddl],
    fence: (keys, token) =>
      `INSERT INTO ${table} AS f (resource, token) VALUES ${keys.map((key) => `(${bytes(key)}, ${token})`).join(', ')} ` +
      'ON CONFLICT (resource) DO UPDATE SET token = GREATEST(f.token, EXCLUDED.token) ' +
      "RETURNING encode(f.resource, 'hex') AS resource, f.token::text AS token",
    read: select,
    select,
    tokens,
    isConflict: byCause((error) => CONFLICTS.has(sqlState(error))),
    isConcurrentCreate: byCause((error) => TWINS.has(sqlState(error))),
    isRefusal: byCause((error) => {
      // Bun's word for a COMMIT that was answered with ROLLBACK.
      if (error.code === 'ERR_POSTGRES_COMMIT_ROLLED_BACK') return true
      const state = sqlState(error)
      return state !== undefined && !UNKNOWN.test(state)
    }),
  }
}

module.exports = { postgres, quote }
