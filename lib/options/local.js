'use strict'

/** The manager's option `local`: the file of local locks, or none. */

const { isAbsolute, resolve } = require('node:path')
const { fileURLToPath } = require('node:url')

const { invalid } = require('../errors.js')
const { LOCAL_KEYS, elsewhere } = require('./keys.js')
const { assertGiven, boolean, isUrl, object, oneOf, optional, string, wrongType } = require('./validate.js')

const DEFAULT_PATH = 'locks.sqlite'
/** No file: the locks are in the memory of the manager. A file of this name is `./:memory:`. */
const MEMORY = ':memory:'
/** At least two letters, because `C:` is a drive. */
const URL_LIKE = /^[a-z][a-z\d+.-]+:\/\//i

/** @param {string} text */
function looksLikeUrl(text) {
  return URL_LIKE.test(text)
}

/**
 * @param {unknown} [value] a path, a URL, or options
 * @returns {import('../../binding.js').LocalConfig}
 */
function localConfig(value = DEFAULT_PATH) {
  const given = typeof value === 'string' || isUrl(value) ? { path: value } : value
  const options = object('local', given, LOCAL_KEYS, { elsewhere })
  const { durability = 'normal', allowNetworkFilesystem = false, mode } = options
  if ('path' in options) assertGiven('local.path', options.path, 'For the default file, leave out the key')
  const path = filePath(options.path)
  if (path === '' || path.includes('\0')) {
    throw invalid(RangeError, 'local.path must name a file: neither empty, nor with a NUL in it')
  }
  const isFile = path !== MEMORY
  if (!isFile) assertPathOnly(options)
  return {
    // Absolute from now on: a later chdir must not move the lock file.
    path: isFile ? resolve(path) : undefined,
    fullDurability: oneOf('local.durability', durability, ['normal', 'full']) === 'full',
    allowNetworkFilesystem: boolean('local.allowNetworkFilesystem', allowNetworkFilesystem),
    mode: optional(fileMode, 'local.mode', mode),
    relative: !isAbsolute(path),
  }
}

/**
 * What is in memory has nothing but its name.
 * @param {Record<string, unknown>} options
 */
function assertPathOnly(options) {
  const other = Object.keys(options).find((key) => key !== 'path' && options[key] !== undefined)
  if (other === undefined) return
  throw invalid(
    RangeError,
    `local.${other} is about a file, and '${MEMORY}' is none; the path of a file of that name is './${MEMORY}'`,
  )
}

/**
 * @param {unknown} [value] a path, or a URL of one
 */
function filePath(value = DEFAULT_PATH) {
  if (isUrl(value)) {
    if (value.protocol !== 'file:') throw notAPath('the URL of a Redis server belongs in redis')
    try {
      return fileURLToPath(value.href)
    } catch {
      throw notAPath('and this one is not of a file on this host')
    }
  }
  const path = string('local.path', value)
  if (/^file:\/\//i.test(path)) throw notAPath('pass a URL of a file as an object, new URL(…)')
  if (looksLikeUrl(path)) throw notAPath('the URL of a Redis server belongs in redis')
  return path
}

/** @param {string} hint */
function notAPath(hint) {
  return invalid(RangeError, `local.path must be a path, got a URL; ${hint}`)
}

/**
 * @param {string} name
 * @param {unknown} value
 */
function fileMode(name, value) {
  if (typeof value !== 'number') throw wrongType(name, 'a number', value)
  // The creator has to read and write the file; it is not a program.
  if (Number.isInteger(value) && value >= 0o600 && value <= 0o666 && (value & ~0o066) === 0o600) return value
  throw invalid(
    RangeError,
    `${name} must have the bits 0o600 and no others than 0o066, such as 0o600 or 0o660, got ${value}`,
  )
}

module.exports = { localConfig, looksLikeUrl }
