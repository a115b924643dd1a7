'use strict'

/** The servers of a deployment, as far as they are given as objects and lists. */

const { isIPv6 } = require('node:net')

const { invalid } = require('../../errors.js')
const { ADDRESS_KEYS, elsewhere } = require('../keys.js')
const { integer, isUrl, object, string, tagOf, wrongType } = require('../validate.js')

const SERVER_URL = /^(?:rediss?|valkeys?):\/\//i
const DEPLOYMENT_URL = /^(?:rediss?|valkeys?)\+(?:sentinel|cluster):/i
/** Without what would be another part of a URL. */
const HOST = /^[^\s/?#@\\[\]:%,]+$/
const PORT = { min: 1, max: 65_535 }

/**
 * @param {unknown} value of `redis.sentinels`
 * @param {boolean} encrypted whether those without a URL are reached by TLS
 * @returns {string[]} URLs
 */
function sentinelUrls(value, encrypted) {
  return list('redis.sentinels', value, (name, entry) => {
    if (typeof entry === 'string' || isUrl(entry)) return serverUrl(name, entry, ', or { host, port }')
    const { host, port = 26_379 } = address(name, entry)
    const written = isIPv6(host) ? `[${host}]` : host
    return `${encrypted ? 'rediss' : 'redis'}://${written}:${port}`
  })
}

/**
 * @param {unknown} value of `redis.cluster`
 * @returns {string[]} URLs
 */
function clusterUrls(value) {
  const given = typeof value === 'string' || isUrl(value) ? [value] : value
  return list('redis.cluster', given, serverUrl)
}

/**
 * @template T
 * @param {string} name
 * @param {unknown} value
 * @param {(name: string, entry: unknown) => T} check
 */
function list(name, value, check) {
  if (!Array.isArray(value)) throw wrongType(name, 'an array', value)
  // Read once: a Proxy may answer another length each time.
  const { length } = value
  if (length === 0) throw invalid(RangeError, `${name} must not be empty`)
  return Array.from({ length }, (_, index) => check(`${name}[${index}]`, value[index]))
}

/**
 * The URL of one server. The addon reads the rest of it.
 * @param {string} name
 * @param {unknown} value
 * @param {string} [orElse]
 */
function serverUrl(name, value, orElse = '') {
  const url = string(name, isUrl(value) ? value.href : value).trim()
  if (SERVER_URL.test(url)) return url
  const hint = DEPLOYMENT_URL.test(url) ? '; a URL of the whole deployment is the option redis.url' : ''
  throw invalid(RangeError, `${name} must be a redis:// or rediss:// URL${orElse}${hint}`)
}

/**
 * @param {string} name
 * @param {unknown} value
 * @returns {{ host: string, port: number | undefined }}
 */
function address(name, value) {
  if (value === undefined) throw wrongType(name, 'an object', value)
  const { host, port } = object(name, value, ADDRESS_KEYS, { elsewhere })
  return {
    host: hostName(`${name}.host`, host),
    port: port === undefined ? undefined : integer(`${name}.port`, port, PORT),
  }
}

/**
 * @param {string} name
 * @param {unknown} value
 * @returns {string} without brackets
 */
function hostName(name, value) {
  const host = string(name, value)
  const bare = host.startsWith('[') && host.endsWith(']') ? host.slice(1, -1) : host
  if (isIPv6(bare) || (bare === host && HOST.test(host))) return bare
  throw invalid(RangeError, `${name} must be a host name or an IP address`)
}

/**
 * @param {string} name
 * @param {unknown} value
 * @returns {import('../../../binding.js').AddressMapping[]}
 */
function nodeAddressMap(name, value) {
  if (typeof value !== 'object' || value === null || tagOf(value) !== 'Object') {
    const hint =
      typeof value === 'function' ? ': list the addresses, { "10.0.0.1:6379": { host, port } }' : ''
    throw wrongType(name, 'an object', value, hint)
  }
  const seen = new Set()
  // Own keys only: any name could be one, so none is taken from a prototype.
  return Object.keys(value).map((key) => {
    const { host, port } = announced(name, key)
    const entry = `${name}[${JSON.stringify(key)}]`
    if (seen.has(`${host} ${port}`)) throw invalid(RangeError, `${entry} is the same as another one`)
    seen.add(`${host} ${port}`)
    const to = address(entry, Reflect.get(value, key))
    if (to.port === undefined) throw wrongType(`${entry}.port`, 'a number', to.port)
    return { host, port, toHost: to.host, toPort: to.port }
  })
}

/**
 * @param {string} name
 * @param {string} key `host:port`; an IPv6 address with or without brackets
 */
function announced(name, key) {
  const at = key.lastIndexOf(':')
  const digits = key.slice(at + 1)
  const port = /^\d{1,5}$/.test(digits) ? Number(digits) : 0
  const bare = key.slice(0, Math.max(at, 0)).replace(/^\[(.*)\]$/, '$1')
  if (port < PORT.min || port > PORT.max || !(isIPv6(bare) || HOST.test(bare))) {
    throw invalid(
      RangeError,
      `the keys of ${name} must be 'host:port', for example '10.0.0.1:6379' or '[fd00::1]:6379'`,
    )
  }
  return { host: bare.toLowerCase(), port }
}

module.exports = { clusterUrls, nodeAddressMap, sentinelUrls }
