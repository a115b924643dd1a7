'use strict'

/**
 * The column form: the token is a column of the row that it protects, instead of being in the guard's table.
 */

const { invalid } = require('../../lib/errors.js')
const { keysOf, object, oneOf, wrongType } = require('../../lib/options/validate.js')
const { readToken } = require('../core/token.js')
const mysql = require('./dialects/mysql.js')
const postgres = require('./dialects/postgres.js')
const sqlite = require('./dialects/sqlite.js')
const { identifier } = require('./identifier.js')

/** @import { FencedUpdate } from '../index.js' */

/** @type {Record<keyof FencedUpdate, true>} */
const options = { table: true, schema: true, set: true, where: true, token: true, fence: true }
const KEYS = keysOf(options)

/** How each dialect quotes names, and calls a 64-bit integer. */
const DIALECTS = {
  postgres: { quote: postgres.quote, integer: 'bigint' },
  mysql: { quote: mysql.quote, integer: 'SIGNED' },
  sqlite: { quote: sqlite.quote, integer: 'INTEGER' },
}
const NAMES = /** @type {const} */ (['postgres', 'mysql', 'sqlite'])

/**
 * @param {string} name
 * @param {unknown} value
 */
const nameOf = (name, value) => identifier(name, value, { of: 'column or table' })

/**
 * The entries of `{ column: value }`, at least one.
 * @param {string} name
 * @param {unknown} value
 * @returns {[string, unknown][]}
 */
function columns(name, value) {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw wrongType(name, 'an object of columns and values', value)
  }
  const entries = Object.entries(value)
  if (entries.length === 0) throw invalid(RangeError, `${name} must name a column`)
  return entries.map(([column, of]) => [nameOf(`a column of ${name}`, column), of])
}

/**
 * @param {'postgres' | 'mysql' | 'sqlite'} dialect
 * @param {FencedUpdate} update
 */
function fencedUpdate(dialect, update) {
  const { quote, integer } = DIALECTS[oneOf('dialect', dialect, NAMES)]
  const { table, schema, set, where, token: given, fence = 'fence' } = object('options', update, KEYS)
  const token = readToken('token', given)
  /** @type {unknown[]} */
  const values = []
  /** @param {unknown} value */
  const parameter = (value) => {
    values.push(value)
    return dialect === 'postgres' ? `$${values.length}` : '?'
  }
  /** @param {[string, unknown]} entry */
  const equation = ([column, of]) => `${quote(column)} = ${parameter(of)}`
  // Sent as text, so that no client loses digits, and cast by the database: compared as text, '10' is less
  // than '9'.
  const number = () => `CAST(${parameter(String(token))} AS ${integer})`
  const column = quote(nameOf('fence', fence))
  const prefix = schema === undefined ? '' : `${quote(nameOf('schema', schema))}.`
  const target = prefix + quote(nameOf('table', table))
  const changes = columns('set', set).map(equation)
  const text = `UPDATE ${target} SET ${changes.join(', ')}, ${column} = ${number()} `
  const chosen = columns('where', where)
  for (const [at, of] of chosen) {
    // It would find no row, as if the token were stale.
    if (of === null || of === undefined) {
      throw invalid(TypeError, `where.${at} must be a value, got ${of}: in SQL nothing is equal to NULL`)
    }
  }
  const conditions = chosen.map(equation)
  return { text: `${text}WHERE ${conditions.join(' AND ')} AND ${column} <= ${number()}`, values }
}

module.exports = { fencedUpdate }
