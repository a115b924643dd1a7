'use strict'

/**
 * Checks everything users pass in, once, and fills in the defaults. What comes out of here is plain data that the
 * addon takes as it is.
 */

const { resolve } = require('node:path')
const {
  boolean,
  integer,
  integerOrInfinity,
  nearest,
  oneOf,
  optional,
  string,
  tagOf,
  wrongType,
} = require('./validate.js')
const { invalid } = require('../errors.js')

/** src/js/options.rs has the same numbers. */
const STRATEGIES = { strong: 0, local: 1 }

const MAX_RESOURCE_BYTES = 512
/** All of them are one script call, or one transaction, that others wait for. */
const MAX_RESOURCES = 1_000
const MAX_REPLICAS = 1_000
const MAX_PREFIX_BYTES = 64
/** So that every token stays exact as a double: 2^53 - 2^40. */
const MIN_TOKEN_LIMIT = 2n ** 53n - 2n ** 40n
const TTL = { min: 10, max: 86_400_000 }
/** Two letters at least, for `C:` is a drive. */
const URL_LIKE = /^[a-z][a-z\d+.-]+:\/\//i
const TIMEOUT = { min: 1, max: 600_000 }

const MANAGER_KEYS = ['strategy', 'redis', 'local', 'prefix', 'defaults']
const REDIS_KEYS = [
  'url',
  'replicas',
  'username',
  'password',
  'db',
  'tls',
  'connectTimeoutMs',
  'commandTimeoutMs',
]
const TLS_KEYS = ['ca', 'cert', 'key', 'serverName', 'rejectUnauthorized']
const LOCAL_KEYS = ['path', 'durability', 'allowNetworkFilesystem']
const RENEW_KEYS = ['maxHoldMs', 'maxStallMs']
const SHARED_KEYS = ['ttlMs', 'waitMs', 'fair', 'renew']
const ACQUIRE_KEYS = [...SHARED_KEYS, 'signal', 'minToken']
const STRONG_ONLY_KEYS = ['acks', 'ackTimeoutMs']
const STRONG_KEYS = [...ACQUIRE_KEYS, ...STRONG_ONLY_KEYS]
const DEFAULTS_KEYS = [...SHARED_KEYS, ...STRONG_ONLY_KEYS]
/** How long a lease is kept alive, unless the manager's `defaults` or the call say otherwise. */
const RENEWAL = { maxHoldMs: Infinity, maxStallMs: 30_000 }

/** Where an option belongs that was given elsewhere. */
const PLACES = [
  { known: DEFAULTS_KEYS, place: 'the manager’s option defaults, or in the options of an acquire' },
  { known: ACQUIRE_KEYS, place: 'the options of an acquire' },
  { known: MANAGER_KEYS, place: 'the options of the manager' },
  { known: REDIS_KEYS, place: 'the manager’s option redis' },
  { known: TLS_KEYS, place: 'the manager’s option redis.tls' },
  { known: LOCAL_KEYS, place: 'the manager’s option local' },
  { known: RENEW_KEYS, place: 'the option renew of an acquire, or of the manager’s defaults' },
]

/** Names are code, so they may be shown; values are not. */
function unknownKey(name, key, keys) {
  return invalid(TypeError, `unknown option ${JSON.stringify(key)} in ${name}; ${unknownKeyHint(key, keys)}`)
}

function unknownKeyHint(key, keys) {
  if (keys === ACQUIRE_KEYS && STRONG_ONLY_KEYS.includes(key)) return 'it concerns strong locks only'
  const place = PLACES.find(({ known }) => known.includes(key))?.place
  if (place !== undefined) return `it belongs in ${place}`
  const near = nearest(key, keys)
  return near === undefined ? `known are ${keys.join(', ')}` : `did you mean ${JSON.stringify(near)}?`
}

/**
 * An object with none but the known keys; `undefined` counts as an empty one. A Map, a Date or a Promise has no other
 * keys either, and is a mistake all the same. So only what JavaScript tags as `Object` is taken: plain objects, and
 * instances of ordinary classes.
 */
function object(name, value, keys, hint) {
  if (value === undefined) return {}
  if (typeof value !== 'object' || value === null || tagOf(value) !== 'Object')
    throw wrongType(name, 'an object', value, hint)
  // Its own: what somebody put on Object.prototype is no option.
  for (const key of Object.keys(value)) {
    if (!keys.includes(key)) throw unknownKey(name, key, keys)
  }
  return value
}

/** PEM text, as a string or as its bytes. */
function pem(name, value) {
  if (typeof value === 'string') return value
  if (value instanceof Uint8Array) return Buffer.from(value).toString('latin1')
  throw wrongType(name, 'PEM text as a string or Buffer', value)
}

function tls(value) {
  const { ca, cert, key, serverName, rejectUnauthorized = true } = object('redis.tls', value, TLS_KEYS)
  if ((cert === undefined) !== (key === undefined)) {
    throw invalid(TypeError, 'redis.tls.cert and redis.tls.key go together: a client certificate and its key')
  }
  return {
    ca: optional(pem, 'redis.tls.ca', ca),
    cert: optional(pem, 'redis.tls.cert', cert),
    key: optional(pem, 'redis.tls.key', key),
    serverName: optional(string, 'redis.tls.serverName', serverName),
    rejectUnauthorized: boolean('redis.tls.rejectUnauthorized', rejectUnauthorized),
  }
}

function redis(value) {
  const options = typeof value === 'string' ? { url: value } : object('redis', value, REDIS_KEYS)
  const { replicas = 2, connectTimeoutMs = 5_000, commandTimeoutMs = 2_000 } = options
  if (options.url === undefined)
    throw invalid(TypeError, "redis.url is missing, for example 'redis://127.0.0.1:6379'")
  return {
    url: string('redis.url', options.url),
    replicas: integer('redis.replicas', replicas, { min: 0, max: MAX_REPLICAS }),
    username: optional(string, 'redis.username', options.username),
    password: optional(string, 'redis.password', options.password),
    db: optional(integer, 'redis.db', options.db, { min: 0, max: 2 ** 31 - 1 }),
    tls: optional((_, given) => tls(given), 'redis.tls', options.tls),
    connectTimeoutMs: integer('redis.connectTimeoutMs', connectTimeoutMs, TIMEOUT),
    commandTimeoutMs: integer('redis.commandTimeoutMs', commandTimeoutMs, TIMEOUT),
  }
}

function local(value = 'locks.sqlite') {
  const options = typeof value === 'string' ? { path: value } : object('local', value, LOCAL_KEYS)
  const { path = 'locks.sqlite', durability = 'normal', allowNetworkFilesystem = false } = options
  string('local.path', path)
  if (path === '' || path === ':memory:' || path.includes('\0')) {
    throw invalid(
      RangeError,
      'local.path must name a file that processes can share: neither empty, nor :memory:, nor with a NUL in it',
    )
  }
  if (URL_LIKE.test(path)) {
    throw invalid(
      RangeError,
      'local.path must be a path, got a URL; the one of a Redis server belongs in redis',
    )
  }
  return {
    // Absolute from now on: a later chdir must not move the lock file.
    path: resolve(path),
    fullDurability: oneOf('local.durability', durability, ['normal', 'full']) === 'full',
    allowNetworkFilesystem: boolean('local.allowNetworkFilesystem', allowNetworkFilesystem),
  }
}

function prefix(value = 'fencelock') {
  string('prefix', value)
  const bytes = Buffer.byteLength(value)
  if (bytes < 1 || bytes > MAX_PREFIX_BYTES || /[{}\s\p{Cc}\p{Cs}]/u.test(value)) {
    throw invalid(
      RangeError,
      `prefix must have 1 to ${MAX_PREFIX_BYTES} bytes of UTF-8, without braces, spaces and control characters`,
    )
  }
  return value
}

/** What `new LockManager(options)` takes. */
function managerOptions(value) {
  const place = typeof value === 'string' && URL_LIKE.test(value) ? 'redis' : 'local'
  const hint = typeof value === 'string' ? `; did you mean new LockManager({ ${place}: '…' })?` : ''
  const options = object('options', value, MANAGER_KEYS, hint)
  const config = {
    prefix: prefix(options.prefix),
    redis: optional((_, given) => redis(given), 'redis', options.redis),
    local: local(options.local),
  }
  const { strategy = config.redis ? 'strong' : 'local' } = options
  oneOf('strategy', strategy, Object.keys(STRATEGIES))
  if (strategy === 'strong' && !config.redis) {
    throw invalid(
      TypeError,
      "strategy 'strong' needs the option redis, for example redis: 'redis://127.0.0.1:6379'",
    )
  }
  const replicas = config.redis?.replicas ?? 0
  return {
    config,
    strategy,
    replicas,
    defaults: managerDefaults(options.defaults, config.redis),
    usesLocal: strategy === 'local' || options.local !== undefined,
  }
}

/** The manager's `defaults`. What concerns strong locks only is checked without a server, too. */
function managerDefaults(value, server) {
  const {
    ttlMs = 10_000,
    waitMs,
    fair = false,
    renew,
    acks = 'all',
    ackTimeoutMs,
  } = object('defaults', value, DEFAULTS_KEYS)
  return {
    ttlMs: integer('defaults.ttlMs', ttlMs, TTL),
    // What is not given here differs between acquires and withLock.
    waitMs: optional(integerOrInfinity, 'defaults.waitMs', waitMs, 0),
    renew: optional(renewal, 'defaults.renew', renew, RENEWAL),
    fair: boolean('defaults.fair', fair),
    acks: ackCount('defaults.acks', acks, server?.replicas),
    ackTimeoutMs: optional(integer, 'defaults.ackTimeoutMs', ackTimeoutMs, { min: 1, max: TTL.max / 2 }),
  }
}

/**
 * The option `renew`: how long a lease is kept alive, `false` for not at all. What it leaves open is as in `limits`.
 */
function renewal(name, value, limits) {
  if (typeof value === 'boolean') return value && limits
  if (typeof value !== 'object' || value === null) throw wrongType(name, 'true, false or an object', value)
  const { maxHoldMs = limits.maxHoldMs, maxStallMs = limits.maxStallMs } = object(name, value, RENEW_KEYS)
  return {
    maxHoldMs: integerOrInfinity(`${name}.maxHoldMs`, maxHoldMs, 1),
    maxStallMs: integerOrInfinity(`${name}.maxStallMs`, maxStallMs, 1),
  }
}

/** `declared` are the replicas of the server; undefined if there is none. */
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

function abortSignal(value) {
  if (value === undefined) return undefined
  const listens =
    typeof value?.addEventListener === 'function' && typeof value.removeEventListener === 'function'
  if (!listens || typeof value.aborted !== 'boolean') throw wrongType('signal', 'an AbortSignal', value)
  return value
}

/** What holds for acquires, and for `withLock`, unless the call or the manager's `defaults` say otherwise. */
const PLAIN = { waitMs: 0, renew: false }
const SCOPED = { waitMs: 10_000, renew: true }

/** What every acquire takes, with the manager's defaults. */
function acquireOptions(strategy, value, { defaults, replicas }, otherwise = PLAIN) {
  const strong = strategy === 'strong'
  const options = object('options', value, strong ? STRONG_KEYS : ACQUIRE_KEYS)
  const ttlMs = options.ttlMs === undefined ? defaults.ttlMs : integer('ttlMs', options.ttlMs, TTL)
  const { waitMs = defaults.waitMs ?? otherwise.waitMs, renew = defaults.renew ?? otherwise.renew } = options
  const limits = typeof defaults.renew === 'object' ? defaults.renew : RENEWAL
  const kept = renewal('renew', renew, limits)
  const request = {
    ttlMs,
    waitMs: integerOrInfinity('waitMs', waitMs, 0),
    fair: options.fair === undefined ? defaults.fair : boolean('fair', options.fair),
    /** 0: it is not renewed. */
    maxHoldMs: kept ? kept.maxHoldMs : 0,
    maxStallMs: kept ? kept.maxStallMs : 0,
    signal: abortSignal(options.signal),
    minToken: minToken(options.minToken),
    acks: 0,
    ackTimeoutMs: 0,
  }
  if (strong) {
    const longest = Math.floor(ttlMs / 2)
    request.acks = options.acks === undefined ? defaults.acks : ackCount('acks', options.acks, replicas)
    request.ackTimeoutMs =
      options.ackTimeoutMs === undefined
        ? Math.min(defaults.ackTimeoutMs ?? Math.min(50, Math.floor(ttlMs / 4)), longest)
        : integer('ackTimeoutMs', options.ackTimeoutMs, { min: 1, max: longest })
  }
  return request
}

function resourceName(value) {
  if (typeof value !== 'string') throw wrongType('a resource', 'a string', value)
  // The byte length is at most three times the length, so most names need no count.
  const tooLong = value.length * 3 > MAX_RESOURCE_BYTES && Buffer.byteLength(value) > MAX_RESOURCE_BYTES
  if (value === '' || tooLong) {
    throw invalid(
      RangeError,
      `a resource must have 1 to ${MAX_RESOURCE_BYTES} bytes of UTF-8, got ${Buffer.byteLength(value)}`,
    )
  }
  if (!value.isWellFormed()) {
    throw invalid(
      TypeError,
      `a resource must be well-formed Unicode, but ${JSON.stringify(value)} has a lone surrogate`,
    )
  }
  return value
}

/** One name, or a frozen array of them. */
function resources(value) {
  if (!Array.isArray(value)) return resourceName(value)
  if (value.length === 0) throw invalid(RangeError, 'an array of resources must not be empty')
  if (value.length > MAX_RESOURCES) {
    throw invalid(
      RangeError,
      `one lock covers at most ${MAX_RESOURCES} resources, got ${value.length}; lock what they have in common`,
    )
  }
  // Array.from visits holes, map does not.
  const names = Object.freeze(Array.from(value, (name) => resourceName(name)))
  if (new Set(names).size < names.length) {
    const twice = names.find((name, index) => names.indexOf(name) !== index)
    throw invalid(RangeError, `the resource ${JSON.stringify(twice)} is named twice`)
  }
  return names
}

/** The strategy of `inspect`, `forceRelease` and `describe`. */
function strategyOption(value, fallback) {
  const { strategy = fallback } = object('options', value, ['strategy'])
  return oneOf('strategy', strategy, Object.keys(STRATEGIES))
}

/** The TTL of `extend`. */
function extendTtl(value) {
  return optional(integer, 'ttlMs', value, TTL)
}

module.exports = {
  SCOPED,
  STRATEGIES,
  acquireOptions,
  extendTtl,
  managerOptions,
  resourceName,
  resources,
  strategyOption,
}
