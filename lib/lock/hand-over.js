'use strict'

/**
 * Tickets: what names a lease that was handed over, as text. A ticket is a secret, because it is all that
 * taking the lease over needs: no message shows one.
 */

const { invalid } = require('../errors.js')
const { MAX_RESOURCE_BYTES, MAX_RESOURCES, resourceNames } = require('../options/names.js')
const { string } = require('../options/validate.js')
const { STRATEGIES } = require('../strategies.js')

/** @import { StrategyInfo } from '../strategies.js' */

/**
 * A lease that was handed over.
 * @typedef {object} Offer
 * @property {StrategyInfo} strategy
 * @property {string | readonly string[]} names a resource, or several
 * @property {string} owner 32 hexadecimal digits
 * @property {number} ttlMs that it was granted with
 */

const KIND = 'fencelock-ticket'
const VERSION = '1'
/** JSON has six bytes for one at most, and base64 four for three; the rest is for what a ticket has once. */
const MAX_LENGTH = MAX_RESOURCES * (MAX_RESOURCE_BYTES * 6 + 3) * (4 / 3) + 1_000

/**
 * @param {Offer} offer
 * @param {string} prefix of the manager
 */
function writeTicket({ strategy, names, owner, ttlMs }, prefix) {
  const resources = typeof names === 'string' ? [names] : names
  const content = { strategy: strategy.name, prefix: prefixOf(strategy, prefix), resources, owner, ttlMs }
  return `${KIND}.${VERSION}.${Buffer.from(JSON.stringify(content)).toString('base64url')}`
}

/**
 * @param {unknown} value
 * @param {string} prefix of the manager
 * @returns {Offer}
 */
function readTicket(value, prefix) {
  const text = string('a ticket', value)
  const [kind, version, content = ''] = text.length > MAX_LENGTH ? [] : text.split('.')
  if (kind !== KIND) {
    throw invalid(TypeError, 'this is no ticket: lock.handOver() makes one, and adopt needs all of it')
  }
  if (version !== VERSION) {
    throw invalid(
      RangeError,
      `the ticket is of another version than ${VERSION}: use the same version of fencelock in both processes`,
    )
  }
  const { offer, prefix: its } = parse(content)
  if (its !== prefixOf(offer.strategy, prefix)) {
    throw invalid(
      RangeError,
      'the ticket is of a manager with another prefix: give both managers the same option prefix',
    )
  }
  return offer
}

/** @param {string} content */
function parse(content) {
  try {
    const text = Buffer.from(content, 'base64url').toString()
    const fields = /** @type {Record<string, unknown>} */ (JSON.parse(text))
    const { strategy, prefix, resources, owner, ttlMs } = fields
    const names = resourceNames(resources)
    const known = Object.values(STRATEGIES).find(({ name }) => name === strategy)
    if (known !== undefined && typeof names !== 'string' && isOwner(owner) && typeof ttlMs === 'number') {
      const [first = '', ...others] = names
      /** @type {Offer} */
      const offer = { strategy: known, names: others.length === 0 ? first : names, owner, ttlMs }
      return { offer, prefix }
    }
  } catch {
    // What is wrong with it would show a part of it.
  }
  throw invalid(TypeError, 'the ticket is damaged: adopt needs all of what lock.handOver() returned')
}

/**
 * @param {unknown} value
 * @returns {value is string}
 */
function isOwner(value) {
  return typeof value === 'string' && /^[0-9a-f]{32}$/.test(value)
}

/**
 * Lock files have no prefix.
 * @param {StrategyInfo} strategy
 * @param {string} prefix
 */
function prefixOf(strategy, prefix) {
  return strategy.prefixed ? prefix : undefined
}

module.exports = { readTicket, writeTicket }
