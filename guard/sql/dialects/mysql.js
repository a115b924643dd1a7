'use strict'

/** MySQL and MariaDB. */

const { byCause } = require('./driver-error.js')

/** @import { Dialect } from './dialect.js' */

/**
 * Deadlock; in MariaDB: changed since the snapshot. With these the server has rolled back the whole
 * transaction.
 */
const CONFLICTS = [1213, 1020]
/**
 * Errors at COMMIT that say that nothing was committed: those, the conflict of a cluster, and a read-only
 * server.
 */
const REFUSALS = [...CONFLICTS, 3101, 1290, 1836]

/** There is no such table, or no such database. */
const MISSING_TABLES = [1146, 1049]

const rollsBack = byCause(({ errno }) => CONFLICTS.some((number) => number === errno))

/** @param {string} name */
const quote = (name) => `\`${name.replaceAll('`', '``')}\``
/**
 * A hexadecimal literal is a binary string, whatever the character set and the SQL mode.
 * @param {Buffer} key
 */
const bytes = (key) => `X'${key.toString('hex')}'`

/**
 * A driver's larger numbers may have lost digits.
 * @param {number | bigint | string} value
 */
const isExact = (value) => typeof value !== 'number' || Number.isSafeInteger(value)

/**
 * `ON DUPLICATE KEY UPDATE` reports 0 rows for an equal token and for a stale one. So the statement stores
 * the higher token and passes it to LAST_INSERT_ID, which the server sends in its answer: one round trip.
 * There is only one such number, so the tokens of several resources need another statement; their rows are
 * locked by then.
 * @type {Dialect['tokens']}
 */
function tokens(answer, keys) {
  const { rows, insertId } = answer ?? {}
  if (rows !== undefined && rows.length > 0) {
    return new Map(rows.map(({ resource, token }) => [resource.toLowerCase(), BigInt(token)]))
  }
  const [key, ...others] = keys
  if (key === undefined || others.length > 0) return undefined
  if (insertId === undefined || insertId === null || !isExact(insertId)) return undefined
  const token = BigInt(insertId)
  return token > 0n ? new Map([[key.toString('hex'), token]]) : undefined
}

/**
 * @param {string} table quoted
 * @returns {Dialect}
 */
function mysql(table) {
  // InnoDB by name: in an engine without transactions the fence would protect nothing.
  const ddl = `CREATE TABLE IF NOT EXISTS ${table} (resource VARBINARY(512) NOT NULL PRIMARY KEY, token BIGINT NOT NULL) ENGINE=InnoDB`
  /** @type {Dialect['read']} */
  const read = (keys) =>
    `SELECT HEX(resource) AS resource, CAST(token AS CHAR) AS token FROM ${table} WHERE resource IN (${keys.map(bytes).join(', ')})`
  return {
    table,
    ddl,
    migration: [ddl],
    fence: (keys, token) =>
      `INSERT INTO ${table} (resource, token) VALUES ${keys.map((key) => `(${bytes(key)}, LAST_INSERT_ID(${token}))`).join(', ')} ` +
      'ON DUPLICATE KEY UPDATE token = LAST_INSERT_ID(GREATEST(token, VALUES(token)))',
    read,
    // A locking read sees what is committed, and takes no snapshot for the callback's reads.
    select: (keys) => `${read(keys)} FOR UPDATE`,
    tokens,
    isConflict: rollsBack,
    isConcurrentCreate: () => false,
    isMissingTable: byCause(({ errno }) => MISSING_TABLES.some((number) => number === errno)),
    isRefusal: byCause(({ errno }) => REFUSALS.some((number) => number === errno)),
  }
}

module.exports = { mysql, quote, rollsBack }
