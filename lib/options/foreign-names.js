'use strict'

/** What other libraries call an option of `redis`, and what to do here instead. */

/** @param {string} name */
const mean = (name) => `did you mean ${JSON.stringify(name)}?`
const IN_REDIS =
  'pass username, password, db and tls in redis itself: they apply to all servers with the data'
const RECONNECTS = 'connections are made again by themselves; waitMs of an acquire says how long it may wait'
const FOLLOWS = 'the servers are followed by themselves; leave it out'
const PRIMARY = 'locks are always taken on the primary; leave it out'
const URL_OF_HOST = "pass url: 'redis://host:port'"

const HINTS = new Map([
  ['masterName', mean('name')],
  ['serviceName', mean('name')],
  ['sentinelRootNodes', mean('sentinels')],
  ['sentinelAddresses', mean('sentinels')],
  ['rootNodes', mean('cluster')],
  ['startupNodes', mean('cluster')],
  ['clusterNodes', mean('cluster')],
  ['natMap', mean('nodeAddressMap')],
  ['addressMap', mean('nodeAddressMap')],
  ['database', mean('db')],
  ['user', mean('username')],
  ['pass', mean('password')],
  ['auth', mean('password')],
  ['nodeClientOptions', IN_REDIS],
  ['redisOptions', IN_REDIS],
  ['sentinelClientOptions', 'pass sentinelUsername, sentinelPassword and sentinelTls in redis itself'],
  [
    'enableTLSForSentinelMode',
    'pass sentinelTls: true for TLS to the Sentinels, tls: true for TLS to the servers that they announce',
  ],
  ['role', PRIMARY],
  ['preferredSlaves', PRIMARY],
  ['useReplicas', PRIMARY],
  ['scaleReads', PRIMARY],
  ['readFrom', PRIMARY],
  ['readOnly', PRIMARY],
  ['retryStrategy', RECONNECTS],
  ['clusterRetryStrategy', RECONNECTS],
  ['sentinelRetryStrategy', RECONNECTS],
  ['sentinelReconnectStrategy', RECONNECTS],
  ['sentinelMaxConnections', FOLLOWS],
  ['reconnectOnError', RECONNECTS],
  ['maxRetriesPerRequest', RECONNECTS],
  ['enableOfflineQueue', RECONNECTS],
  ['slotsRefreshTimeout', FOLLOWS],
  ['slotsRefreshInterval', FOLLOWS],
  ['minimizeConnections', FOLLOWS],
  ['maxCommandRedirections', FOLLOWS],
  ['maxCommandRediscovers', FOLLOWS],
  ['maxRedirections', FOLLOWS],
  ['scanInterval', FOLLOWS],
  ['failoverDetector', FOLLOWS],
  ['updateSentinels', FOLLOWS],
  ['passthroughClientErrorEvents', FOLLOWS],
  ['masterPoolSize', FOLLOWS],
  ['replicaPoolSize', FOLLOWS],
  ['host', URL_OF_HOST],
  ['port', URL_OF_HOST],
  ['family', URL_OF_HOST],
  ['socket', `${URL_OF_HOST}, and TLS as tls`],
  ['keyPrefix', 'it is the option prefix of the manager'],
])

/** @param {string} key */
function foreignName(key) {
  return HINTS.get(key)
}

module.exports = { foreignName }
