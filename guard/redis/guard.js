'use strict'

/** The guard for data in Redis: a script compares the token and writes, in one atomic step. */

const { isMap } = require('node:util').types

const { abortReason } = require('../../lib/abort.js')
const { invalid } = require('../../lib/errors.js')
const { identify, throughProxies } = require('../../lib/identity.js')
const { keyPrefix, resourceName } = require('../../lib/options/names.js')
const {
  abortSignal,
  boolean,
  hasProperty,
  integer,
  keysOf,
  object,
  oneOf,
  optional,
  wrongType,
} = require('../../lib/options/validate.js')
const { few, parts, redisKey } = require('../core/options.js')
const { assertHeld, readLock, stale } = require('../core/token.js')
const { isClient, meaning, scriptRunner } = require('./clients.js')
const { failure, notAToken, resent } = require('./errors.js')
const { fenceKey, ownerKey } = require('./fence-keys.js')
const { NoAnswer, patiently } = require('./patience.js')
const { ADVANCE, COMMAND, READ, custom } = require('./scripts.js')

/** @import * as Public from '../redis.js' */
/** @import { FencedLock } from '../fenced-lock.js' */
/** @import { Meaning, ScriptRunner } from './clients.js' */
/** @import { About } from './errors.js' */
/** @import { Patience } from './patience.js' */
/** @import { Script } from './scripts.js' */

const MAX_TTL_MS = Number.MAX_SAFE_INTEGER
const MAX_SCRIPTS = 1_000

const TIMEOUT = { min: 1, max: 86_400_000 }

/** @type {Record<keyof Public.RedisGuardOptions, true>} */
const guardOptions = { client: true, prefix: true, fenceTtlMs: true, timeoutMs: true }
/** @type {Record<keyof Public.RedisCallOptions, true>} */
const callOptions = { timeoutMs: true, signal: true }
/** @type {Record<keyof Public.RedisSetOptions, true>} */
const setOptions = { ...callOptions, ttlMs: true, keepTtl: true, if: true }
/** @type {Record<keyof Public.RedisScriptOptions, true>} */
const scriptOptions = { ...callOptions, keys: true, args: true }

const GUARD_KEYS = keysOf(guardOptions)
const CALL_KEYS = keysOf(callOptions)
const SET_KEYS = keysOf(setOptions)
const SCRIPT_KEYS = keysOf(scriptOptions)

/** @type {Record<NonNullable<Public.RedisSetOptions['if']>, string>} */
const CONDITIONS = { absent: 'NX', present: 'XX' }
const CONDITION_NAMES = /** @type {(keyof typeof CONDITIONS)[]} */ (Object.keys(CONDITIONS))

/** @implements {Public.RedisGuard} */
class RedisGuard {
  #runner
  #prefix
  #fenceTtl
  #timeoutMs
  /**
   * The callers' scripts by their text.
   * @type {Map<string, Script>}
   */
  #scripts = new Map()

  /**
   * @param {ScriptRunner} runner
   * @param {string} prefix
   * @param {number | undefined} fenceTtlMs
   * @param {number} timeoutMs
   */
  constructor(runner, prefix, fenceTtlMs, timeoutMs) {
    identify(this, 'a guard cannot be cloned')
    this.#runner = runner
    this.#prefix = prefix
    this.#fenceTtl = fenceTtlMs === undefined ? '' : String(fenceTtlMs)
    this.#timeoutMs = timeoutMs
  }

  /** @param {string} resource */
  fenceKey(resource) {
    return fenceKey(this.#prefix, resourceName(resource))
  }

  /**
   * @param {FencedLock} lock
   * @param {Public.RedisCallOptions} [options]
   */
  async advance(lock, options) {
    await this.#run({ script: ADVANCE, lock, patience: this.#patience(options) })
  }

  /**
   * @param {string} resource
   * @param {Public.RedisCallOptions} [options]
   */
  async highWater(resource, options) {
    const name = resourceName(resource)
    const about = { names: [name], strategy: undefined, isRead: true }
    const mark = this.#runner.mark()
    const reply = await this.#send(READ, [this.fenceKey(name)], [mark], this.#patience(options), about)
    const stored = unmarked(reply, mark, about)
    if (stored === 'none') return null
    if (stored === 'odd') throw notAToken(this.fenceKey(name), name, about)
    return BigInt(stored)
  }

  /**
   * @param {FencedLock} lock
   * @param {string} key
   * @param {Public.RedisValue} value
   * @param {Public.RedisSetOptions} [options]
   */
  async set(lock, key, value, options) {
    const given = object('options', options, SET_KEYS)
    const { ttlMs, keepTtl = false, if: condition } = given
    if (ttlMs !== undefined && keepTtl) {
      throw invalid(
        TypeError,
        'ttlMs and keepTtl exclude each other: give the key a new TTL, or let it keep its own',
      )
    }
    const args = parts('value', [value])
    if (ttlMs !== undefined) args.push('PX', String(integer('ttlMs', ttlMs, { min: 1, max: MAX_TTL_MS })))
    if (boolean('keepTtl', keepTtl)) args.push('KEEPTTL')
    if (condition !== undefined) args.push(CONDITIONS[oneOf('if', condition, CONDITION_NAMES)])
    const keys = [redisKey(key)]
    const patience = this.#limits(given)
    // When the script is sent again, the condition may fail because of what the first attempt wrote.
    const isConclusive = (/** @type {unknown} */ result) => condition === undefined || result !== null
    const call = { script: COMMAND, lock, keys, args: ['SET', ...args], patience, isConclusive }
    return (await this.#run(call)) !== null
  }

  /**
   * @param {FencedLock} lock
   * @param {string} key
   * @param {Readonly<Record<string, Public.RedisValue>> | ReadonlyMap<string | Uint8Array,
   *   Public.RedisValue>} fields
   * @param {Public.RedisCallOptions} [options]
   */
  async hset(lock, key, fields, options) {
    if (typeof fields !== 'object' || fields === null) throw wrongType('fields', 'an object or a Map', fields)
    const pairs = isMap(fields) ? [...fields] : Object.entries(fields)
    if (pairs.length === 0) throw invalid(RangeError, 'fields must not be empty')
    const args = parts('fields', pairs.flat())
    return Number(await this.#command(lock, 'HSET', [redisKey(key)], args, options))
  }

  /**
   * @param {FencedLock} lock
   * @param {string | readonly string[]} key
   * @param {Public.RedisCallOptions} [options]
   */
  async del(lock, key, options) {
    const keys = Array.isArray(key) ? Array.from(key, (each) => redisKey(each)) : [redisKey(key)]
    if (keys.length === 0) throw invalid(RangeError, 'an array of keys must not be empty')
    return Number(await this.#command(lock, 'DEL', few('an array of keys', keys), [], options))
  }

  /**
   * @param {FencedLock} lock
   * @param {string} body
   * @param {Public.RedisScriptOptions} [options]
   */
  async run(lock, body, options) {
    if (typeof body !== 'string') throw wrongType('the script', 'Lua as a string', body)
    const given = object('options', options, SCRIPT_KEYS)
    const { keys = [], args = [] } = given
    if (!Array.isArray(keys)) throw wrongType('keys', 'an array', keys)
    if (!Array.isArray(args)) throw wrongType('args', 'an array', args)
    return this.#run({
      script: this.#customScript(body),
      lock,
      keys: Array.from(keys, (key) => redisKey(key)),
      args: parts('args', Array.from(args)),
      patience: this.#limits(given),
    })
  }

  /** @param {unknown} options of a call that has no others */
  #patience(options) {
    return this.#limits(object('options', options, CALL_KEYS))
  }

  /**
   * @param {{ readonly timeoutMs?: unknown, readonly signal?: unknown }} options
   * @returns {Patience}
   */
  #limits({ timeoutMs, signal }) {
    return {
      timeoutMs: timeoutMs === undefined ? this.#timeoutMs : timeLimit(timeoutMs),
      signal: optional(abortSignal, 'signal', signal),
    }
  }

  /** @param {string} body */
  #customScript(body) {
    let script = this.#scripts.get(body)
    if (script === undefined) {
      script = custom(body)
      // Scripts are code, so there are few. Text that is assembled for each call must not pile up here.
      if (this.#scripts.size >= MAX_SCRIPTS) this.#scripts.clear()
      this.#scripts.set(body, script)
    }
    return script
  }

  /**
   * @param {FencedLock} lock
   * @param {string} name
   * @param {string[]} keys
   * @param {(string | Uint8Array)[]} args
   * @param {Public.RedisCallOptions | undefined} options
   */
  #command(lock, name, keys, args, options) {
    return this.#run({
      script: COMMAND,
      lock,
      keys,
      args: [name, ...args],
      patience: this.#patience(options),
    })
  }

  /**
   * @param {object} call
   * @param {Script} call.script
   * @param {FencedLock} call.lock
   * @param {string[]} [call.keys]
   * @param {(string | Uint8Array)[]} [call.args]
   * @param {Patience} call.patience
   * @param {(result: unknown) => boolean} [call.isConclusive] whether the result of a write is the same when
   *   the script had run before
   * @returns {Promise<unknown>}
   */
  async #run({ script, lock, keys = [], args = [], patience, isConclusive = () => true }) {
    const lease = readLock(lock)
    assertHeld(lease)
    const { names, token, owner = '' } = lease
    const fences = names.map((name) => fenceKey(this.#prefix, name))
    if (owner !== '') fences.push(...names.map((name) => ownerKey(this.#prefix, name)))
    const { watch } = this.#runner
    const { breaks } = watch
    const mark = this.#runner.mark()
    const reply = await this.#send(
      script,
      [...fences, ...keys],
      [String(names.length), String(token), this.#fenceTtl, mark, owner, ...args],
      patience,
      lease,
    )
    const [outcome, detail, stored] = Array.isArray(reply) ? reply : []
    const broke = watch.breaks !== breaks
    switch (unmarked(outcome, mark, lease)) {
      case 'done':
        if (broke && !isConclusive(detail ?? null)) throw resent(new Error('its condition failed'), lease)
        return detail ?? null
      case 'stale': {
        const error = stale(lease, names[detail - 1], BigInt(String(stored)))
        throw broke ? resent(error, lease) : error
      }
      case 'odd':
        throw notAToken(fences[detail - 1], names[(detail - 1) % names.length], lease)
      case 'failed': {
        const error = new Error(String(detail))
        throw broke ? resent(error, lease) : error
      }
      default:
        throw notOwn(lease)
    }
  }

  /**
   * Sends the hash of a script, and its text to a server that does not know it; nothing has run then.
   * @param {Script} script
   * @param {string[]} keys
   * @param {(string | Uint8Array)[]} args
   * @param {Patience} patience
   * @param {About} about
   */
  async #send(script, keys, args, patience, about) {
    const runner = this.#runner
    const { signal } = patience
    if (signal?.aborted) throw abortReason(signal)
    if (runner.isEnded()) throw failure('unsent', new Error('the client is closed'), about)
    const { breaks } = runner.watch
    const mayHaveWritten = () => !about.isRead && runner.watch.breaks !== breaks
    /** @param {unknown} error */
    const meaningOf = async (error) => {
      const what = meaning(error)
      const isReply = isAnswer(what) && what !== 'unsent'
      return isReply && !(await runner.isInStep()) ? 'unknown' : what
    }
    /**
     * @param {Meaning} what
     * @param {unknown} error
     */
    const failed = (what, error) =>
      isAnswer(what) && mayHaveWritten() ? resent(error, about) : failure(what, error, about)
    /** @param {() => boolean} isOver */
    const exchange = async (isOver) => {
      try {
        return await runner.evalSha(script.sha, keys, args)
      } catch (error) {
        const what = await meaningOf(error)
        const isUnloaded = what === 'unloaded' && !mayHaveWritten()
        if (!isUnloaded || isOver()) throw failed(what, error)
      }
      try {
        return await runner.eval(script.text, keys, args)
      } catch (error) {
        throw failed(await meaningOf(error), error)
      }
    }
    try {
      return await patiently(exchange, patience, runner.isDropping() ? runner.watch : undefined)
    } catch (error) {
      // Any other error is that of the exchange, or of a signal that cannot be listened to: nothing was sent.
      if (!(error instanceof NoAnswer)) throw error
      // A write may have been done, of which the reason says nothing.
      if (about.isRead && error.isAborted && signal !== undefined) throw abortReason(signal)
      throw failure('unknown', error, about)
    }
  }
}

/**
 * An answer without the mark of its call.
 * @param {unknown} answer
 * @param {string} mark empty for a client that never confuses answers
 * @param {About} about
 */
function unmarked(answer, mark, about) {
  const text = String(answer)
  if (!text.endsWith(mark)) throw notOwn(about)
  return text.slice(0, text.length - mark.length)
}

/** @param {About} about */
function notOwn(about) {
  const why = 'the client returned something else, or the answer to another command: connect a new client'
  return failure('unknown', new Error(why), about)
}

/** @param {Meaning} what of an error: the server's, or a client's that has sent nothing */
function isAnswer(what) {
  return what !== 'mistake' && what !== 'unknown'
}

/** @param {unknown} value */
function timeLimit(value) {
  return value === Infinity ? value : integer('timeoutMs', value, TIMEOUT)
}

throughProxies(RedisGuard)

/** @param {unknown} options */
function redisGuard(options) {
  const { client, prefix, fenceTtlMs, timeoutMs = 10_000 } = readOptions(options)
  const ttl =
    fenceTtlMs === undefined ? undefined : integer('fenceTtlMs', fenceTtlMs, { min: 1_000, max: MAX_TTL_MS })
  return new RedisGuard(scriptRunner(client), keyPrefix(prefix), ttl, timeLimit(timeoutMs))
}

/** @param {unknown} options */
function readOptions(options) {
  if (
    typeof options === 'object' &&
    options !== null &&
    !hasProperty(options, 'client') &&
    isClient(options)
  ) {
    throw invalid(TypeError, 'redisGuard takes options, not the client itself: redisGuard({ client })')
  }
  return object('options', options, GUARD_KEYS)
}

module.exports = { redisGuard }
