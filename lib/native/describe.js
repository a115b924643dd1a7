'use strict'

/** What `describe()` answers: everything the addon tells, with `null` where it does not know. */

function server({ product, version, isPrimary, aof, fsync, rdb, evictionPolicy, maxMemory, ...clock }) {
  return {
    product,
    version: version ?? null,
    role: isPrimary === undefined ? null : isPrimary ? 'primary' : 'replica',
    persistence: { aof: aof ?? null, fsync: fsync ?? null, rdb: rdb ?? null },
    evictionPolicy: evictionPolicy ?? null,
    maxMemoryBytes: maxMemory ?? null,
    clock:
      clock.clockSkewMs === undefined ? null : { skewMs: clock.clockSkewMs, errorMs: clock.clockErrorMs },
  }
}

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
 * @param {'strong' | 'local'} strategy
 * @param {number | null} acks that an acquire asks for by default
 * @param {import('../../binding').Guarantee} seen
 * @returns {import('../../index').Guarantee}
 */
function guarantee(strategy, acks, seen) {
  const { summary, warnings, survives, replicasDeclared: declared, replicasConnected: connected } = seen
  return {
    strategy,
    acks,
    replicas: declared === undefined ? null : { declared, connected: connected ?? null },
    summary,
    survives,
    server: seen.server === undefined ? null : server(seen.server),
    file: seen.file === undefined ? null : file(seen.file),
    warnings,
  }
}

module.exports = { guarantee }
