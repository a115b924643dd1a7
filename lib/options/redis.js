'use strict'

/** The manager's option `redis`: how to reach the server of strong locks. */

const { invalid } = require('../errors.js')
const { REDIS_KEYS, TLS_KEYS, elsewhere } = require('./keys.js')
const {
  boolean,
  integer,
  isUint8Array,
  isUrl,
  object,
  optional,
  string,
  wrongType,
} = require('./validate.js')

const MAX_REPLICAS = 1_000
const TIMEOUT = { min: 1, max: 600_000 }

/**
 * @param {string} name
 * @param {unknown} value a URL, as text or as an object, or options
 * @returns {import('../../binding.js').RedisConfig}
 */
function redisConfig(name, value) {
  const given = typeof value === 'string' || isUrl(value) ? { url: value } : value
  const options = object(name, given, REDIS_KEYS, { elsewhere })
  const { url, replicas = 2, connectTimeoutMs = 5_000, commandTimeoutMs = 2_000 } = options
  if (url === undefined || url === '') {
    throw invalid(TypeError, "redis.url is missing, for example 'redis://127.0.0.1:6379'")
  }
  return {
    url: string('redis.url', isUrl(url) ? url.href : url),
    replicas: integer('redis.replicas', replicas, { min: 0, max: MAX_REPLICAS }),
    username: optional(string, 'redis.username', options.username),
    password: optional(string, 'redis.password', options.password),
    db: optional(integer, 'redis.db', options.db, { min: 0, max: 2 ** 31 - 1 }),
    tls: optional(tlsConfig, 'redis.tls', options.tls),
    connectTimeoutMs: integer('redis.connectTimeoutMs', connectTimeoutMs, TIMEOUT),
    commandTimeoutMs: integer('redis.commandTimeoutMs', commandTimeoutMs, TIMEOUT),
  }
}

/**
 * @param {string} name
 * @param {unknown} value
 * @returns {import('../../binding.js').TlsConfig}
 */
function tlsConfig(name, value) {
  const options = object(name, value, TLS_KEYS, { elsewhere })
  const { ca, cert, key, serverName, rejectUnauthorized = true } = options
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

module.exports = { MAX_REPLICAS, redisConfig }
