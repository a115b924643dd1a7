'use strict'

/** The guards of SQL stores, as users make them. */

const { boolean, kind, nearest, oneOf, string, wrongType } = require('../../lib/options/validate.js')
const { invalid } = require('../../lib/errors.js')
const { mariadb } = require('./adapters/mariadb.js')
const { mysql2 } = require('./adapters/mysql2.js')
const { pg } = require('./adapters/pg.js')
const { bunMysql, postgresJs } = require('./adapters/postgres-js.js')
const { syncSqlite } = require('./adapters/sqlite.js')
const mysqlDialect = require('./dialects/mysql.js')
const postgresDialect = require('./dialects/postgres.js')
const sqliteDialect = require('./dialects/sqlite.js')
const { SqlGuard } = require('./guard.js')
const { SyncSqliteGuard } = require('./sync-guard.js')

const ISOLATION = ['read uncommitted', 'read committed', 'repeatable read', 'serializable']
const COMMON_KEYS = ['client', 'adapter', 'table', 'schema', 'abortOnLoss']
const ISOLATED_KEYS = [...COMMON_KEYS, 'isolation']

/** A longer name is cut by PostgreSQL, with a notice that nobody sees. */
const postgresName = (name) => Buffer.byteLength(name) <= 63
const mysqlName = (name) => name.length <= 64 && !name.endsWith(' ')

/** Quoted, so that every name is one, and no SQL. */
function identifier(name, value, quote, fits, limit) {
  string(name, value)
  if (value === '' || value.includes('\0') || !fits(value)) {
    throw invalid(RangeError, `${name} must be the name of a table or schema: not empty, without NUL${limit}`)
  }
  return quote(value)
}

function readOptions(options, keys) {
  if (typeof options !== 'object' || options === null) throw wrongType('options', 'an object', options)
  for (const key of Object.keys(options)) {
    if (keys.includes(key)) continue
    const near = nearest(key, keys)
    throw invalid(
      TypeError,
      `unknown option ${JSON.stringify(key)} of a guard; ${near === undefined ? `known are ${keys.join(', ')}` : `did you mean ${JSON.stringify(near)}?`}`,
    )
  }
  const { table = 'fencelock_fences', schema, abortOnLoss = false, isolation } = options
  return {
    ...options,
    table,
    schema,
    abortOnLoss: boolean('abortOnLoss', abortOnLoss),
    isolation: isolation === undefined ? undefined : oneOf('isolation', isolation, ISOLATION),
  }
}

function tableName({ table, schema }, quote, fits, limit) {
  const name = identifier('table', table, quote, fits, limit)
  return schema === undefined ? name : `${identifier('schema', schema, quote, fits, limit)}.${name}`
}

/** The adapter that was given, or the one that knows the client. */
function findAdapter({ client, adapter }, known, clients) {
  if ((client === undefined) === (adapter === undefined)) {
    throw invalid(
      TypeError,
      `a guard takes a client or an adapter: client may be ${clients}; adapter is for any other`,
    )
  }
  if (adapter !== undefined) {
    if (typeof adapter?.transaction !== 'function' || typeof adapter.query !== 'function') {
      throw invalid(
        TypeError,
        `adapter must have the methods transaction and query, see SqlAdapter, got ${kind(adapter)}`,
      )
    }
    return adapter
  }
  if ((typeof client === 'object' && client !== null) || typeof client === 'function') {
    for (const find of known) {
      const found = find(client)
      if (found !== undefined) return found
    }
  }
  throw wrongType('client', clients, client, '; for another client give an adapter, see SqlAdapter')
}

function postgresGuard(options) {
  const settings = readOptions(options, ISOLATED_KEYS)
  const adapter = findAdapter(
    settings,
    [pg, postgresJs],
    'a Pool or Client of pg, the function that postgres() gives, or Bun.sql',
  )
  const table = tableName(settings, postgresDialect.quote, postgresName, ', of at most 63 bytes')
  return new SqlGuard(adapter, postgresDialect.postgres(table), settings)
}

function mysqlGuard(options) {
  const settings = readOptions(options, ISOLATED_KEYS)
  const adapter = findAdapter(
    settings,
    [mysql2, mariadb, bunMysql],
    'a pool or connection of mysql2 or of mariadb (its promise API), or Bun.sql',
  )
  const table = tableName(
    settings,
    mysqlDialect.quote,
    mysqlName,
    ', of at most 64 characters, without a space at its end',
  )
  return new SqlGuard(adapter, mysqlDialect.mysql(table), settings)
}

function sqliteGuard(options) {
  const settings = readOptions(options, COMMON_KEYS)
  const adapter = findAdapter(
    settings,
    [syncSqlite],
    'a database of better-sqlite3, node:sqlite or bun:sqlite',
  )
  const table = tableName(settings, sqliteDialect.quote, () => true, '')
  const dialect = sqliteDialect.sqlite(table)
  return settings.client === undefined
    ? new SqlGuard(adapter, dialect, settings)
    : new SyncSqliteGuard(adapter, dialect, settings)
}

module.exports = { mysqlGuard, postgresGuard, sqliteGuard }
