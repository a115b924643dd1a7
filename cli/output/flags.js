'use strict'

/** Messages of the library, which name its options, in words of the command line. */

/** Phrases, before the names that are in them. @type {readonly (readonly [RegExp, string])[]} */
const PHRASES = [
  [/redis: \{ url, replicas: (\d+) \}/g, '--replicas $1'],
  [/`replicas`/g, '--replicas'],
  [/\backs: (\d)/g, '--acks $1'],
  [/\b(?:defaults\.)?acks(?= is| must)/g, '--acks'],
  [/\bfewer acks\b/g, 'fewer acknowledgements (--acks)'],
  [/\bwaitMs: 0\b/g, '--no-wait'],
  [/\bset `allowNetworkFilesystem`/g, 'give --allow-network-filesystem'],
  [/(?<=\b(?:leave out|which|for) )fsync\b/g, '--fsync'],
  [/\bprefix(?= must)/g, '--prefix'],
  [/\blist\(\)/g, 'ls'],
]

/** What may precede the name of an option. */
const PATH = String.raw`(?:(?:defaults|redis|quorum|local|tls|sentinelTls)\.)`
/** Names that are no ordinary words. */
const NAMES = {
  ttlMs: '--ttl',
  ackTimeoutMs: '--ack-timeout',
  waitMs: '--wait',
  minHoldMs: '--min-hold',
  maxTtlMs: '--max-ttl',
  restartDelayMs: '--restart-delay',
  connectTimeoutMs: '--connect-timeout',
  holderName: '--holder-name',
  allowNetworkFilesystem: '--allow-network-filesystem',
  sentinelUsername: '--sentinel-username',
  sentinelPassword: '--sentinel-password-file',
}
/** Those that need the name of the option that they are in. */
const QUALIFIED = {
  acks: '--acks',
  fsync: '--fsync',
  replicas: '--replicas',
  durable: '--durable',
  url: '--redis',
  nodes: '--quorum',
  path: '--local',
  durability: '--durability',
  mode: '--mode',
  username: '--username',
  password: '--password-file',
  ca: '--ca',
  cert: '--cert',
  key: '--key',
  serverName: '--server-name',
}

/** @type {readonly (readonly [RegExp, string])[]} */
const WORDS = [
  ...PHRASES,
  ...Object.entries(NAMES).map(([name, flag]) => ofName(`(?<![\\w-])${PATH}*${name}`, flag)),
  ...Object.entries(QUALIFIED).map(([name, flag]) => ofName(`(?<![\\w-])${PATH}+${name}`, flag)),
]

/**
 * @param {string} source
 * @param {string} flag
 */
function ofName(source, flag) {
  return /** @type {const} */ ([new RegExp(`${source}(?!\\w)`, 'g'), flag])
}

/** An apostrophe is none. */
const QUOTED = /((?<!\w)'[^']*'(?!\w)|"(?:[^"\\]|\\.)*")/

/**
 * What is in quotation marks stays: it is the user's own.
 * @param {string} message
 */
function withFlags(message) {
  return message
    .split(QUOTED)
    .map((part, index) =>
      index % 2 === 1 ? part : WORDS.reduce((text, [word, flag]) => text.replaceAll(word, flag), part),
    )
    .join('')
}

module.exports = { NAMES, PHRASES, QUALIFIED, withFlags }
