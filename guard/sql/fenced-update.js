'use strict'

/** The column form: for those who keep the token in a column of their own row instead of in the guard's table. */

const { kind, oneOf, string, wrongType } = require('../../lib/options/validate.js')
const { invalid } = require('../../lib/errors.js')
const { known } = require('../core/options.js')
const { MAX_TOKEN } = require('../core/token.js')
const { quote: backticks } = require('./dialects/mysql.js')
const { quote } = require('./dialects/postgres.js')

const KEYS = ['table', 'schema', 'set', 'where', 'token', 'fence']

/** What a 64-bit integer is called, by dialect. */
const INTEGER = { postgres: 'bigint', mysql: 'SIGNED', sqlite: 'INTEGER' }

function identifier(name, value) {
  if (string(name, value) === '' || value.includes('\0')) {
    throw invalid(RangeError, `${name} must be the name of a column or table: not empty, without NUL`)
  }
  return value
}

/** `{ column: value }`, not empty. */
function columns(name, value) {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw wrongType(name, 'an object of columns and values', value)
  }
  const entries = Object.entries(value)
  if (entries.length === 0) throw invalid(RangeError, `${name} must name a column`)
  return entries.map(([column, of]) => [identifier(`a column of ${name}`, column), of])
}

function fencedUpdate(dialect, options) {
  oneOf('dialect', dialect, Object.keys(INTEGER))
  const { table, schema, set, where, token, fence = 'fence' } = known('options', options, KEYS)
  if (typeof token !== 'bigint') throw invalid(TypeError, `token must be a bigint, got ${kind(token)}`)
  if (token < 1n || token > MAX_TOKEN)
    throw invalid(RangeError, `token must be from 1n to ${MAX_TOKEN}n, got ${token}n`)
  const name = dialect === 'mysql' ? backticks : quote
  const values = []
  const value = (given) => {
    values.push(given)
    return dialect === 'postgres' ? `$${values.length}` : '?'
  }
  const pair = ([column, of]) => `${name(column)} = ${value(of)}`
  // Sent as text, so that no client loses digits, and made a number by the database: as texts '10' is less than '9'.
  const number = () => `CAST(${value(String(token))} AS ${INTEGER[dialect]})`
  const column = name(identifier('fence', fence))
  const prefix = schema === undefined ? '' : `${name(identifier('schema', schema))}.`
  const target = prefix + name(identifier('table', table))
  const changes = columns('set', set).map(pair)
  const text = `UPDATE ${target} SET ${changes.join(', ')}, ${column} = ${number()} `
  const chosen = columns('where', where)
  for (const [at, of] of chosen) {
    // It would find no row, and that is how a stale token looks.
    if (of === null || of === undefined) {
      throw invalid(TypeError, `where.${at} must be a value, got ${of}: in SQL nothing is equal to NULL`)
    }
  }
  const conditions = chosen.map(pair)
  return { text: `${text}WHERE ${conditions.join(' AND ')} AND ${column} <= ${number()}`, values }
}

module.exports = { fencedUpdate }
