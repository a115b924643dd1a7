'use strict'

/** The column form: for those who keep the token in a column of their own row instead of in the guard's table. */

const { kind, oneOf, string, wrongType } = require('../lib/check.js')
const { invalid } = require('../lib/errors.js')
const { quote: backticks } = require('./dialects/mysql.js')
const { quote } = require('./dialects/postgres.js')
const { MAX_TOKEN } = require('./lease.js')

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
  if (typeof options !== 'object' || options === null) throw wrongType('options', 'an object', options)
  const { table, set, where, token, fence = 'fence' } = options
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
  const target = name(identifier('table', table))
  const changes = columns('set', set).map(pair)
  const text = `UPDATE ${target} SET ${changes.join(', ')}, ${column} = ${number()} `
  const conditions = columns('where', where).map(pair)
  return { text: `${text}WHERE ${conditions.join(' AND ')} AND ${column} <= ${number()}`, values }
}

module.exports = { fencedUpdate }
