'use strict'

/** Checks that options of every kind share. Messages never show a value that may be a secret. */

const { isUint8Array } = require('node:util').types

const { invalid } = require('../errors.js')

/**
 * Describes a value of the wrong kind. Never shows the value itself: what is passed in the wrong place may be
 * a password, a key, or a URL with a password in it.
 * @param {unknown} value
 */
function kind(value) {
  if (value === null || value === undefined) return String(value)
  if (Array.isArray(value)) return 'an array'
  if (typeof value !== 'object') return `a ${typeof value}`
  const tag = tagOf(value)
  return tag === 'Object' ? 'an object' : `an object of type ${tag}`
}

/**
 * `Map`, `Date`, `Uint8Array`, …; `Object` for plain objects and the instances of ordinary classes.
 * @param {unknown} value
 */
function tagOf(value) {
  return Object.prototype.toString.call(value).slice('[object '.length, -1)
}

/**
 * The known word that was probably meant. Loaded when it is needed, which is only for an error.
 * @param {string} word
 * @param {readonly string[]} known
 */
function nearest(word, known) {
  return require('./suggest.js').nearest(word, known)
}

/**
 * @param {string} name
 * @param {string} expected
 * @param {unknown} value
 * @param {string} [hint]
 */
function wrongType(name, expected, value, hint = '') {
  return invalid(TypeError, `${name} must be ${expected}, got ${kind(value)}${hint}`)
}

/**
 * @param {string} name
 * @param {unknown} value
 * @param {{ min: number, max: number }} range
 */
function integer(name, value, { min, max }) {
  if (typeof value !== 'number') throw wrongType(name, 'a number', value)
  if (!Number.isInteger(value) || value < min || value > max) {
    // No value of the redis options is shown.
    const got = name.startsWith('redis.') ? '' : `, got ${value}`
    throw invalid(RangeError, `${name} must be an integer from ${min} to ${max}${got}`)
  }
  return value
}

/**
 * @template T
 * @template {readonly unknown[]} Rest
 * @param {(name: string, value: unknown, ...rest: Rest) => T} check
 * @param {string} name
 * @param {unknown} value
 * @param {Rest} rest
 * @returns {T | undefined}
 */
function optional(check, name, value, ...rest) {
  return value === undefined ? undefined : check(name, value, ...rest)
}

/**
 * @param {string} name
 * @param {unknown} value
 */
function string(name, value) {
  if (typeof value !== 'string') throw wrongType(name, 'a string', value)
  // On their way to the addon, all lone surrogates become the same character.
  if (!value.isWellFormed()) {
    throw invalid(TypeError, `${name} must be well-formed Unicode, but has a lone surrogate`)
  }
  return value
}

/**
 * @param {string} name
 * @param {unknown} value
 */
function boolean(name, value) {
  if (typeof value !== 'boolean') throw wrongType(name, 'true or false', value)
  return value
}

/**
 * @template {string} Choice
 * @param {string} name
 * @param {unknown} value
 * @param {readonly Choice[]} choices
 */
function oneOf(name, value, choices) {
  const quoted = choices.map((choice) => JSON.stringify(choice))
  const expected = `${quoted.slice(0, -1).join(', ')} or ${quoted.at(-1)}`
  if (typeof value !== 'string') throw wrongType(name, expected, value)
  const chosen = choices.find((choice) => choice === value)
  if (chosen !== undefined) return chosen
  const near = nearest(value, choices)
  const hint = near === undefined ? 'got another string' : `did you mean ${JSON.stringify(near)}?`
  throw invalid(RangeError, `${name} must be ${expected}; ${hint}`)
}

/**
 * A number without an upper limit. `Infinity` is allowed.
 * @param {string} name
 * @param {unknown} value
 * @param {number} min
 */
function integerOrInfinity(name, value, min) {
  if (typeof value !== 'number') throw wrongType(name, 'a number', value)
  if (value === Infinity || (Number.isSafeInteger(value) && value >= min)) return value
  throw invalid(
    RangeError,
    `${name} must be an integer from ${min} to ${Number.MAX_SAFE_INTEGER}, or Infinity, got ${value}`,
  )
}

/**
 * The options of an object that has only known keys; `undefined` counts as an empty one. A Map, a Date or a
 * Promise has no other keys either, but is a mistake. So only values that JavaScript tags as `Object` are
 * taken: plain objects, and instances of ordinary classes. The result has no prototype, so that reading a key
 * never finds what was added to Object.prototype.
 * @template {string} Key
 * @param {string} name
 * @param {unknown} value
 * @param {readonly Key[]} keys
 * @param {{ hint?: string, elsewhere?: (key: string) => string | undefined }} [more] `hint` is added when it
 *   is not an object; `elsewhere` says where an unknown key belongs
 * @returns {{ readonly [K in Key]?: unknown }}
 */
function object(name, value, keys, { hint, elsewhere } = {}) {
  if (value === undefined) return /** @type {{ readonly [K in Key]?: unknown }} */ (NONE)
  if (typeof value !== 'object' || value === null || tagOf(value) !== 'Object') {
    throw wrongType(name, 'an object', value, hint)
  }
  for (const key of Object.keys(value)) {
    if (includes(keys, key)) continue
    // Names are code, so they may be shown; values are not.
    throw invalid(
      TypeError,
      `unknown option ${JSON.stringify(key)} in ${name}; ${elsewhere?.(key) ?? similar(key, keys)}`,
    )
  }
  const options = /** @type {{ [K in Key]?: unknown }} */ (Object.create(null))
  for (const key of keys) if (hasProperty(value, key)) options[key] = Reflect.get(value, key)
  return options
}

/**
 * A backend that is named, but not given, comes from a variable that is not set. Without it the manager would
 * have another default, with a weaker guarantee.
 * @param {string} name
 * @param {unknown} value
 * @param {string} cure a sentence, for those who want the default
 */
function assertGiven(name, value, cure) {
  if (value !== undefined && value !== null && value !== '') return
  throw invalid(
    value === '' ? RangeError : TypeError,
    `${name} is given, but ${value === '' ? 'empty' : value}: is the variable set that it comes from? ${cure}`,
  )
}

/** @type {Readonly<Record<string, unknown>>} */
const NONE = Object.freeze(/** @type {Record<string, unknown>} */ (Object.create(null)))

/**
 * Whether an object has a property, of its own or of its classes: what is on Object.prototype, perhaps
 * because another package was tricked into writing there, does not count.
 * @param {object} value
 * @param {PropertyKey} key
 */
function hasProperty(value, key) {
  /** @type {object | null} */
  let at = value
  while (at !== null && !isRoot(at)) {
    if (Object.hasOwn(at, key)) return true
    at = /** @type {object | null} */ (Object.getPrototypeOf(at))
  }
  return false
}

/**
 * A property as {@link hasProperty} finds it; undefined without it.
 * @param {object} value
 * @param {PropertyKey} key
 * @returns {unknown}
 */
function propertyOf(value, key) {
  return hasProperty(value, key) ? Reflect.get(value, key) : undefined
}

/**
 * Whether this is the Object.prototype of some realm.
 * @param {object} value
 */
function isRoot(value) {
  if (value === Object.prototype) return true
  return Object.getPrototypeOf(value) === null && Object.hasOwn(value, 'isPrototypeOf')
}

/**
 * @param {unknown} value
 * @returns {value is URL} of this realm, of another one, or of a polyfill
 */
function isUrl(value) {
  return typeof value === 'object' && value !== null && tagOf(value) === 'URL'
}

/**
 * @param {string} name
 * @param {unknown} value
 */
function abortSignal(name, value) {
  if (typeof value !== 'object' || value === null) throw wrongType(name, 'an AbortSignal', value)
  // Signals of polyfills and of other realms, too.
  const { aborted, addEventListener, removeEventListener } =
    /** @type {{ readonly [K in 'aborted' | 'addEventListener' | 'removeEventListener']?: unknown }} */ (
      value
    )
  const listens = typeof addEventListener === 'function' && typeof removeEventListener === 'function'
  if (!listens || typeof aborted !== 'boolean') throw wrongType(name, 'an AbortSignal', value)
  return /** @type {AbortSignal} */ (value)
}

/**
 * @param {readonly string[]} keys
 * @param {string} key
 */
function includes(keys, key) {
  return keys.includes(key)
}

/**
 * @param {string} key
 * @param {readonly string[]} keys
 */
function similar(key, keys) {
  const near = nearest(key, keys)
  return near === undefined ? `known are ${keys.join(', ')}` : `did you mean ${JSON.stringify(near)}?`
}

/**
 * The names of options. A table of the type `Record<keyof Options, true>` ties them to their declaration: an
 * option that is missing in either fails the type check.
 * @template {string} Key
 * @param {Record<Key, true>} table
 */
function keysOf(table) {
  return /** @type {Key[]} */ (/** @type {unknown} */ (Object.keys(table)))
}

module.exports = {
  assertGiven,
  abortSignal,
  boolean,
  hasProperty,
  integer,
  integerOrInfinity,
  isUint8Array,
  isUrl,
  keysOf,
  kind,
  nearest,
  object,
  oneOf,
  optional,
  propertyOf,
  string,
  tagOf,
  wrongType,
}
