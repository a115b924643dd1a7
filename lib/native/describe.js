'use strict'

/** The result of `describe()`: all that the addon reports, with `null` for what is unknown. */

/** @import * as Native from '../../binding.js' */
/** @import * as Public from '../../index.js' */

/**
 * @param {Native.Server} seen
 * @returns {Public.ServerInfo}
 */
function server({ product, version, isPrimary, aof, fsync, rdb, evictionPolicy, maxMemory, ...clock }) {
  const { clockSkewMs: skewMs, clockErrorMs: errorMs } = clock
  return {
    product: /** @type {Public.ServerInfo['product']} */ (product),
    version: version ?? null,
    role: isPrimary === undefined ? null : isPrimary ? 'primary' : 'replica',
    persistence: { aof: aof ?? null, fsync: fsync ?? null, rdb: rdb ?? null },
    evictionPolicy: evictionPolicy ?? null,
    maxMemoryBytes: maxMemory ?? null,
    clock: skewMs === undefined || errorMs === undefined ? null : { skewMs, errorMs },
  }
}

/**
 * @param {Native.LockFile} seen
 * @returns {Public.LockFileInfo}
 */
function file({ path, exists, filesystem, isNetwork, isDurable, journal }) {
  return {
    path,
    exists,
    filesystem: filesystem ?? null,
    network: isNetwork,
    durability: isDurable ? 'full' : 'normal',
    journal,
  }
}

/**
 * @param {Public.Strategy} strategy
 * @param {number | null} acks that an acquire requires by default
 * @param {Native.Guarantee} seen
 * @returns {Public.Guarantee}
 */
function guarantee(strategy, acks, seen) {
  const { summary, warnings, survives, replicasDeclared: declared, replicasConnected: connected } = seen
  return {
    strategy,
    acks,
    replicas: declared === undefined ? null : { declared, connected: connected ?? null },
    summary,
    survives: /** @type {Public.Survives} */ (survives),
    server: seen.server === undefined ? null : server(seen.server),
    file: seen.file === undefined ? null : file(seen.file),
    warnings,
  }
}

module.exports = { guarantee }
