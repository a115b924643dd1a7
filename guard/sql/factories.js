'use strict'

/** The functions that make the guards of SQL stores. */

const { invalid } = require('../../lib/errors.js')
const {
  boolean,
  hasProperty,
  keysOf,
  kind,
  object,
  oneOf,
  wrongType,
} = require('../../lib/options/validate.js')
const { hasMethods } = require('../core/properties.js')
const { mariadb } = require('./adapters/mariadb.js')
const { mysql2 } = require('./adapters/mysql2.js')
const { pg } = require('./adapters/pg.js')
const { bunMysql, postgresJs } = require('./adapters/postgres-js.js')
const { syncSqlite } = require('./adapters/sqlite.js')
const mysqlDialect = require('./dialects/mysql.js')
const postgresDialect = require('./dialects/postgres.js')
const sqliteDialect = require('./dialects/sqlite.js')
const { SqlGuard } = require('./guard.js')
const { identifier } = require('./identifier.js')
const { SyncSqliteGuard } = require('./sync-guard.js')

/** @import * as Public from '../index.js' */

/** @type {readonly Public.IsolationLevel[]} */
const ISOLATION_LEVELS = ['read uncommitted', 'read committed', 'repeatable read', 'serializable']

/** @type {Record<keyof Public.GuardOptions | 'client' | 'adapter', true>} */
const commonOptions = { client: true, adapter: true, table: true, schema: true, abortOnLoss: true }
/** @type {Record<keyof Public.IsolatedGuardOptions | 'client' | 'adapter', true>} */
const isolatedOptions = { ...commonOptions, isolation: true }

const COMMON_KEYS = keysOf(commonOptions)
const ISOLATED_KEYS = keysOf(isolatedOptions)

/**
 * How a database writes and limits names.
 * @typedef {object} Naming
 * @property {(name: string) => string} quote
 * @property {(name: string) => boolean} [fits]
 * @property {string} [limit] what `fits` checks, for messages
 */

/**
 * PostgreSQL truncates longer names, with a notice that clients do not show.
 * @type {Naming}
 */
const postgresNaming = {
  quote: postgresDialect.quote,
  fits: (name) => Buffer.byteLength(name) <= 63,
  limit: ', of at most 63 bytes',
}
/** @type {Naming} */
const mysqlNaming = {
  quote: mysqlDialect.quote,
  fits: (name) => name.length <= 64 && !name.endsWith(' '),
  limit: ', of at most 64 characters, without a space at its end',
}
/** @type {Naming} */
const sqliteNaming = { quote: sqliteDialect.quote }

/**
 * @param {string} factory whose options they are
 * @param {unknown} value
 * @param {readonly (keyof typeof isolatedOptions)[]} keys
 * @param {((client: object) => object | undefined)[]} adapters of the clients that may be given
 */
function readOptions(factory, value, keys, adapters) {
  if (value === undefined) throw wrongType('options', 'an object', value)
  const hasClient = isObject(value) && (hasProperty(value, 'client') || hasProperty(value, 'adapter'))
  if (isObject(value) && !hasClient && adapters.some((find) => find(value) !== undefined)) {
    throw invalid(TypeError, `${factory} takes options, not the client itself: ${factory}({ client })`)
  }
  const {
    client,
    adapter,
    table = 'fencelock_fences',
    schema,
    abortOnLoss = false,
    isolation,
  } = object('options', value, keys)
  return {
    client,
    adapter,
    table,
    schema,
    abortOnLoss: boolean('abortOnLoss', abortOnLoss),
    isolation: isolation === undefined ? undefined : oneOf('isolation', isolation, ISOLATION_LEVELS),
  }
}

/**
 * Quoted, so that every name is one, and not SQL.
 * @param {{ table: unknown, schema: unknown }} settings
 * @param {Naming} naming
 */
function tableName({ table, schema }, { quote, ...rule }) {
  const of = 'table or schema'
  const name = quote(identifier('table', table, { of, ...rule }))
  return schema === undefined ? name : `${quote(identifier('schema', schema, { of, ...rule }))}.${name}`
}

/**
 * @param {unknown} client
 * @param {unknown} adapter
 * @param {string} clients what `client` may be
 */
function assertOneOf(client, adapter, clients) {
  if ((client === undefined) === (adapter === undefined)) {
    throw invalid(
      TypeError,
      `a guard takes a client or an adapter: client may be ${clients}; adapter is for any other`,
    )
  }
}

/**
 * @param {unknown} adapter of the user
 * @returns {Public.SqlAdapter<any>} whose transactions are of a type that only the user knows
 */
function readAdapter(adapter) {
  if (!isObject(adapter) || !hasMethods(adapter, 'transaction', 'query')) {
    throw invalid(
      TypeError,
      `adapter must have the methods transaction and query, see SqlAdapter, got ${kind(adapter)}`,
    )
  }
  return /** @type {Public.SqlAdapter<unknown>} */ (/** @type {unknown} */ (adapter))
}

/**
 * The first of these adapters that recognizes the client.
 * @template Adapter
 * @param {unknown} client
 * @param {((client: object) => Adapter | undefined)[]} adapters
 * @param {string} clients what they recognize
 */
function adapterFor(client, adapters, clients) {
  if (isObject(client)) {
    for (const find of adapters) {
      const found = find(client)
      if (found !== undefined) return found
    }
  }
  throw wrongType('client', clients, client, '; for another client pass an adapter, see SqlAdapter')
}

/**
 * @param {unknown} value
 * @returns {value is object}
 */
function isObject(value) {
  return (typeof value === 'object' && value !== null) || typeof value === 'function'
}

/**
 * @param {ReturnType<typeof readOptions>} settings
 * @param {((client: object) => Public.SqlAdapter<any> | undefined)[]} adapters each with a type of its own
 *   for transactions
 * @param {string} clients
 */
function findAdapter({ client, adapter }, adapters, clients) {
  assertOneOf(client, adapter, clients)
  return adapter === undefined ? adapterFor(client, adapters, clients) : readAdapter(adapter)
}

/** @param {unknown} options */
function postgresGuard(options) {
  const adapters = [pg, postgresJs]
  const settings = readOptions('postgresGuard', options, ISOLATED_KEYS, adapters)
  const adapter = findAdapter(
    settings,
    adapters,
    'a Pool or Client of pg, the function that postgres() returns, or Bun.sql',
  )
  const dialect = postgresDialect.postgres(tableName(settings, postgresNaming))
  return new SqlGuard(adapter, dialect, settings)
}

/** @param {unknown} options */
function mysqlGuard(options) {
  const adapters = [mysql2, mariadb, bunMysql]
  const settings = readOptions('mysqlGuard', options, ISOLATED_KEYS, adapters)
  const adapter = findAdapter(
    settings,
    adapters,
    'a pool or connection of mysql2 or of mariadb (its promise API), or Bun.sql',
  )
  const dialect = mysqlDialect.mysql(tableName(settings, mysqlNaming))
  return new SqlGuard(adapter, dialect, settings)
}

/**
 * @template {object} Client
 * @overload
 * @param {Public.GuardOptions & { client: Client }} options
 * @returns {Public.SqliteGuard<Client>}
 */
/**
 * @template Tx
 * @overload
 * @param {Public.GuardOptions & { adapter: Public.SqlAdapter<Tx> }} options
 * @returns {Public.SqlGuard<Tx>}
 */
/** @param {unknown} options */
function sqliteGuard(options) {
  const settings = readOptions('sqliteGuard', options, COMMON_KEYS, [syncSqlite])
  const clients = 'a database of better-sqlite3, node:sqlite or bun:sqlite'
  const { client, adapter } = settings
  assertOneOf(client, adapter, clients)
  const dialect = () => {
    const table = tableName(settings, sqliteNaming)
    // They were checked above.
    const { table: name, schema } = /** @type {{ table: string, schema: string | undefined }} */ (settings)
    return sqliteDialect.sqlite({ table, name, schema })
  }
  if (adapter !== undefined) return new SqlGuard(readAdapter(adapter), dialect(), settings)
  return new SyncSqliteGuard(adapterFor(client, [syncSqlite], clients), dialect(), settings)
}

module.exports = { mysqlGuard, postgresGuard, sqliteGuard }
