'use strict'

/** How calls of the addon end. */

const wire = require('./wire.js')

const { late: LATE } = wire.kind
const { lease: LEASE, token: TOKEN, received: RECEIVED } = wire.grant
const { ownerHigh: OWNER_HIGH, ownerMiddle: OWNER_MIDDLE, ownerLow: OWNER_LOW } = wire.grant

/** @import { Failure } from '../../binding.js' */

/** @typedef {ReturnType<import('../../binding.js').Bridge['detail']>} Detail */

/** A call that failed. */
class Failed {
  /** @param {Failure} failure */
  constructor(failure) {
    this.failure = failure
  }
}

/** The completion of a call that brought no lease. */
class Completed {
  /**
   * @param {number} kind
   * @param {number} value
   * @param {number} second
   * @param {Detail | undefined} detail
   */
  constructor(kind, value, second, detail) {
    this.kind = kind
    this.value = value
    /** Which resource is held, if one is. */
    this.second = second
    this.detail = detail
  }
}

/** A lease, as numbers. */
class Grant {
  /**
   * @param {number} kind
   * @param {Float64Array} numbers
   * @param {number} at where the lease begins in them
   */
  constructor(kind, numbers, at) {
    this.isLate = kind === LATE
    this.lease = number(numbers, at + LEASE)
    this.token = number(numbers, at + TOKEN)
    /** Acknowledgements; -1 if none were requested. */
    this.received = number(numbers, at + RECEIVED)
    /** The owner: 12, 12 and 8 hexadecimal digits. */
    this.ownerHigh = number(numbers, at + OWNER_HIGH)
    this.ownerMiddle = number(numbers, at + OWNER_MIDDLE)
    this.ownerLow = number(numbers, at + OWNER_LOW)
  }
}

/**
 * @param {Float64Array} numbers
 * @param {number} at
 */
function number(numbers, at) {
  return /** @type {number} */ (numbers[at])
}

module.exports = { Completed, Failed, Grant, number }
