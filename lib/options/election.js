'use strict'

/** The options of `elect`. */

const { invalid } = require('../errors.js')
const { ELECT_KEYS, elsewhere } = require('./keys.js')
const { abortSignal, object, optional } = require('./validate.js')

/**
 * Those of the acquires of a campaign, which wait for as long as it takes and renew what they get.
 * @param {unknown} value
 */
function electionOptions(value) {
  const { renew = true, signal, ...rest } = object('options', value, ELECT_KEYS, { elsewhere: why })
  if (renew === false) {
    throw invalid(
      TypeError,
      'renew of elect must be true or an object: a leader that is not renewed stops leading',
    )
  }
  const given = { ...rest, renew, waitMs: Infinity }
  // Each attempt of the campaign checks the others.
  return {
    .../** @type {import('../../index.js').StrongOptions} */ (given),
    signal: optional(abortSignal, 'signal', signal),
  }
}

/** @param {string} key */
function why(key) {
  if (key === 'waitMs') return 'elect waits until it leads; its signal ends that'
  return elsewhere(key)
}

module.exports = { electionOptions }
