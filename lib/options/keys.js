'use strict'

/**
 * The names of all options. Their types tie them to index.d.ts: an option that is declared and missing here,
 * or the reverse, fails `npm run typecheck`.
 */

const { keysOf } = require('./validate.js')

/** @import * as Public from '../../index.js' */

/** @type {Record<keyof Public.ManagerOptions, true>} */
const manager = {
  strategy: true,
  redis: true,
  quorum: true,
  local: true,
  prefix: true,
  holderName: true,
  defaults: true,
}

/**
 * @type {Record<
 *   keyof Public.RedisUrlOptions | keyof Public.RedisSentinelOptions | keyof Public.RedisClusterOptions, true
 * >}
 */
const redis = {
  url: true,
  sentinels: true,
  name: true,
  cluster: true,
  replicas: true,
  username: true,
  password: true,
  credentials: true,
  db: true,
  tls: true,
  sentinelUsername: true,
  sentinelPassword: true,
  sentinelTls: true,
  nodeAddressMap: true,
  durable: true,
  connectTimeoutMs: true,
  commandTimeoutMs: true,
}

/** @type {Record<Exclude<keyof Public.QuorumNodeOptions, 'url'>, true>} */
const reach = {
  username: true,
  password: true,
  credentials: true,
  db: true,
  tls: true,
  connectTimeoutMs: true,
  commandTimeoutMs: true,
}

/** @type {Record<keyof Public.QuorumNodeOptions, true>} */
const node = { url: true, ...reach }

/** @type {Record<keyof Public.QuorumOptions, true>} */
const quorum = { nodes: true, maxTtlMs: true, restartDelayMs: true, ...reach }

/** @type {Record<keyof Public.TlsOptions, true>} */
const tls = { ca: true, cert: true, key: true, serverName: true, rejectUnauthorized: true }

/** @type {Record<keyof Public.RedisCredentials, true>} */
const credentials = { username: true, password: true, expiresInMs: true }

/** @type {Record<keyof Public.ServerAddress, true>} */
const address = { host: true, port: true }

/** @type {Record<keyof Public.LocalOptions, true>} */
const local = { path: true, durability: true, allowNetworkFilesystem: true, mode: true }

/** @type {Record<keyof Public.RenewOptions, true>} */
const renew = { maxHoldMs: true, maxStallMs: true }

/** @type {Record<keyof Public.AcquireOptions, true>} */
const acquire = {
  ttlMs: true,
  minHoldMs: true,
  waitMs: true,
  fair: true,
  renew: true,
  signal: true,
  minToken: true,
}

/**
 * Of strategies whose grants replicas acknowledge.
 * @type {Record<Exclude<keyof Public.StrongOptions, keyof Public.AcquireOptions>, true>}
 */
const acknowledgement = { acks: true, ackTimeoutMs: true, fsync: true }

/** @type {Record<keyof NonNullable<Public.ManagerOptions['defaults']>, true>} */
const defaults = {
  ttlMs: true,
  waitMs: true,
  fair: true,
  renew: true,
  acks: true,
  ackTimeoutMs: true,
  fsync: true,
}

/** @type {Record<keyof Public.ElectOptions, true>} */
const elect = {
  ttlMs: true,
  fair: true,
  renew: true,
  signal: true,
  minToken: true,
  acks: true,
  ackTimeoutMs: true,
  fsync: true,
}

/** @type {Record<keyof Public.AdoptOptions, true>} */
const adopt = {
  ttlMs: true,
  renew: true,
  signal: true,
  minToken: true,
  acks: true,
  ackTimeoutMs: true,
  fsync: true,
}

/** @type {Record<keyof Public.CloseOptions, true>} */
const close = { drainMs: true }

/** @type {Record<keyof Public.ListOptions, true>} */
const list = { strategy: true, prefix: true, signal: true }

const MANAGER_KEYS = keysOf(manager)
const REDIS_KEYS = keysOf(redis)
const NODE_KEYS = keysOf(node)
const QUORUM_KEYS = keysOf(quorum)
const TLS_KEYS = keysOf(tls)
const CREDENTIALS_KEYS = keysOf(credentials)
const ADDRESS_KEYS = keysOf(address)
const LOCAL_KEYS = keysOf(local)
const RENEW_KEYS = keysOf(renew)
const ACQUIRE_KEYS = keysOf(acquire)
const ACKNOWLEDGEMENT_KEYS = keysOf(acknowledgement)
const DEFAULTS_KEYS = keysOf(defaults)
const ADOPT_KEYS = keysOf(adopt)
const ELECT_KEYS = keysOf(elect)
const CLOSE_KEYS = keysOf(close)
const LIST_KEYS = keysOf(list)

/** Where each option belongs, for one that was given in another place. */
const PLACES = [
  { keys: DEFAULTS_KEYS, place: 'the manager’s option defaults, or in the options of an acquire' },
  { keys: ACQUIRE_KEYS, place: 'the options of an acquire' },
  { keys: MANAGER_KEYS, place: 'the options of the manager' },
  { keys: REDIS_KEYS, place: 'the manager’s option redis' },
  { keys: QUORUM_KEYS, place: 'the manager’s option quorum' },
  { keys: TLS_KEYS, place: 'the manager’s option redis.tls, or redis.sentinelTls' },
  { keys: LOCAL_KEYS, place: 'the manager’s option local' },
  { keys: RENEW_KEYS, place: 'the option renew of an acquire, or of the manager’s defaults' },
  { keys: CLOSE_KEYS, place: 'the options of close' },
]

/** @param {string} key */
function elsewhere(key) {
  /** @param {{ keys: readonly string[] }} entry */
  const has = ({ keys }) => keys.includes(key)
  const found = PLACES.find(has)
  return found && `it belongs in ${found.place}`
}

module.exports = {
  ACKNOWLEDGEMENT_KEYS,
  ACQUIRE_KEYS,
  ADDRESS_KEYS,
  ADOPT_KEYS,
  CLOSE_KEYS,
  CREDENTIALS_KEYS,
  DEFAULTS_KEYS,
  ELECT_KEYS,
  LIST_KEYS,
  LOCAL_KEYS,
  MANAGER_KEYS,
  NODE_KEYS,
  QUORUM_KEYS,
  REDIS_KEYS,
  RENEW_KEYS,
  TLS_KEYS,
  elsewhere,
}
