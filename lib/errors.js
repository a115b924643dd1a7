'use strict'

/**
 * The error classes. Loads nothing, so that code that only checks errors needs no addon.
 */

/** Errors of two copies of this package are the same to `instanceof`: what counts is this mark, not the class. */
function brand(Class) {
  const mark = Symbol.for(`fencelock.${Class.name}`)
  Object.defineProperty(Class.prototype, mark, { value: true })
  Object.defineProperty(Class.prototype, 'name', { value: Class.name, writable: true, configurable: true })
  Object.defineProperty(Class, Symbol.hasInstance, {
    value(value) {
      // A user's own subclass inherits this function, but means itself.
      if (this !== Class) return Function.prototype[Symbol.hasInstance].call(this, value)
      return typeof value === 'object' && value !== null && value[mark] === true
    },
  })
}

class LockError extends Error {
  constructor(message, { code, resource, strategy, cause, ...fields }) {
    super(message, cause === undefined ? undefined : { cause })
    this.code = code
    this.resource = resource
    this.strategy = strategy
    Object.assign(this, fields)
  }

  toJSON() {
    const json = Object.assign({ name: this.name, message: this.message }, this)
    // Tokens: JSON has no bigint, and a number would lose digits.
    for (const [key, value] of Object.entries(json)) if (typeof value === 'bigint') json[key] = String(value)
    if (this.cause !== undefined) json.cause = String(this.cause?.message ?? this.cause)
    return json
  }
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

/** A native TypeError or RangeError that carries the code of invalid arguments. */
function invalid(Class, message) {
  return Object.assign(new Class(message), { code: 'INVALID_OPTION' })
}

/** How messages name a lock. */
function title(strategy, resource) {
  return resource === undefined ? `${strategy} locks` : `${strategy} lock ${JSON.stringify(resource)}`
}

/**
 * The error for a failure the addon reported. Call it where the caller's stack is at hand, after the await.
 * @param {import('../binding').Failure} failure
 */
function fromFailure({ code, message, cause, ...fields }, strategy, resource) {
  if (code === 'INVALID_OPTION') return invalid(TypeError, message)
  return new byCode[code](`${title(strategy, resource)}: ${message}`, {
    code,
    resource,
    strategy,
    ...(cause === undefined ? undefined : { cause: new Error(cause) }),
    ...fields,
  })
}

/** Somebody else has it. `remainingMs` is undefined when the backend cannot tell. */
function held(strategy, resource, waitMs, remainingMs) {
  const waited = waitMs > 0 ? ` after waiting for ${waitMs} ms` : ''
  const until =
    remainingMs === undefined
      ? ', or others are in line for it'
      : `, for ${remainingMs} ms more unless it is extended or released`
  const advice = waitMs > 0 ? 'try again later, or wait longer (waitMs)' : 'try again later, or wait (waitMs)'
  return new LockHeldError(
    `${title(strategy, resource)} is held by somebody else${waited}${until}; nothing was granted: ${advice}`,
    {
      code: 'LOCK_HELD',
      resource,
      strategy,
      remainingMs,
    },
  )
}

/** The lease ended: the reason of `lock.signal`. */
function lost(strategy, resource, message, cause) {
  return new LockLostError(`${title(strategy, resource)}: ${message}`, {
    code: 'LOCK_LOST',
    resource,
    strategy,
    cause,
  })
}

module.exports = { ...classes, fromFailure, held, invalid, lost }
