'use strict'

/** The error classes. Loads no other module, so that code that only checks errors needs no addon. */

/** @import * as Public from '../index.js' */
/** @import { Failure } from '../binding.js' */

/**
 * Makes `instanceof` work across two copies of this package: it looks for a mark, not for the class.
 * @param {Function} Class
 */
function brand(Class) {
  const mark = Symbol.for(`fencelock.${Class.name}`)
  Object.defineProperty(Class.prototype, mark, { value: true })
  Object.defineProperty(Class.prototype, 'name', { value: Class.name, writable: true, configurable: true })
  Object.defineProperty(Class, Symbol.hasInstance, {
    /** @param {unknown} value on the left of `instanceof` */
    value(value) {
      // A user's subclass inherits this function, but refers to itself.
      if (this !== Class) return Function.prototype[Symbol.hasInstance].call(this, value)
      if (typeof value !== 'object' || value === null) return false
      return /** @type {Record<symbol, unknown>} */ (value)[mark] === true
    },
  })
}

/**
 * What an error carries besides its message. Further fields depend on its class.
 * @typedef {object} ErrorFields
 * @property {Public.LockErrorCode} code
 * @property {string | undefined} resource
 * @property {Public.Strategy | undefined} strategy
 * @property {unknown} [cause]
 */

class LockError extends Error {
  /**
   * @param {string} message
   * @param {ErrorFields & Record<string, unknown>} fields
   */
  constructor(message, { code, resource, strategy, cause, ...fields }) {
    super(message, cause === undefined ? undefined : { cause })
    this.code = code
    this.resource = resource
    this.strategy = strategy
    Object.assign(this, fields)
  }

  toJSON() {
    /** @type {object} */
    const own = Object.assign({ name: this.name, message: this.message }, this)
    const json = /** @type {Record<string, unknown>} */ (own)
    // Tokens: JSON has no bigint, and a number would lose digits.
    for (const [key, value] of Object.entries(json)) if (typeof value === 'bigint') json[key] = String(value)
    if (this.cause !== undefined) json.cause = messageOf(this.cause)
    return json
  }
}

/** @param {unknown} cause */
function messageOf(cause) {
  const { message = cause } = /** @type {{ message?: unknown }} */ (cause ?? {})
  return String(message)
}

class LockHeldError extends LockError {}
class InsufficientReplicasError extends LockError {}
class OutcomeUnknownError extends LockError {}
class LockLostError extends LockError {}
class BackendUnavailableError extends LockError {}
class UnsupportedError extends LockError {}
class StaleTokenError extends LockError {}
class ClosedError extends LockError {}

const classes = {
  LockError,
  LockHeldError,
  InsufficientReplicasError,
  OutcomeUnknownError,
  LockLostError,
  BackendUnavailableError,
  UnsupportedError,
  StaleTokenError,
  ClosedError,
}
for (const Class of Object.values(classes)) brand(Class)

/** @type {Record<Public.LockErrorCode, typeof LockError>} */
const byCode = {
  LOCK_HELD: LockHeldError,
  INSUFFICIENT_REPLICAS: InsufficientReplicasError,
  OUTCOME_UNKNOWN: OutcomeUnknownError,
  LOCK_LOST: LockLostError,
  BACKEND_UNAVAILABLE: BackendUnavailableError,
  UNSUPPORTED: UnsupportedError,
  STALE_TOKEN: StaleTokenError,
  CLOSED: ClosedError,
}

/**
 * A native TypeError or RangeError with the code of invalid arguments.
 * @param {TypeErrorConstructor | RangeErrorConstructor} Class
 * @param {string} message
 */
function invalid(Class, message) {
  return Object.assign(new Class(message), { code: 'INVALID_OPTION' })
}

/**
 * How messages name a lock.
 * @param {string | undefined} strategy
 * @param {string | undefined} resource
 */
function title(strategy, resource) {
  return resource === undefined ? `${strategy} locks` : `${strategy} lock ${JSON.stringify(resource)}`
}

/**
 * The error for a failure that the addon reported. Call it after the await, where the stack contains the
 * caller.
 * @param {Failure} failure
 * @param {Public.Strategy} [strategy]
 * @param {string} [resource]
 */
function fromFailure({ code, message, cause, ...fields }, strategy, resource) {
  if (code === 'INVALID_OPTION') return invalid(TypeError, message)
  const known = /** @type {Public.LockErrorCode} */ (code)
  return new byCode[known](`${title(strategy, resource)}: ${message}`, {
    code: known,
    resource,
    strategy,
    ...(cause === undefined ? undefined : { cause: new Error(cause) }),
    ...fields,
  })
}

/**
 * Another owner holds it.
 * @param {Public.Strategy} strategy
 * @param {string} resource
 * @param {number} waitMs
 * @param {number | undefined} remainingMs undefined when the backend does not know
 */
function held(strategy, resource, waitMs, remainingMs) {
  const [still, waited, advice] =
    waitMs > 0
      ? ['still ', ` after waiting for ${waitMs} ms`, 'pass a longer waitMs']
      : ['', '', 'pass waitMs to wait']
  const until =
    remainingMs === undefined
      ? ', or other callers are queued for it'
      : ` (lease ends in ${remainingMs} ms unless renewed)`
  return new LockHeldError(
    `${title(strategy, resource)} is ${still}held by another owner${waited}${until}; nothing was granted. ` +
      `Retry later, or ${advice}`,
    { code: 'LOCK_HELD', resource, strategy, remainingMs },
  )
}

/**
 * The lease ended: the reason of `lock.signal`.
 * @param {Public.Strategy} strategy
 * @param {string} resource
 * @param {string} message
 * @param {unknown} [cause]
 */
function lost(strategy, resource, message, cause) {
  return new LockLostError(`${title(strategy, resource)}: ${message}`, {
    code: 'LOCK_LOST',
    resource,
    strategy,
    cause,
  })
}

module.exports = { ...classes, fromFailure, held, invalid, lost }
