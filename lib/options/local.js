'use strict'

/** The manager's option `local`: the file of local locks. */

const { resolve } = require('node:path')
const { invalid } = require('../errors.js')
const { LOCAL_KEYS, elsewhere } = require('./keys.js')
const { boolean, object, oneOf, string } = require('./validate.js')

const DEFAULT_PATH = 'locks.sqlite'
/** At least two letters, because `C:` is a drive. */
const URL_LIKE = /^[a-z][a-z\d+.-]+:\/\//i

/** @param {string} text */
function looksLikeUrl(text) {
  return URL_LIKE.test(text)
}

/**
 * @param {unknown} [value] a path, or an object
 * @returns {import('../../binding.js').LocalConfig}
 */
function localConfig(value = DEFAULT_PATH) {
  const options =
    typeof value === 'string'
      ? /** @type {import('../../index.js').LocalOptions} */ ({ path: value })
      : object('local', value, LOCAL_KEYS, { elsewhere })
  const { path: given = DEFAULT_PATH, durability = 'normal', allowNetworkFilesystem = false } = options
  const path = string('local.path', given)
  if (path === '' || path === ':memory:' || path.includes('\0')) {
    throw invalid(
      RangeError,
      'local.path must name a file that processes can share: neither empty, nor :memory:, nor with a NUL in it',
    )
  }
  if (looksLikeUrl(path)) {
    throw invalid(
      RangeError,
      'local.path must be a path, got a URL; the URL of a Redis server belongs in redis',
    )
  }
  return {
    // Absolute from now on: a later chdir must not move the lock file.
    path: resolve(path),
    fullDurability: oneOf('local.durability', durability, ['normal', 'full']) === 'full',
    allowNetworkFilesystem: boolean('local.allowNetworkFilesystem', allowNetworkFilesystem),
  }
}

module.exports = { localConfig, looksLikeUrl }
