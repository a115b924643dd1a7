'use strict'

/** The manager's option `quorum`: the independent servers of quorum locks. */

const { invalid } = require('../../errors.js')
const { exclusiveCredentials } = require('./credentials.js')
const { NODE_KEYS, QUORUM_KEYS, elsewhere } = require('../keys.js')
const { TIMEOUT, tlsConfig } = require('./redis.js')
const { integer, isUrl, object, optional, string, wrongType } = require('../validate.js')

/** @import { QuorumConfig, RedisConfig } from '../../../binding.js' */

/** More would make each lock slower, and survive no failures that happen. */
const MAX_NODES = 7
const MAX_TTL = { min: 10, max: 86_400_000 }
const DEFAULT_MAX_TTL = 60_000

/** @import { CredentialsFunction, CredentialsSource } from './credentials.js' */

/** @typedef {{ readonly [K in typeof NODE_KEYS[number]]?: unknown }} Node */

/**
 * @param {string} name
 * @param {unknown} value
 * @returns {{ config: QuorumConfig, credentials: CredentialsSource[] }}
 */
function quorumConfig(name, value) {
  const options = object(name, value, QUORUM_KEYS, {
    elsewhere,
    hint: "; for example { nodes: ['redis://a', 'redis://b', 'redis://c'] }",
  })
  const { nodes, maxTtlMs = DEFAULT_MAX_TTL, restartDelayMs, ...shared } = options
  const configs = nodeConfigs(`${name}.nodes`, nodes, shared)
  const config = {
    nodes: configs.map((each) => each.config),
    maxTtlMs: integer(`${name}.maxTtlMs`, maxTtlMs, MAX_TTL),
    restartDelayMs: optional(integer, `${name}.restartDelayMs`, restartDelayMs, {
      min: 0,
      max: MAX_TTL.max,
    }),
  }
  return { config, credentials: credentialsSources(`${name}.nodes`, configs) }
}

/**
 * A function of a node's own is for that node; one that all nodes have is asked once for all of them.
 * @param {string} name
 * @param {readonly ReturnType<typeof nodeConfig>[]} nodes
 * @returns {CredentialsSource[]}
 */
function credentialsSources(name, nodes) {
  /** @type {CredentialsSource[]} */
  const sources = []
  const common = nodes.filter(({ ask, isOwn }) => ask !== undefined && !isOwn)
  const [first] = common
  if (first?.ask !== undefined) {
    sources.push({ name: 'quorum.credentials', ask: first.ask, servers: common.map(({ config }) => config) })
  }
  nodes.forEach(({ config, ask, isOwn }, index) => {
    if (ask !== undefined && isOwn) {
      sources.push({ name: `${name}[${index}].credentials`, ask, servers: [config] })
    }
  })
  return sources
}

/**
 * @param {string} name
 * @param {unknown} value
 * @param {Node} shared what all nodes have
 */
function nodeConfigs(name, value, shared) {
  if (!Array.isArray(value)) throw wrongType(name, 'an array of 3, 5 or 7 URLs', value)
  // Read once: a Proxy may answer another length each time.
  const { length } = value
  if (length < 3 || length > MAX_NODES || length % 2 === 0) {
    throw invalid(
      RangeError,
      `${name} must have 3, 5 or 7 nodes, got ${length}: an even number survives no more failures than the ` +
        'odd one below it, and its votes can be split evenly',
    )
  }
  const common = nodeOptions('quorum', shared)
  return Array.from({ length }, (_, index) => nodeConfig(`${name}[${index}]`, value[index], common))
}

/**
 * @param {string} name
 * @param {unknown} value a URL, as text or as an object, or options
 * @param {ReturnType<typeof nodeOptions>} common
 * @returns {{ config: RedisConfig, ask: CredentialsFunction | undefined, isOwn: boolean }}
 */
function nodeConfig(name, value, common) {
  const given = typeof value === 'string' || isUrl(value) ? { url: value } : value
  if (given === undefined) throw wrongType(name, 'a URL or an object', given)
  const { url, ...own } = object(name, given, NODE_KEYS, { elsewhere: notIndependent })
  const ownOptions = nodeOptions(name, own)
  const { connectTimeoutMs, commandTimeoutMs, ask, ...rest } = overridden(common, ownOptions)
  const config = {
    url: string(`${name}.url`, isUrl(url) ? url.href : url),
    replicas: 0,
    durable: false,
    nodeAddressMap: [],
    ...rest,
    connectTimeoutMs: connectTimeoutMs ?? 5_000,
    commandTimeoutMs: commandTimeoutMs ?? 2_000,
  }
  return { config, ask, isOwn: ownOptions.ask !== undefined }
}

/**
 * @param {string} name
 * @param {Node} options
 */
function nodeOptions(name, options) {
  return {
    username: optional(string, `${name}.username`, options.username),
    password: optional(string, `${name}.password`, options.password),
    ask: exclusiveCredentials(name, options),
    db: optional(integer, `${name}.db`, options.db, { min: 0, max: 2 ** 31 - 1 }),
    tls: optional(tlsConfig, `${name}.tls`, options.tls),
    connectTimeoutMs: optional(integer, `${name}.connectTimeoutMs`, options.connectTimeoutMs, TIMEOUT),
    commandTimeoutMs: optional(integer, `${name}.commandTimeoutMs`, options.commandTimeoutMs, TIMEOUT),
  }
}

/**
 * @param {ReturnType<typeof nodeOptions>} common
 * @param {ReturnType<typeof nodeOptions>} own
 * @returns {ReturnType<typeof nodeOptions>} what a node has of its own, otherwise what all have
 */
function overridden(common, own) {
  const given = Object.fromEntries(Object.entries(own).filter(([, value]) => value !== undefined))
  const merged = { ...common, ...given }
  // Of the two ways to log in, the node's own one counts.
  if (own.ask !== undefined) return { ...merged, username: undefined, password: undefined }
  if (own.username !== undefined || own.password !== undefined) return { ...merged, ask: undefined }
  return merged
}

/** @param {string} key */
function notIndependent(key) {
  return ['sentinels', 'name', 'cluster', 'replicas', 'durable'].includes(key)
    ? 'a node of a quorum is one independent server, without replicas that could take its place'
    : elsewhere(key)
}

module.exports = { quorumConfig }
