'use strict'

/** The text of an owner. */

const BYTES = Array.from({ length: 256 }, (_, value) => value.toString(16).padStart(2, '0'))
const HALF = 2 ** 24

/**
 * Six hexadecimal digits.
 * @param {number} number below 2^24
 */
function digits(number) {
  return byte(number >>> 16) + byte((number >>> 8) & 0xff) + byte(number & 0xff)
}

/** @param {number} number below 2^8 */
function byte(number) {
  return /** @type {string} */ (BYTES[number])
}

/**
 * By a table, because each owner is read twice when calls are published: `toString(16)` of numbers above 2^31
 * takes more than ten times as long in Node.
 * @param {number} high its first 12 hexadecimal digits
 * @param {number} middle the next 12
 * @param {number} low the last 8
 */
function ownerText(high, middle, low) {
  const [first, third, fifth] = [Math.trunc(high / HALF), Math.trunc(middle / HALF), Math.trunc(low / HALF)]
  return (
    digits(first) +
    digits(high - first * HALF) +
    digits(third) +
    digits(middle - third * HALF) +
    byte(fifth) +
    digits(low - fifth * HALF)
  )
}

module.exports = { ownerText }
