'use strict'

/** MySQL and MariaDB. */

const { byCause } = require('./driver-error.js')
const { storedIn } = require('./rows.js')

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
const MISSING_COLUMN = 1054
const DUPLICATE_COLUMN = 1060

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
 * Whether a row's token is equal and has an owner. `ON DUPLICATE KEY UPDATE` assigns from left to right, so
 * this must stay the same until the token is assigned.
 */
const OWNED = '(token = VALUES(token) AND owner_token <=> token)'
/** @type {(column: string) => string} */
const replace = (column) => `${column} = IF(token > VALUES(token) OR ${OWNED}, ${column}, VALUES(${column}))`
const HIGHER = 'LAST_INSERT_ID(GREATEST(token, VALUES(token)))'
/** For the token of another owner the answer has no number. */
const HIGHER_OR_NONE = `IF(${OWNED} AND owner <> VALUES(owner), token + LAST_INSERT_ID(0), ${HIGHER})`

const ANSWER = 'HEX(resource) AS resource, CAST(token AS CHAR) AS token'
/** After a fence with an owner, a row with its token has the owner of that token. */
const OWNER = 'CAST(owner AS CHAR) AS owner'

/**
 * `ON DUPLICATE KEY UPDATE` reports 0 rows for an equal token and for a stale one. So the statement stores
 * the higher token and passes it to LAST_INSERT_ID, which the server sends in its answer: one round trip.
 * There is only one such number, so the tokens of several resources need another statement, and so does a
 * token that is another owner's; their rows are locked by then.
 * @type {Dialect['stored']}
 */
function stored(answer, keys) {
  const { rows, insertId } = answer ?? {}
  if (rows !== undefined && rows.length > 0) return storedIn(rows)
  const [key, ...others] = keys
  if (key === undefined || others.length > 0) return undefined
  if (insertId === undefined || insertId === null || !isExact(insertId)) return undefined
  const token = BigInt(insertId)
  return token > 0n ? new Map([[key.toString('hex'), { token, owner: undefined }]]) : undefined
}

/**
 * @param {string} table quoted
 * @returns {Dialect}
 */
function mysql(table) {
  // InnoDB by name: in an engine without transactions the fence would protect nothing.
  const ddl = `CREATE TABLE IF NOT EXISTS ${table} (resource VARBINARY(512) NOT NULL PRIMARY KEY, token BIGINT NOT NULL, owner BIGINT, owner_token BIGINT) ENGINE=InnoDB`
  /** @type {Dialect['select']} */
  const select = (keys, owners) =>
    `SELECT ${ANSWER}${owners ? `, ${OWNER}` : ''} FROM ${table} WHERE resource IN (${keys.map(bytes).join(', ')})`
  /** @type {(columns: string, rows: string[], changes: string) => string} */
  const upsert = (columns, rows, changes) =>
    `INSERT INTO ${table} (${columns}) VALUES ${rows.join(', ')} ON DUPLICATE KEY UPDATE ${changes}`
  return {
    table,
    ddl,
    creation: [ddl],
    columns: `SHOW COLUMNS FROM ${table} WHERE Field IN ('owner', 'owner_token')`,
    addColumn: (name) => `ALTER TABLE ${table} ADD COLUMN ${name} BIGINT`,
    fence: (keys, token, owner) =>
      owner === undefined
        ? upsert(
            'resource, token',
            keys.map((key) => `(${bytes(key)}, LAST_INSERT_ID(${token}))`),
            `token = ${HIGHER}`,
          )
        : upsert(
            'resource, token, owner, owner_token',
            keys.map((key) => `(${bytes(key)}, LAST_INSERT_ID(${token}), ${owner}, ${token})`),
            `${replace('owner')}, ${replace('owner_token')}, token = ${HIGHER_OR_NONE}`,
          ),
    read: (keys) => select(keys, false),
    // A locking read sees what is committed, and takes no snapshot for the callback's reads.
    select: (keys, owners) => `${select(keys, owners)} FOR UPDATE`,
    stored,
    isConflict: rollsBack,
    isConcurrentCreate: byCause(({ errno }) => errno === DUPLICATE_COLUMN),
    isMissingTable: byCause(({ errno }) => MISSING_TABLES.some((number) => number === errno)),
    isMissingColumn: byCause(({ errno }) => errno === MISSING_COLUMN),
    isRefusal: byCause(({ errno }) => REFUSALS.some((number) => number === errno)),
  }
}

module.exports = { mysql, quote, rollsBack }
