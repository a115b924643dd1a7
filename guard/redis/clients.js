'use strict'

/** The clients a Redis guard can run its scripts on, and what their errors mean. */

const { kind } = require('../../lib/options/validate.js')
const { invalid } = require('../../lib/errors.js')

/**
 * How a client calls a script; undefined for what is none we know.
 * @returns {{ evalSha: Call, eval: Call, isEnded: () => boolean } | undefined} `isEnded`: a call would send nothing, and
 *   ioredis would not say so
 * @typedef {(script: string, keys: string[], args: (string | Uint8Array)[]) => Promise<unknown>} Call
 */
function callsOf(client) {
  // Bun's has methods for scripts too, in some versions and with arguments of their own.
  if (typeof client.send === 'function' && 'bufferedAmount' in client) {
    const call = (command) => (text, keys, args) =>
      client.send(command, [text, String(keys.length), ...keys, ...args])
    return { isEnded: () => false, evalSha: call('EVALSHA'), eval: call('EVAL') }
  }
  // node-redis has both spellings, and only this one takes an object.
  if (typeof client.evalSha === 'function' && typeof client.eval === 'function') {
    return {
      isEnded: () => false,
      evalSha: (sha, keys, args) => client.evalSha(sha, { keys, arguments: args }),
      eval: (text, keys, args) => client.eval(text, { keys, arguments: args }),
    }
  }
  if (typeof client.evalsha === 'function' && typeof client.eval === 'function') {
    return {
      isEnded: () => client.status === 'end',
      evalSha: (sha, keys, args) => client.evalsha(sha, keys.length, ...keys, ...args),
      eval: (text, keys, args) => client.eval(text, keys.length, ...keys, ...args),
    }
  }
  return undefined
}

/** ioredis, node-redis, Bun's, or anything that calls scripts like one of them: clusters, pools, test doubles. */
function redisClient(client) {
  const calls = typeof client === 'object' && client !== null ? callsOf(client) : undefined
  if (calls !== undefined) return calls
  const got =
    typeof client === 'object' && client !== null ? 'an object without evalSha or evalsha' : kind(client)
  throw invalid(
    TypeError,
    `client must be a client of ioredis or node-redis (package redis, version 5 or newer), or Bun’s RedisClient, got ${got}`,
  )
}

/** The classes of errors that the server sent, in ioredis and node-redis. */
const REPLIES = new Set(['ReplyError', 'ErrorReply', 'SimpleError', 'BlobError'])

/** What node-redis says of a command that it never sent; ioredis and Bun have a sentence for it. */
const UNSENT = new Set(['ClientClosedError', 'ClientOfflineError'])
const UNSENT_SENTENCES = ["Stream isn't writeable", 'Connection has failed']

/** What the first word of a reply means. With each of these nothing was written. */
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

/** Bun has one class for all; older ones have one code for what the server says and for what is no answer at all. */
function isBunReply({ code }, word) {
  return code === 'ERR_REDIS_SERVER_ERROR' || (code === 'ERR_REDIS_INVALID_RESPONSE' && word?.length > 1)
}

/** Whether one of these words names the error's class or one that it extends. */
function isA(error, names) {
  for (let type = error; type instanceof Error; type = Object.getPrototypeOf(type)) {
    if (names.has(type.constructor?.name)) return true
  }
  return false
}

/**
 * What an error of a client means: `unloaded` (the server does not know the script), `slots` (keys of several slots),
 * `unsupported`, `refused`, `unsent` (nothing was written in any of these), `mistake` (an argument that the client does
 * not take), `reply` (any other answer of the server), or `unknown`: there is no answer, and it may have been done.
 */
function meaning(error) {
  const message = String(error?.message ?? error)
  const code = /^[A-Z]+/.exec(message)?.[0]
  const known = message.startsWith('ERR unknown command') ? 'unsupported' : REPLY_CODES.get(code)
  if (known !== undefined) return known
  if (isA(error, REPLIES) || isBunReply(error ?? {}, code)) return 'reply'
  if (isA(error, UNSENT) || UNSENT_SENTENCES.some((sentence) => message.startsWith(sentence))) return 'unsent'
  return error instanceof TypeError ? 'mistake' : 'unknown'
}

module.exports = { meaning, redisClient }
