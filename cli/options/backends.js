'use strict'

/** The backends that a call can choose, and the options that belong to each: flags and variables. */

const { STRONG_GRANT_OPTIONS } = require('./grant.js')

/** @import { Options } from './arguments.js' */

/** @typedef {'redis' | 'quorum' | 'local'} Backend */

/** @type {readonly Backend[]} */
const BACKENDS = ['redis', 'quorum', 'local']

/** @type {Options} */
const WHERE = {
  redis: {
    type: 'string',
    value: 'url',
    variable: 'FENCELOCK_REDIS',
    text:
      'strong locks on the Redis or Valkey server of this URL: redis://, rediss://, redis+unix://, ' +
      'redis+sentinel://host,host/name or redis+cluster://host,host. A password in it is refused here, ' +
      'and accepted in the variable',
  },
  quorum: {
    type: 'string',
    value: 'urls',
    multiple: true,
    variable: 'FENCELOCK_QUORUM',
    text: 'quorum locks on 3, 5 or 7 independent servers: a list with commas, or the option repeated',
  },
  local: {
    type: 'string',
    value: 'file',
    completes: 'file',
    variable: 'FENCELOCK_LOCAL',
    text: 'local locks in this file; without any of the three options ./locks.sqlite',
  },
  'holder-name': {
    type: 'string',
    value: 'name',
    variable: 'FENCELOCK_HOLDER_NAME',
    text: 'the name that others see as the holder of locks, by default the host and the process',
  },
}

/** @type {Options} */
const REDIS = {
  prefix: {
    type: 'string',
    value: 'prefix',
    variable: 'FENCELOCK_PREFIX',
    text: 'the start of every Redis key, by default fencelock',
  },
  replicas: {
    type: 'string',
    value: 'n',
    variable: 'FENCELOCK_REPLICAS',
    text: 'how many replicas the primary is meant to have, by default 2; 0 for a development server',
  },
  durable: { type: 'boolean', text: 'a reply means that a log on disk has the write, as in Amazon MemoryDB' },
  username: { type: 'string', value: 'name', variable: 'FENCELOCK_USERNAME', text: 'ACL user' },
  'password-file': {
    type: 'string',
    value: 'file',
    completes: 'file',
    variable: 'FENCELOCK_PASSWORD',
    text: 'a file with the password in its first line; the variable has the password itself',
  },
  'sentinel-username': {
    type: 'string',
    value: 'name',
    variable: 'FENCELOCK_SENTINEL_USERNAME',
    text: 'ACL user of the Sentinels',
  },
  'sentinel-password-file': {
    type: 'string',
    value: 'file',
    completes: 'file',
    variable: 'FENCELOCK_SENTINEL_PASSWORD',
    text: 'the same for the Sentinels',
  },
  ca: {
    type: 'string',
    value: 'file',
    completes: 'file',
    variable: 'FENCELOCK_CA',
    text: 'certificate authorities to trust, PEM; by default those of Mozilla',
  },
  cert: { type: 'string', value: 'file', completes: 'file', text: 'client certificate, PEM; needs --key' },
  key: { type: 'string', value: 'file', completes: 'file', text: 'its private key, PEM' },
  'server-name': {
    type: 'string',
    value: 'name',
    text: 'the name that the certificate of the server must have',
  },
  'connect-timeout': { type: 'string', value: 'time', text: 'time limit for connecting, by default 5s' },
}

/** @type {Options} */
const QUORUM = {
  'max-ttl': {
    type: 'string',
    value: 'time',
    variable: 'FENCELOCK_MAX_TTL',
    text: 'the longest --ttl; all clients of a quorum must have the same one, by default 60s',
  },
  'restart-delay': {
    type: 'string',
    value: 'time',
    variable: 'FENCELOCK_RESTART_DELAY',
    text: 'how long a restarted node does not vote; shorter than --max-ttl is for development only',
  },
}

/** @type {Options} */
const LOCAL = {
  durability: { type: 'string', choices: ['normal', 'full'], text: 'full: leases survive a power loss' },
  mode: { type: 'string', value: 'mode', text: 'permissions of the file when it is created, such as 660' },
  'allow-network-filesystem': { type: 'boolean', text: 'accept a file on a network file system' },
}

/** Those of every command that connects. */
const GROUPS = [
  { title: 'Where the locks are', options: WHERE },
  { title: 'Redis, and the nodes of a quorum', options: REDIS },
  { title: 'Quorum locks', options: QUORUM },
  { title: 'Local locks', options: LOCAL },
]

/** @type {Readonly<Record<Backend, readonly Options[]>>} */
const BELONGS = { redis: [REDIS, STRONG_GRANT_OPTIONS], quorum: [REDIS, QUORUM], local: [LOCAL] }

/**
 * @param {Options} options
 * @param {string} name
 */
function variableOf(options, name) {
  return options[name]?.variable ?? ''
}

module.exports = { BACKENDS, BELONGS, GROUPS, QUORUM, REDIS, WHERE, variableOf }
