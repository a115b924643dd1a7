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
 * What an error carries besides its message and the code of its class. Further fields depend on its class.
 * @typedef {object} ErrorFields
 * @property {string | undefined} [resource]
 * @property {Public.Strategy | undefined} [strategy]
 * @property {unknown} [cause]
 */

class LockError extends Error {
  /**
   * @param {string} message
   * @param {ErrorFields & Readonly<Record<string, unknown>>} [fields]
   */
  constructor(message, fields = {}) {
    if (typeof fields !== 'object' || fields === null) {
      throw invalid(TypeError, 'the second argument of an error must be an object of fields')
    }
    const { resource, strategy, cause, ...rest } = fields
    super(message, cause === undefined ? undefined : { cause })
    const { code, own } = kindOf(new.target)
    this.code = code
    this.help = helpFor(code)
    this.resource = resource
    this.strategy = strategy
    for (const [field, given] of Object.entries({ ...own, ...rest })) {
      if (RESERVED.has(field)) continue
      const value = given === undefined ? own[field] : given
      // Loggers, test runners and JSON.stringify fail on a bigint in what they copy from an error.
      const enumerable = typeof value !== 'bigint'
      Object.defineProperty(this, field, { value, enumerable, writable: true, configurable: true })
    }
  }

  toJSON() {
    /** @type {object} */
    const own = Object.assign({ name: this.name, message: this.message }, this)
    const json = /** @type {Record<string, unknown>} */ (own)
    for (const field of Object.keys(kindOf(this.constructor).own)) json[field] = Reflect.get(this, field)
    // Tokens: JSON has no bigint, and a number would lose digits.
    for (const [key, value] of Object.entries(json)) if (typeof value === 'bigint') json[key] = String(value)
    if (this.cause !== undefined) json.cause = messageOf(this.cause)
    return json
  }
}

/** What the fields of an error cannot change. */
const RESERVED = new Set(['name', 'message', 'stack', 'code', 'help', 'toJSON'])

/**
 * Where the documentation explains a code: a path in the project's repository. Hyphens, because GitHub keeps
 * an underscore of a heading in its anchor, and generators of sites do not.
 * @param {string} code
 */
function helpFor(code) {
  return `docs/reference/errors.md#${code.toLowerCase().replaceAll('_', '-')}`
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
 * The fields that only some classes have, with their values for an error that is made without them.
 * @type {{ readonly [Code in Public.LockErrorCode]?: Readonly<Record<string, unknown>> }}
 */
const OWN_FIELDS = {
  LOCK_HELD: { resources: Object.freeze([]), remainingMs: undefined, byCaller: false },
  INSUFFICIENT_REPLICAS: { required: 0, received: 0, connected: undefined, rolledBack: false },
  STALE_TOKEN: { token: 0n, current: 0n },
}

/**
 * @typedef {object} ErrorKind
 * @property {Public.LockErrorCode} code
 * @property {Readonly<Record<string, unknown>>} own the fields of the class, with their defaults
 */

/** @type {ReadonlyMap<Function, ErrorKind>} */
const kinds = new Map(
  Object.entries(byCode).map(([name, Class]) => {
    const code = /** @type {Public.LockErrorCode} */ (name)
    return [Class, { code, own: OWN_FIELDS[code] ?? {} }]
  }),
)

/**
 * The code and the fields of a class, or of the one that it extends.
 * @param {Function} Class
 */
function kindOf(Class) {
  /** @type {Function | null} */
  let each = Class
  while (each !== null) {
    const kind = kinds.get(each)
    if (kind !== undefined) return kind
    each = /** @type {Function | null} */ (Object.getPrototypeOf(each))
  }
  throw invalid(TypeError, 'LockError has no code of its own: make, or extend, one of its classes')
}

/**
 * A native TypeError or RangeError with the code of invalid arguments.
 * @param {TypeErrorConstructor | RangeErrorConstructor} Class
 * @param {string} message
 */
function invalid(Class, message) {
  const code = 'INVALID_OPTION'
  return Object.assign(new Class(message), { code, help: helpFor(code) })
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
 * @param {string} message
 * @param {string | undefined} code as errors of Node.js have it
 */
function causeOf(message, code) {
  const cause = new Error(message)
  return code === undefined ? cause : Object.assign(cause, { code })
}

/**
 * The error for a failure that the addon reported. Call it after the await, where the stack contains the
 * caller.
 * @param {Failure} failure
 * @param {Public.Strategy} [strategy]
 * @param {string} [resource]
 */
function fromFailure({ code, message, cause, causeCode, ...fields }, strategy, resource) {
  if (code === 'INVALID_OPTION') return invalid(TypeError, message)
  const Class = byCode[/** @type {Public.LockErrorCode} */ (code)]
  return new Class(`${title(strategy, resource)}: ${message}`, {
    resource,
    strategy,
    ...(cause === undefined ? undefined : { cause: causeOf(cause, causeCode) }),
    ...fields,
  })
}

/**
 * Another owner holds one of the resources.
 * @param {Public.Strategy} strategy
 * @param {string} resource the one that is held
 * @param {readonly string[]} resources all that were asked for
 * @param {number} waitMs
 * @param {number | undefined} remainingMs undefined when the backend does not know
 * @param {boolean} byCaller whether the function of `withLock` holds it that made the call
 */
function held(strategy, resource, resources, waitMs, remainingMs, byCaller) {
  const [still, waited, advice] =
    waitMs > 0
      ? ['still ', ` after waiting for ${waitMs} ms`, 'pass a longer waitMs']
      : ['', '', 'pass waitMs to wait']
  const until =
    remainingMs === undefined
      ? ', or other callers are queued for it'
      : ` (lease ends in ${remainingMs} ms unless renewed)`
  const [holder, remedy] = byCaller
    ? [
        `${waited}: the function that made this call holds it itself, through withLock`,
        'Locks are not reentrant: pass the lock on instead of acquiring it again',
      ]
    : [` by another owner${waited}`, `Retry later, or ${advice}`]
  return new LockHeldError(
    `${title(strategy, resource)} is ${still}held${holder}${until}; nothing was granted. ${remedy}`,
    { resource, resources, strategy, remainingMs, byCaller },
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
    resource,
    strategy,
    cause,
  })
}

/**
 * The function of a `withLock` finished after its lock was lost.
 * @param {unknown} result of the function
 * @param {Public.Strategy} strategy
 * @param {string} resource
 * @param {LockLostError} [known] why the lease ended; by default, its release found it missing
 */
function lostDuring(result, strategy, resource, known) {
  const cause = known ?? lost(strategy, resource, MISSING)
  const prefix = `${title(strategy, resource)}: `
  const told = cause.message.startsWith(prefix) ? cause.message.slice(prefix.length) : cause.message
  // The function is over, so other advice follows.
  const why = told.replace(ADVICE, '')
  const error = lost(
    strategy,
    resource,
    `the lock was lost before the function finished: ${why}. Another holder may have worked at the same time, so ` +
      'check what the function wrote, or fence it; its return value is in `result`',
    cause,
  )
  // Not enumerable: it may be large, secret, or impossible to write as JSON.
  return Object.defineProperty(error, 'result', { value: result })
}

/** The end of the messages about leases that end: those of the addon, and those that stand in for them. */
const ADVICE = /[.;] [Ss]top working on what it protects, or fence it$/u

const MISSING =
  'at its release the backend no longer had it, because another owner took it, it was released by force, or ' +
  'the backend lost its data'

/** The manager is being closed: the reason of `locks.closing`. */
function closing() {
  return new ClosedError(
    'the lock manager is being closed: it accepts no acquires. Finish, and release locks',
  )
}

module.exports = { ...classes, closing, fromFailure, held, invalid, lost, lostDuring }
