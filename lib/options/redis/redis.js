'use strict'

/** The manager's option `redis`: how to reach the servers of strong locks. */

const { invalid } = require('../../errors.js')
const { MAX_REPLICAS } = require('../acquire.js')
const { exclusiveCredentials } = require('./credentials.js')
const { REDIS_KEYS, TLS_KEYS, elsewhere } = require('../keys.js')
const { clusterUrls, nodeAddressMap, sentinelUrls } = require('./servers.js')
const {
  boolean,
  integer,
  isUint8Array,
  isUrl,
  object,
  optional,
  string,
  wrongType,
} = require('../validate.js')

const TIMEOUT = { min: 1, max: 600_000 }

/** @typedef {import('../../../binding.js').RedisConfig} RedisConfig */
/** @typedef {import('./credentials.js').CredentialsSource} CredentialsSource */
/** @typedef {{ readonly [K in typeof REDIS_KEYS[number]]?: unknown }} Given */

/**
 * @param {string} name
 * @param {unknown} value a URL, as text or as an object, or options
 * @returns {{ config: RedisConfig, credentials: CredentialsSource[] }}
 */
function redisConfig(name, value) {
  const given = typeof value === 'string' || isUrl(value) ? { url: value } : value
  const options = object(name, given, REDIS_KEYS, { elsewhere: hint })
  const { durable = false, connectTimeoutMs = 5_000, commandTimeoutMs = 2_000 } = options
  const isDurable = boolean('redis.durable', durable)
  // A quorum's log needs no acknowledgements, so its replicas need not be declared.
  const { replicas = isDurable ? 0 : 2 } = options
  /** @type {RedisConfig} */
  const config = {
    ...servers(options),
    replicas: integer('redis.replicas', replicas, { min: 0, max: MAX_REPLICAS }),
    durable: isDurable,
    username: optional(string, 'redis.username', options.username),
    password: optional(string, 'redis.password', options.password),
    db: optional(integer, 'redis.db', options.db, { min: 0, max: 2 ** 31 - 1 }),
    tls: optional(tlsConfig, 'redis.tls', options.tls),
    sentinelUsername: optional(string, 'redis.sentinelUsername', options.sentinelUsername),
    sentinelPassword: optional(string, 'redis.sentinelPassword', options.sentinelPassword),
    sentinelTls: optional(tlsConfig, 'redis.sentinelTls', options.sentinelTls),
    nodeAddressMap: optional(nodeAddressMap, 'redis.nodeAddressMap', options.nodeAddressMap) ?? [],
    connectTimeoutMs: integer('redis.connectTimeoutMs', connectTimeoutMs, TIMEOUT),
    commandTimeoutMs: integer('redis.commandTimeoutMs', commandTimeoutMs, TIMEOUT),
  }
  const ask = exclusiveCredentials('redis', options)
  const credentials = ask === undefined ? [] : [{ name: 'redis.credentials', ask, servers: [config] }]
  return { config, credentials }
}

/**
 * Where the servers are: exactly one of three ways.
 * @param {Given} options
 * @returns {Pick<RedisConfig, 'url' | 'sentinels' | 'name' | 'cluster'>}
 */
function servers(options) {
  const { url, sentinels, name, cluster } = options
  const given = Object.entries({ url, sentinels, cluster }).filter(([, value]) => value !== undefined)
  if (given.length > 1) {
    const names = given.map(([option]) => `redis.${option}`).join(' and ')
    throw invalid(TypeError, `${names} exclude each other: give one of them`)
  }
  if (name !== undefined && sentinels === undefined) {
    throw invalid(
      TypeError,
      'redis.name is that of a primary that Sentinels watch: it needs redis.sentinels; in a URL it is ' +
        'redis+sentinel://host:26379/name',
    )
  }
  if (sentinels !== undefined) {
    if (name === undefined || name === '') {
      throw invalid(
        TypeError,
        "redis.name is missing: the name by which the Sentinels know the primary, for example 'mymaster'",
      )
    }
    return {
      sentinels: sentinelUrls(sentinels, options.sentinelTls !== undefined),
      name: string('redis.name', name),
    }
  }
  if (cluster !== undefined) return { cluster: clusterUrls(cluster) }
  if (url === undefined || url === '') {
    throw invalid(
      TypeError,
      "redis.url is missing, for example 'redis://127.0.0.1:6379'; instead of it there may be " +
        'redis.sentinels and redis.name, or redis.cluster',
    )
  }
  return { url: string('redis.url', isUrl(url) ? url.href : url) }
}

/**
 * Loaded when it is needed, which is only for an error.
 * @param {string} key
 */
function hint(key) {
  return require('../foreign-names.js').foreignName(key) ?? elsewhere(key)
}

/**
 * @param {string} name
 * @param {unknown} value `true`, or options
 * @returns {import('../../../binding.js').TlsConfig}
 */
function tlsConfig(name, value) {
  const given = value === true ? {} : value
  const options = object(name, given, TLS_KEYS, { elsewhere, hint: '; true is TLS with the defaults' })
  const { ca, cert, key, serverName, rejectUnauthorized = true } = options
  if ((cert === undefined) !== (key === undefined)) {
    throw invalid(TypeError, `${name}.cert and ${name}.key go together: a client certificate and its key`)
  }
  return {
    ca: optional(pem, `${name}.ca`, ca),
    cert: optional(pem, `${name}.cert`, cert),
    key: optional(pem, `${name}.key`, key),
    serverName: optional(string, `${name}.serverName`, serverName),
    rejectUnauthorized: boolean(`${name}.rejectUnauthorized`, rejectUnauthorized),
  }
}

/**
 * PEM text, as a string or as its bytes.
 * @param {string} name
 * @param {unknown} value
 */
function pem(name, value) {
  if (typeof value === 'string') return value
  if (isUint8Array(value)) return Buffer.from(value).toString('latin1')
  throw wrongType(name, 'PEM text as a string or Buffer', value)
}

module.exports = { TIMEOUT, redisConfig, tlsConfig }
