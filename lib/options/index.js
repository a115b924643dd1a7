'use strict'

/**
 * Checks everything users pass in, once, and fills in the defaults. The result is plain data that the addon
 * takes without further checks.
 */

const { invalid } = require('../errors.js')
const { STRATEGIES, byPrecedence, names } = require('../strategies.js')
const { ATTEMPT, SCOPED, acquireDefaults, acquireRequest, adoptRequest, extendTtl } = require('./acquire.js')
const { drainTime } = require('./close.js')
const { electionOptions } = require('./election.js')
const { holderConfig } = require('./holder.js')
const { MANAGER_KEYS, elsewhere } = require('./keys.js')
const { listOptions } = require('./listing.js')
const { localConfig, looksLikeUrl } = require('./local.js')
const { keyPrefix, resourceName, resourceNames } = require('./names.js')
const { assertGiven, object, oneOf, optional } = require('./validate.js')

/** @typedef {import('../strategies.js').StrategyInfo} StrategyInfo */
/** @typedef {ReturnType<typeof managerSettings>} ManagerSettings */

/**
 * Loaded with the first manager that has servers.
 * @type {typeof import('./redis/redis.js').redisConfig}
 */
const redisConfig = (name, value) => require('./redis/redis.js').redisConfig(name, value)
/** @type {typeof import('./redis/quorum.js').quorumConfig} */
const quorumConfig = (name, value) => require('./redis/quorum.js').quorumConfig(name, value)

/**
 * The options of `new LockManager(options)`.
 * @param {unknown} value
 */
function managerSettings(value) {
  const place = typeof value === 'string' && looksLikeUrl(value) ? 'redis' : 'local'
  const hint = typeof value === 'string' ? `; did you mean new LockManager({ ${place}: '…' })?` : ''
  const options = object('options', value, MANAGER_KEYS, { hint, elsewhere })
  for (const strategy of byPrecedence) {
    const { option } = strategy
    if (option in options) {
      assertGiven(option, options[option], withoutBackend(strategy))
    }
  }
  const redis = optional(redisConfig, 'redis', options.redis)
  const quorum = optional(quorumConfig, 'quorum', options.quorum)
  /** @type {import('../../binding.js').ManagerConfig} */
  const config = {
    holder: holderConfig(options.holderName),
    prefix: keyPrefix(options.prefix),
    redis: redis?.config,
    quorum: quorum?.config,
    local: localConfig(options.local),
  }
  const strategy = defaultStrategy(options.strategy, config)
  const maxTtlMs = config.quorum?.maxTtlMs ?? Infinity
  return {
    config,
    prefix: config.prefix,
    /** The functions that are asked for those of servers. */
    credentials: [...(redis?.credentials ?? []), ...(quorum?.credentials ?? [])],
    /** Of calls that name none. */
    strategy,
    /** Those whose backend is configured explicitly, and the default one. */
    connected: byPrecedence.filter((each) => each === strategy || options[each.option] !== undefined),
    replicas: config.redis?.replicas ?? 0,
    /** The longest TTL of quorum locks. */
    maxTtlMs,
    /** How many nodes must grant one: a majority. */
    votes: Math.floor((config.quorum?.nodes.length ?? 0) / 2) + 1,
    defaults: acquireDefaults(options.defaults, config.redis, maxTtlMs),
  }
}

/**
 * What to do about a backend that is named, but not given. Local locks are no substitute for those of a
 * server, so a manager must not get them because a variable is missing.
 * @param {StrategyInfo} strategy
 */
function withoutBackend({ name, option }) {
  return option === 'local'
    ? 'For the default, leave out the key: { ...(path && { local: path }) }'
    : `Local locks, which a manager without ${option} has by default, exclude the processes of one host only. ` +
        `Where they must not replace those of ${option}, pass strategy: '${name}', which refuses a manager without ` +
        `${option}; leave out the key only where local locks are meant`
}

/**
 * @param {unknown} value the option `strategy`
 * @param {import('../../binding.js').ManagerConfig} config
 */
function defaultStrategy(value, config) {
  /** @param {StrategyInfo} strategy */
  const isConfigured = ({ option }) => config[option] !== undefined
  // Local locks need no option: their file has a default.
  if (value === undefined) return byPrecedence.find(isConfigured) ?? STRATEGIES.local
  const strategy = STRATEGIES[oneOf('strategy', value, names)]
  if (isConfigured(strategy)) return strategy
  const { name, option, example } = strategy
  throw invalid(TypeError, `strategy '${name}' needs the option ${option}, for example ${option}: ${example}`)
}

/**
 * The option `strategy` of `inspect`, `forceRelease` and `describe`.
 * @param {unknown} value
 * @param {StrategyInfo} fallback
 */
function strategyOption(value, fallback) {
  const { strategy = fallback.name } = object('options', value, ['strategy'], { elsewhere })
  return STRATEGIES[oneOf('strategy', strategy, names)]
}

module.exports = {
  ATTEMPT,
  SCOPED,
  acquireRequest,
  adoptRequest,
  drainTime,
  electionOptions,
  extendTtl,
  listOptions,
  managerSettings,
  resourceName,
  resourceNames,
  strategyOption,
}
