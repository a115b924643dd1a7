'use strict'

/** The options of `list`. */

const { invalid } = require('../errors.js')
const { STRATEGIES, names } = require('../strategies.js')
const { LIST_KEYS, elsewhere } = require('./keys.js')
const { MAX_RESOURCE_BYTES } = require('./names.js')
const { abortSignal, object, oneOf, optional, string } = require('./validate.js')

/** @typedef {import('../strategies.js').StrategyInfo} StrategyInfo */

/**
 * @param {unknown} value
 * @param {StrategyInfo} fallback
 */
function listOptions(value, fallback) {
  const options = object('options', value, LIST_KEYS, { elsewhere })
  const { strategy = fallback.name, prefix = '', signal } = options
  const start = string('prefix', prefix)
  if (Buffer.byteLength(start) > MAX_RESOURCE_BYTES) {
    throw invalid(
      RangeError,
      `prefix must have at most ${MAX_RESOURCE_BYTES} bytes of UTF-8, as a resource, got ${Buffer.byteLength(start)}`,
    )
  }
  return {
    strategy: STRATEGIES[oneOf('strategy', strategy, names)],
    prefix: start,
    signal: optional(abortSignal, 'signal', signal),
  }
}

module.exports = { listOptions }
