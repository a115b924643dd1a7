'use strict'

/** MySQL and MariaDB. */

const { byCause } = require('./errors.js')

/** Dead-lock; MariaDB: changed since the snapshot. */
const CONFLICTS = new Set([1213, 1020])
/** With these the server has rolled back all of the transaction by itself. */
const undoes = byCause(({ errno }) => CONFLICTS.has(errno))
/** What a COMMIT can be answered with when nothing was committed: those, a cluster's conflict, a read-only server. */
const REFUSALS = new Set([...CONFLICTS, 3101, 1290, 1836])

const quote = (name) => `\`${name.replaceAll('`', '``')}\``
/** A hexadecimal literal is a binary string, whatever the character set and the SQL mode. */
const bytes = (key) => `X'${key.toString('hex')}'`

/** Larger numbers of a driver may have lost digits. */
const exact = (value) => typeof value !== 'number' || Number.isSafeInteger(value)

/**
 * `ON DUPLICATE KEY UPDATE` reports 0 rows for an equal and for a stale token alike. So the statement stores the higher
 * token and gives it to LAST_INSERT_ID, which the server sends in its answer: one round trip. There is only one such
 * number, so the tokens of several resources are asked for; their rows are locked by then.
 */
function tokens(answer, keys) {
  const { rows, insertId } = answer ?? {}
  if (rows !== undefined && rows.length > 0) {
    return new Map(rows.map(({ resource, token }) => [resource.toLowerCase(), BigInt(token)]))
  }
  if (keys.length > 1 || insertId === undefined || insertId === null || !exact(insertId)) return undefined
  const token = BigInt(insertId)
  return token > 0n ? new Map([[keys[0].toString('hex'), token]]) : undefined
}

const selectFrom = (table, keys) =>
  `SELECT HEX(resource) AS resource, CAST(token AS CHAR) AS token FROM ${table} WHERE resource IN (${keys.map(bytes).join(', ')})`

/** @param {string} table quoted @returns {import('./postgres').Dialect} */
function mysql(table) {
  // InnoDB by name: with an engine that has no transactions the fence would protect nothing.
  const ddl = `CREATE TABLE IF NOT EXISTS ${table} (resource VARBINARY(512) NOT NULL PRIMARY KEY, token BIGINT NOT NULL) ENGINE=InnoDB`
  return {
    ddl,
    migration: [ddl],
    fence: (keys, token) =>
      `INSERT INTO ${table} (resource, token) VALUES ${keys.map((key) => `(${bytes(key)}, LAST_INSERT_ID(${token}))`).join(', ')} ` +
      'ON DUPLICATE KEY UPDATE token = LAST_INSERT_ID(GREATEST(token, VALUES(token)))',
    read: (keys) => selectFrom(table, keys),
    // A locking read sees what is committed, and takes no snapshot that the callback's reads would be bound to.
    select: (keys) => `${selectFrom(table, keys)} FOR UPDATE`,
    tokens,
    isConflict: undoes,
    isConcurrentCreate: () => false,
    isRefusal: byCause(({ errno }) => REFUSALS.has(errno)),
  }
}

module.exports = { mysql, quote, undoes }
