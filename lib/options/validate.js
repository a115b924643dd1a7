'use strict'

/** What the options of every kind are checked with. Messages never show a value that may be a secret. */

const { invalid } = require('../errors.js')

/**
 * What messages say of a value that is none of what is expected. Never the value itself: what is given in the wrong
 * place may be a password, a key, or a URL with a password in it.
 */
function kind(value) {
  if (value === null || value === undefined) return String(value)
  if (Array.isArray(value)) return 'an array'
  if (typeof value !== 'object') return `a ${typeof value}`
  const tag = tagOf(value)
  return tag === 'Object' ? 'an object' : `an object of type ${tag}`
}

/** `Map`, `Date`, `Uint8Array`, …; `Object` for plain objects and the instances of ordinary classes. */
function tagOf(value) {
  return Object.prototype.toString.call(value).slice('[object '.length, -1)
}

function wrongType(name, expected, value, hint = '') {
  return invalid(TypeError, `${name} must be ${expected}, got ${kind(value)}${hint}`)
}

/** How many single edits turn one word into the other, swaps of neighbours included. */
function distance(a, b) {
  const rows = [Array.from({ length: b.length + 1 }, (_, j) => j)]
  for (let i = 1; i <= a.length; i++) {
    rows[i] = [i]
    for (let j = 1; j <= b.length; j++) {
      const same = a[i - 1] === b[j - 1] ? 0 : 1
      rows[i][j] = Math.min(rows[i - 1][j] + 1, rows[i][j - 1] + 1, rows[i - 1][j - 1] + same)
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) {
        rows[i][j] = Math.min(rows[i][j], rows[i - 2][j - 2] + 1)
      }
    }
  }
  return rows[a.length][b.length]
}

/** What was meant by a word that is not among the known ones, if one is near enough. */
function nearest(word, known) {
  const lower = word.toLowerCase()
  return known
    .map((candidate) => ({ candidate, edits: distance(lower, candidate.toLowerCase()) }))
    .filter(({ candidate, edits }) => edits <= Math.max(2, Math.floor(candidate.length / 3)))
    .toSorted((a, b) => a.edits - b.edits)[0]?.candidate
}

function integer(name, value, { min, max }) {
  if (typeof value !== 'number') throw wrongType(name, 'a number', value)
  if (!Number.isInteger(value) || value < min || value > max) {
    // Nothing that was given for redis is shown.
    const got = name.startsWith('redis.') ? '' : `, got ${value}`
    throw invalid(RangeError, `${name} must be an integer from ${min} to ${max}${got}`)
  }
  return value
}

function optional(check, name, value, ...rest) {
  return value === undefined ? undefined : check(name, value, ...rest)
}

function string(name, value) {
  if (typeof value !== 'string') throw wrongType(name, 'a string', value)
  // Lone surrogates all become the same character on their way to the addon.
  if (!value.isWellFormed())
    throw invalid(TypeError, `${name} must be well-formed Unicode, but has a lone surrogate`)
  return value
}

function boolean(name, value) {
  if (typeof value !== 'boolean') throw wrongType(name, 'true or false', value)
  return value
}

function oneOf(name, value, choices) {
  const expected = choices.map((choice) => JSON.stringify(choice)).join(' or ')
  if (typeof value !== 'string') throw wrongType(name, expected, value)
  if (!choices.includes(value)) {
    const near = nearest(value, choices)
    const hint = near === undefined ? 'got another string' : `did you mean ${JSON.stringify(near)}?`
    throw invalid(RangeError, `${name} must be ${expected}; ${hint}`)
  }
  return value
}

/** A number without an upper end, or none at all: Infinity. */
function integerOrInfinity(name, value, min) {
  if (typeof value !== 'number') throw wrongType(name, 'a number', value)
  if (value === Infinity || (Number.isSafeInteger(value) && value >= min)) return value
  throw invalid(
    RangeError,
    `${name} must be an integer from ${min} to ${Number.MAX_SAFE_INTEGER}, or Infinity, got ${value}`,
  )
}

module.exports = {
  boolean,
  integer,
  integerOrInfinity,
  kind,
  nearest,
  oneOf,
  optional,
  string,
  tagOf,
  wrongType,
}
