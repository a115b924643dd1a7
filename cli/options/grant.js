'use strict'

/** The options about what a grant takes, of the commands that acquire or judge one. */

const { integer, text } = require('./arguments.js')
const { duration } = require('./durations.js')

/** @import { ManagerOptions } from '../../index.js' */
/** @import { Call, Options } from './arguments.js' */

/** @type {Options} */
const STRONG = {
  acks: {
    type: 'string',
    value: 'n',
    text: 'strong locks: how many replicas must acknowledge, a number, majority or all; by default all',
  },
  fsync: {
    type: 'boolean',
    text: 'strong locks: only with the lease on disk on the primary and these replicas',
  },
}

/** @type {Options} */
const GRANT_OPTIONS = {
  ttl: {
    type: 'string',
    value: 'time',
    text: 'how long the lease lasts without renewal, by default 10s: so long it outlives a host that dies',
  },
  ...STRONG,
}

/** Of commands that acquire. @type {Options} */
const ACK_TIMEOUT = {
  'ack-timeout': {
    type: 'string',
    value: 'time',
    text: 'strong locks: how long the replicas may take, up to half of --ttl; by default 50ms, with --fsync 2s',
  },
}

/** All of these that belong to strong locks. @type {Options} */
const STRONG_GRANT_OPTIONS = { ...STRONG, ...ACK_TIMEOUT }

/**
 * @param {Call} call
 * @returns {NonNullable<ManagerOptions['defaults']>}
 */
function grantDefaults(call) {
  const ttl = text(call, 'ttl')
  const acks = text(call, 'acks')
  const ackTimeout = text(call, 'ack-timeout')
  return {
    ...(ttl !== undefined && { ttlMs: duration('--ttl', ttl, { min: '10ms', max: '1d' }) }),
    ...(acks !== undefined && { acks: acksOf(acks) }),
    ...(ackTimeout !== undefined && {
      ackTimeoutMs: duration('--ack-timeout', ackTimeout, { min: '1ms', max: '12h' }),
    }),
    ...(call.values.fsync === true && { fsync: true }),
  }
}

/** @param {string} value */
function acksOf(value) {
  return value === 'all' || value === 'majority' ? value : integer('--acks', value, { min: 0, max: 1_000 })
}

module.exports = { ACK_TIMEOUT, GRANT_OPTIONS, STRONG_GRANT_OPTIONS, grantDefaults }
