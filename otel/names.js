'use strict'

/** The names of spans, metrics and attributes. Durations are in seconds, as OpenTelemetry wants them. */

const SPANS = /** @type {const} */ ({
  acquire: 'fencelock.acquire',
  extend: 'fencelock.extend',
  release: 'fencelock.release',
})

const ATTRIBUTES = /** @type {const} */ ({
  strategy: 'fencelock.strategy',
  outcome: 'fencelock.outcome',
  cause: 'fencelock.loss.cause',
  group: 'fencelock.resource.group',
  /** Of spans only. */
  resources: 'fencelock.resources',
  token: 'fencelock.token',
  waited: 'fencelock.wait.duration',
  held: 'fencelock.hold.duration',
  acks: 'fencelock.acks',
  address: 'server.address',
  port: 'server.port',
  errorType: 'error.type',
})

/** From half a millisecond, which a local lock takes, to waits of a minute. */
const CALL_BUCKETS = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60]
/** From short transactions to leaders that stay for an hour. */
const HOLD_BUCKETS = [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 300, 900, 3_600]

/**
 * @typedef {object} Metric
 * @property {string} name
 * @property {string} unit
 * @property {string} description
 * @property {number[]} [buckets] of a histogram
 */

const METRICS = /** @satisfies {Record<string, Metric>} */ ({
  acquireDuration: {
    name: 'fencelock.acquire.duration',
    unit: 's',
    description: 'How long acquires took, waits included.',
    buckets: CALL_BUCKETS,
  },
  waitDuration: {
    name: 'fencelock.wait.duration',
    unit: 's',
    description: 'How long acquires waited that found the lock held.',
    buckets: CALL_BUCKETS,
  },
  holdDuration: {
    name: 'fencelock.hold.duration',
    unit: 's',
    description: 'How long leases were held that were released or handed over, or that are lost.',
    buckets: HOLD_BUCKETS,
  },
  renewalLag: {
    name: 'fencelock.renewal.lag',
    unit: 's',
    description: 'How long after they were due attempts to renew a lease began.',
    buckets: CALL_BUCKETS,
  },
  acquisitions: {
    name: 'fencelock.acquisitions',
    unit: '{acquisition}',
    description: 'Acquires that have ended, by outcome.',
  },
  losses: {
    name: 'fencelock.losses',
    unit: '{lease}',
    description: 'Leases that ended although their holders had not ended them, by cause.',
  },
  activeLeases: {
    name: 'fencelock.active_leases',
    unit: '{lease}',
    description: 'Leases that are held now.',
  },
  queuedAcquisitions: {
    name: 'fencelock.queued_acquisitions',
    unit: '{acquisition}',
    description: 'Acquires that wait now because the lock is held.',
  },
  connections: {
    name: 'fencelock.connection.count',
    unit: '{connection}',
    description: 'Connections to servers with leases that are open now.',
  },
})

module.exports = { ATTRIBUTES, METRICS, SPANS }
