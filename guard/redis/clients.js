'use strict'

/** The clients on which a Redis guard can run its scripts, and what their errors mean. */

const { randomBytes } = require('node:crypto')

const { invalid } = require('../../lib/errors.js')
const { kind } = require('../../lib/options/validate.js')
const { hasMethods, messageOf, propertiesOf } = require('../core/properties.js')
const { ConnectionWatch, listenToIoredis, listenToNodeRedis, watchOf } = require('./connection-watch.js')

/** @import { BunRedisLike, IoredisLike, NodeRedisLike } from '../redis.js' */

/** @typedef {(script: string, keys: string[], args: (string | Uint8Array)[]) => Promise<unknown>} Call */

/**
 * How a client runs a script.
 * @typedef {object} ScriptRunner
 * @property {Call} evalSha
 * @property {Call} eval
 * @property {() => boolean} isEnded whether a call would send nothing and never settle, as with ioredis
 * @property {InstanceType<typeof ConnectionWatch>} watch of its connections
 * @property {() => boolean} isDropping whether a command that it has sent is never settled after a break, as
 *   with ioredis and `autoResendUnfulfilledCommands: false`
 * @property {() => string} mark what the answer to a call has to end with; empty if there is no need for it
 * @property {() => Promise<boolean>} isInStep whether the last answers were those to their own commands
 */

/**
 * @param {object} client
 * @returns {client is BunRedisLike}
 */
function isBunRedis(client) {
  // In some versions it also has methods for scripts, with arguments of their own.
  return hasMethods(client, 'send') && 'bufferedAmount' in client
}

/**
 * @param {object} client
 * @returns {client is NodeRedisLike}
 */
function isNodeRedis(client) {
  // It has both spellings, and only this one takes an object.
  return hasMethods(client, 'evalSha', 'eval')
}

/**
 * @param {object} client
 * @returns {client is IoredisLike & { status?: string, options?: unknown }}
 */
function isIoredis(client) {
  return hasMethods(client, 'evalsha', 'eval')
}

const no = () => false

/** For a client that never takes an answer for that to another command. */
const reliable = { mark: () => '', isInStep: async () => true }

/** Distinguishes the marks of this copy of the package. */
const copy = randomBytes(6).toString('hex')
let marks = 0

const newMark = () => `@${copy}:${++marks}`

/**
 * When its connection breaks, Bun 1.2 keeps the commands that it has sent, and then returns to each of them
 * the answer to a later one. It never recovers from that, so after an answer without a mark, such as an
 * error, a further one can show it.
 * @param {BunRedisLike} client
 */
function marking(client) {
  return {
    mark: newMark,
    isInStep: async () => {
      const sent = newMark()
      try {
        return (await client.send('ECHO', [sent])) === sent
      } catch (error) {
        // It may not be allowed. Redis then names it.
        return messageOf(error).includes("'echo'")
      }
    },
  }
}

/**
 * Whether ioredis never settles what it has sent when a connection breaks. A cluster has the options of its
 * connections in `redisOptions`.
 * @param {unknown} options
 */
function isDropping(options) {
  const { autoResendUnfulfilledCommands: own, redisOptions } = propertiesOf(options)
  return own === false || propertiesOf(redisOptions).autoResendUnfulfilledCommands === false
}

/**
 * @param {object} client
 * @returns {ScriptRunner | undefined} undefined for an unknown client
 */
function runnerFor(client) {
  if (isBunRedis(client)) {
    /** @type {(command: string) => Call} */
    const call = (command) => (text, keys, args) =>
      client.send(command, [text, String(keys.length), ...keys, ...args])
    return {
      isEnded: no,
      ...marking(client),
      // It never sends a command again.
      watch: new ConnectionWatch(),
      isDropping: no,
      evalSha: call('EVALSHA'),
      eval: call('EVAL'),
    }
  }
  if (isNodeRedis(client)) {
    return {
      ...reliable,
      isEnded: no,
      watch: watchOf(client, listenToNodeRedis),
      isDropping: no,
      evalSha: (sha, keys, args) => client.evalSha(sha, { keys, arguments: args }),
      eval: (text, keys, args) => client.eval(text, { keys, arguments: args }),
    }
  }
  if (isIoredis(client)) {
    return {
      ...reliable,
      isEnded: () => client.status === 'end',
      watch: watchOf(client, listenToIoredis),
      isDropping: () => isDropping(client.options),
      evalSha: (sha, keys, args) => client.evalsha(sha, keys.length, ...keys, ...args),
      eval: (text, keys, args) => client.eval(text, keys.length, ...keys, ...args),
    }
  }
  return undefined
}

/**
 * Whether scripts can be run on it.
 * @param {object} value
 */
function isClient(value) {
  return isBunRedis(value) || isNodeRedis(value) || isIoredis(value)
}

/**
 * Accepts ioredis, node-redis, Bun's client, and whatever runs scripts like one of them: clusters, pools,
 * test doubles.
 * @param {unknown} client
 */
function scriptRunner(client) {
  const isObject = typeof client === 'object' && client !== null
  const runner = isObject ? runnerFor(client) : undefined
  if (runner !== undefined) return runner
  const got = isObject ? 'an object without evalSha or evalsha' : kind(client)
  throw invalid(
    TypeError,
    'client must be a client of ioredis or node-redis (package redis, version 5 or newer), ' +
      `or Bun’s RedisClient, got ${got}`,
  )
}

/**
 * What an error of a client means. With `unloaded` (the server does not know the script), `slots` (the keys
 * are in several slots), `unsupported`, `refused` and `unsent` nothing was written. `mistake` is an argument
 * that the client does not accept, `reply` any other error of the server. `unknown`: there is no answer, and
 * the script may have run.
 * @typedef {'unloaded' | 'slots' | 'unsupported' | 'refused' | 'unsent' | 'mistake' | 'reply' | 'unknown'}
 *   Meaning
 */

/**
 * By the first word of the server's message.
 * @type {ReadonlyMap<string | undefined, Meaning>}
 */
const REPLY_CODES = new Map([
  ['NOSCRIPT', 'unloaded'],
  ['CROSSSLOT', 'slots'],
  ['NOPERM', 'unsupported'],
  ['BUSY', 'refused'],
  ['CLUSTERDOWN', 'refused'],
  ['LOADING', 'refused'],
  ['MASTERDOWN', 'refused'],
  ['MISCONF', 'refused'],
  ['NOAUTH', 'refused'],
  ['NOREPLICAS', 'refused'],
  ['OOM', 'refused'],
  ['READONLY', 'refused'],
  ['TRYAGAIN', 'refused'],
])

/** The classes of errors that the server sent, in ioredis and node-redis. */
const REPLIES = new Set(['ReplyError', 'ErrorReply', 'SimpleError', 'BlobError'])

/** The classes of node-redis for a command that was never sent; ioredis and Bun have a sentence for it. */
const UNSENT = new Set(['ClientClosedError', 'ClientOfflineError'])
const UNSENT_SENTENCES = ["Stream isn't writeable", 'Connection has failed']

/** What clients throw for an argument that they do not accept. */
const MISTAKES = new Set(['TypeError'])

/**
 * Bun has one class for all errors. Older versions have the same code for an error of the server and for an
 * invalid answer.
 * @param {unknown} error
 * @param {string | undefined} word the first one of its message
 */
function isBunReply(error, word) {
  const { code } = propertiesOf(error)
  if (code === 'ERR_REDIS_SERVER_ERROR') return true
  return code === 'ERR_REDIS_INVALID_RESPONSE' && word !== undefined && word.length > 1
}

/**
 * Whether the class of an error, or one that it extends, has one of these names.
 * @param {unknown} error
 * @param {Set<string>} names
 */
function isA(error, names) {
  // Not by `instanceof`: test runners and bundlers give a client another realm, with an Error of its own.
  let type = error
  while (typeof type === 'object' && type !== null) {
    const { constructor } = propertiesOf(type)
    if (typeof constructor === 'function' && names.has(constructor.name)) return true
    type = /** @type {unknown} */ (Object.getPrototypeOf(type))
  }
  return false
}

/**
 * @param {unknown} error
 * @returns {Meaning}
 */
function meaning(error) {
  const message = messageOf(error)
  const word = /^[A-Z]+/.exec(message)?.[0]
  const known = message.startsWith('ERR unknown command') ? 'unsupported' : REPLY_CODES.get(word)
  if (known !== undefined) return known
  if (isA(error, REPLIES) || isBunReply(error, word)) return 'reply'
  if (isA(error, UNSENT) || UNSENT_SENTENCES.some((sentence) => message.startsWith(sentence))) return 'unsent'
  return isA(error, MISTAKES) ? 'mistake' : 'unknown'
}

module.exports = { isClient, meaning, scriptRunner }
