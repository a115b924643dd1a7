'use strict'

/** Durations with units: `500ms`, `30s`, `1h30m`. */

const { UsageError } = require('../exit-codes.js')

const UNITS = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 }
const PART = /(\d+(?:\.\d+)?)(ms|[smhd])/y

/**
 * @param {string} name of the option
 * @param {string} text
 * @param {{ min: string, max: string }} [range] as durations
 * @returns {number} whole milliseconds
 */
function duration(name, text, range) {
  let total = 0
  let end = 0
  while (end < text.length) {
    PART.lastIndex = end
    const [part, amount, unit] = PART.exec(text) ?? []
    if (part === undefined) break
    total += Number(amount) * UNITS[/** @type {keyof typeof UNITS} */ (unit)]
    end += part.length
  }
  if (end === text.length && end > 0 && Number.isSafeInteger(Math.round(total))) {
    const whole = Math.round(total)
    if (range === undefined || isIn(whole, name, range)) return whole
    throw new UsageError(`${name} must be from ${range.min} to ${range.max}`)
  }
  const hint = /^\d+$/.test(text) ? `: give the unit, ${text}s or ${text}ms` : ''
  throw new UsageError(`${name} must be a duration such as 500ms, 30s, 5m or 1h30m${hint}`)
}

/**
 * @param {number} ms
 * @param {string} name
 * @param {{ min: string, max: string }} range
 */
function isIn(ms, name, { min, max }) {
  return ms >= duration(name, min) && ms <= duration(name, max)
}

/**
 * For people: three digits at most.
 * @param {number} ms
 */
function readable(ms) {
  if (ms === Infinity) return 'for ever'
  if (ms < 1_000) return `${Math.round(ms)} ms`
  const seconds = ms / 1_000
  if (seconds < 100) return `${seconds.toFixed(1)} s`
  const minutes = seconds / 60
  if (minutes < 100) return `${minutes.toFixed(1)} min`
  const hours = minutes / 60
  return hours < 100 ? `${hours.toFixed(1)} h` : `${(hours / 24).toFixed(1)} d`
}

module.exports = { duration, readable }
