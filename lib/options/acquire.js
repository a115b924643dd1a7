'use strict'

/** The options of acquires, and the manager's `defaults` for them. */

const { invalid } = require('../errors.js')
const { byPrecedence } = require('../strategies.js')
const {
  ACKNOWLEDGEMENT_KEYS,
  ACQUIRE_KEYS,
  ADOPT_KEYS,
  DEFAULTS_KEYS,
  RENEW_KEYS,
  elsewhere,
} = require('./keys.js')
const {
  abortSignal,
  boolean,
  integer,
  integerOrInfinity,
  object,
  optional,
  wrongType,
} = require('./validate.js')

/**
 * For how long a lease is renewed, and how long the event loop may be blocked meanwhile.
 * @typedef {{ readonly maxHoldMs: number, readonly maxStallMs: number }} RenewalLimits
 */
/** @typedef {ReturnType<typeof acquireDefaults>} AcquireDefaults */
/** @typedef {ReturnType<typeof acquireRequest>} AcquireRequest */

const TTL = { min: 10, max: 86_400_000 }
/** Of a primary. */
const MAX_REPLICAS = 1_000
/** Every token must be exact as a double, so tokens stay below 2^53 - 2^40. */
const MIN_TOKEN_LIMIT = 2n ** 53n - 2n ** 40n
/** @type {RenewalLimits} */
const RENEWAL = { maxHoldMs: Infinity, maxStallMs: 30_000 }

/**
 * What acquires do unless the call or the manager's `defaults` say otherwise; `withLock` has defaults of its
 * own.
 */
const PLAIN = { waitMs: 0, renew: false }
const SCOPED = { waitMs: 10_000, renew: true }
/** Of the methods that make a single attempt. */
const ATTEMPT = { waitMs: 0, renew: false }

const ALL_KEYS = [...ACQUIRE_KEYS, ...ACKNOWLEDGEMENT_KEYS]

/**
 * The manager's `defaults`. Acknowledgement options are checked even if no server is configured.
 * @param {unknown} value
 * @param {{ replicas: number, durable: boolean } | undefined} declared; undefined without a server
 * @param {number} maxTtlMs of quorum locks, for which the defaults are, too
 */
function acquireDefaults(value, declared, maxTtlMs) {
  const given = object('defaults', value, DEFAULTS_KEYS, { elsewhere })
  const {
    ttlMs = 10_000,
    waitMs,
    fair = false,
    renew,
    // What replicas acknowledge adds nothing to the log of a quorum.
    acks = declared?.durable ? 0 : 'all',
    ackTimeoutMs,
    fsync = false,
  } = given
  const lasts = integer('defaults.ttlMs', ttlMs, TTL)
  return {
    // The built-in default is shortened instead: it is no wish of the user.
    ttlMs: given.ttlMs === undefined ? lasts : leaseTime('defaults.ttlMs', lasts, maxTtlMs),
    // Undefined when not given, because the built-in defaults of acquires and of withLock differ.
    waitMs: optional(integerOrInfinity, 'defaults.waitMs', waitMs, 0),
    renew: optional(renewal, 'defaults.renew', renew, RENEWAL),
    fair: boolean('defaults.fair', fair),
    acks: ackCount('defaults.acks', acks, declared?.replicas),
    ackTimeoutMs: optional(integer, 'defaults.ackTimeoutMs', ackTimeoutMs, { min: 1, max: TTL.max / 2 }),
    fsync: boolean('defaults.fsync', fsync),
  }
}

/**
 * The options of one acquire, with the manager's defaults filled in.
 * @param {import('../strategies.js').StrategyInfo} strategy
 * @param {unknown} value
 * @param {{ defaults: AcquireDefaults, replicas: number, maxTtlMs: number, votes: number }} settings of the
 *   manager
 * @param {{ waitMs: number, renew: boolean }} builtIn {@link ATTEMPT} takes no `waitMs`
 */
function acquireRequest(strategy, value, { defaults, replicas, maxTtlMs, votes }, builtIn = PLAIN) {
  /** @type {{ readonly [K in keyof import('../../index.js').StrongOptions]?: unknown }} */
  const options = strategy.acknowledged
    ? object('options', value, ALL_KEYS, { elsewhere })
    : object('options', value, ACQUIRE_KEYS, { elsewhere: otherStrategy })
  const longest = strategy.votes ? maxTtlMs : TTL.max
  const ttlMs =
    options.ttlMs === undefined
      ? Math.min(defaults.ttlMs, longest)
      : leaseTime('ttlMs', integer('ttlMs', options.ttlMs, TTL), longest)
  const { waitMs = defaults.waitMs ?? builtIn.waitMs, renew = defaults.renew ?? builtIn.renew } = options
  if (builtIn === ATTEMPT) assertNoWait(options.waitMs)
  const limits = typeof defaults.renew === 'object' ? defaults.renew : RENEWAL
  const kept = renewal('renew', renew, limits)
  const request = {
    ttlMs,
    minHoldMs:
      options.minHoldMs === undefined ? 0 : minimum(options.minHoldMs, strategy.votes ? maxTtlMs : undefined),
    waitMs: builtIn === ATTEMPT ? 0 : integerOrInfinity('waitMs', waitMs, 0),
    fair: options.fair === undefined ? defaults.fair : boolean('fair', options.fair),
    renew: kept,
    signal: optional(abortSignal, 'signal', options.signal),
    minToken: minToken(options.minToken),
    acks: 0,
    /** What `lock.acks` says was required. */
    required: strategy.votes ? votes : 0,
    ackTimeoutMs: 0,
    fsync: false,
  }
  if (strategy.acknowledged) {
    const half = Math.floor(ttlMs / 2)
    request.acks = options.acks === undefined ? defaults.acks : ackCount('acks', options.acks, replicas)
    request.required = request.acks
    request.fsync = options.fsync === undefined ? defaults.fsync : boolean('fsync', options.fsync)
    request.ackTimeoutMs =
      options.ackTimeoutMs === undefined
        ? Math.min(defaults.ackTimeoutMs ?? usualAckTimeout(ttlMs, request.fsync), half)
        : integer('ackTimeoutMs', options.ackTimeoutMs, { min: 1, max: half })
  }
  return request
}

/**
 * The options of `adopt`.
 * @param {import('../strategies.js').StrategyInfo} strategy
 * @param {unknown} value
 * @param {Parameters<typeof acquireRequest>[2]} settings
 * @param {number} ttlMs of the lease so far
 */
function adoptRequest(strategy, value, settings, ttlMs) {
  const given = object('options', value, ADOPT_KEYS, { elsewhere: notOfAdopt })
  // The acquire checks the others.
  const options = { ...given, ttlMs: given.ttlMs === undefined ? ttlMs : given.ttlMs }
  return acquireRequest(strategy, options, settings, ATTEMPT)
}

/** @param {string} key */
function notOfAdopt(key) {
  return key === 'waitMs' || key === 'fair' ? 'adopt makes a single attempt' : elsewhere(key)
}

/**
 * A server flushes once a second unless it is told otherwise.
 * @param {number} ttlMs
 * @param {boolean} fsync
 */
function usualAckTimeout(ttlMs, fsync) {
  return fsync ? 2_000 : Math.min(50, Math.floor(ttlMs / 4))
}

/**
 * The manager's default is for those that wait; a `waitMs` of the call itself asks for what it does not do.
 * @param {unknown} waitMs
 */
function assertNoWait(waitMs) {
  if (waitMs === undefined || waitMs === 0) return
  throw invalid(
    typeof waitMs === 'number' ? RangeError : TypeError,
    'the tryAcquire… methods make a single attempt, so their waitMs can only be 0; the acquire… methods wait',
  )
}

/**
 * @param {string} name
 * @param {number} ttlMs
 * @param {number} longest
 */
function leaseTime(name, ttlMs, longest) {
  if (ttlMs <= longest) return ttlMs
  throw invalid(
    RangeError,
    `${name} of a quorum lock must be at most quorum.maxTtlMs (${longest}), got ${ttlMs}: a node that was ` +
      'restarted does not vote for that long. Raise it for all clients, or renew the lock',
  )
}

/**
 * For how long others are kept out at least.
 * @param {unknown} value
 * @param {number | undefined} maxTtlMs of a quorum
 */
function minimum(value, maxTtlMs) {
  const minHoldMs = integer('minHoldMs', value, { min: 0, max: TTL.max })
  if (maxTtlMs === undefined || minHoldMs <= maxTtlMs) return minHoldMs
  throw invalid(
    RangeError,
    `minHoldMs of a quorum lock must be at most quorum.maxTtlMs (${maxTtlMs}), got ${minHoldMs}: a node that ` +
      'was restarted does not vote for that long, and then has forgotten the lease. Raise it for all clients',
  )
}

/** @param {string} key */
function otherStrategy(key) {
  /** @type {readonly string[]} */
  const acknowledgement = ACKNOWLEDGEMENT_KEYS
  if (!acknowledgement.includes(key)) return elsewhere(key)
  const strategies = byPrecedence.filter(({ acknowledged }) => acknowledged).map(({ name }) => name)
  return `it applies to ${strategies.join(' and ')} locks only`
}

/**
 * The option `renew`: how long a lease is renewed; `false` if it is not. Omitted limits are those of
 * `limits`.
 * @param {string} name
 * @param {unknown} value
 * @param {RenewalLimits} limits
 * @returns {RenewalLimits | false}
 */
function renewal(name, value, limits) {
  if (value === false) return false
  if (value === true) return limits
  if (typeof value !== 'object' || value === null) throw wrongType(name, 'true, false or an object', value)
  const options = object(name, value, RENEW_KEYS, { elsewhere })
  const { maxHoldMs = limits.maxHoldMs, maxStallMs = limits.maxStallMs } = options
  return {
    maxHoldMs: integerOrInfinity(`${name}.maxHoldMs`, maxHoldMs, 1),
    maxStallMs: integerOrInfinity(`${name}.maxStallMs`, maxStallMs, 1),
  }
}

/**
 * @param {string} name
 * @param {unknown} value
 * @param {number | undefined} declared replicas of the server; undefined without a server
 */
function ackCount(name, value, declared) {
  const replicas = declared ?? MAX_REPLICAS
  if (value === 'all') return replicas
  // Of the declared replicas and the primary, the majority must survive the primary's death.
  if (value === 'majority') return Math.min(Math.floor(replicas / 2) + 1, replicas)
  if (typeof value !== 'number') throw wrongType(name, "a number, 'majority' or 'all'", value)
  if (!Number.isInteger(value) || value < 0 || value > replicas) {
    const limit = declared === undefined ? replicas : `the ${declared} declared replicas (redis.replicas)`
    throw invalid(RangeError, `${name} must be an integer from 0 to ${limit}, got ${value}`)
  }
  return value
}

/** @param {unknown} value */
function minToken(value) {
  if (value === undefined) return 0
  if (typeof value !== 'bigint') throw wrongType('minToken', 'a bigint', value)
  if (value < 0n || value >= MIN_TOKEN_LIMIT) {
    throw invalid(
      RangeError,
      `minToken must be from 0n to ${MIN_TOKEN_LIMIT - 1n}n (below 2^53 - 2^40), got ${value}n`,
    )
  }
  return Number(value)
}

/**
 * The TTL of `extend`.
 * @param {unknown} value
 */
function extendTtl(value) {
  return optional(integer, 'ttlMs', value, TTL)
}

module.exports = { ATTEMPT, MAX_REPLICAS, SCOPED, acquireDefaults, acquireRequest, adoptRequest, extendTtl }
