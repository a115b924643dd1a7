'use strict'

/**
 * The owner of a lock, as stores keep it beside the token: two owners may have one token after a network
 * split. A hash, because it has one size in every store, and does not tell the owner, by which a lock is
 * released.
 */

const { createHash } = require('node:crypto')

const { invalid } = require('../../lib/errors.js')
const { propertyOf, string } = require('../../lib/options/validate.js')

const HASH = /^[\da-f]{16}$/

/**
 * The first 64 bits of the owner's SHA-256, as 16 hexadecimal digits.
 * @param {string} owner
 */
function hashOf(owner) {
  return createHash('sha256').update(owner).digest('hex').slice(0, 16)
}

/**
 * The hash as the integer that SQL databases store, which have only signed ones.
 * @param {string} hash
 */
function toInteger(hash) {
  return BigInt.asIntN(64, BigInt(`0x${hash}`))
}

/**
 * The hash of a lock's owner; undefined if the lock does not say who owns it.
 * @param {object} lock
 */
function readOwner(lock) {
  const hash = propertyOf(lock, 'ownerHash') ?? undefined
  if (hash !== undefined) {
    if (HASH.test(string('lock.ownerHash', hash))) return /** @type {string} */ (hash)
    throw invalid(RangeError, 'lock.ownerHash must have 16 digits, hexadecimal and in lower case')
  }
  const owner = propertyOf(lock, 'owner') ?? undefined
  if (owner === undefined) return undefined
  const text = string('lock.owner', owner)
  if (text === '') throw invalid(RangeError, 'lock.owner must not be empty: leave it out if there is none')
  return hashOf(text)
}

module.exports = { readOwner, toInteger }
