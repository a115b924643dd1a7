'use strict'

/** The guard for data in Redis: a script compares the token and writes, in one atomic step. */

const { invalid } = require('../../lib/errors.js')
const { keyPrefix, resourceName } = require('../../lib/options/names.js')
const { boolean, integer, keysOf, object, oneOf, wrongType } = require('../../lib/options/validate.js')
const { few, parts, redisKey } = require('../core/options.js')
const { assertHeld, readLock, stale } = require('../core/token.js')
const { meaning, scriptRunner } = require('./clients.js')
const { failure, notAToken } = require('./errors.js')
const { ADVANCE, COMMAND, READ, custom } = require('./scripts.js')

/** @import * as Public from '../redis.js' */
/** @import { FencedLock } from '../fenced-lock.js' */
/** @import { Lease } from '../core/token.js' */
/** @import { ScriptRunner } from './clients.js' */
/** @import { Script } from './scripts.js' */

const MAX_TTL_MS = Number.MAX_SAFE_INTEGER
const MAX_SCRIPTS = 1_000

/** @type {Record<keyof Public.RedisGuardOptions, true>} */
const guardOptions = { client: true, prefix: true, fenceTtlMs: true }
/** @type {Record<keyof Public.RedisSetOptions, true>} */
const setOptions = { ttlMs: true, keepTtl: true, if: true }
/** @type {Record<keyof Public.RedisScriptOptions, true>} */
const scriptOptions = { keys: true, args: true }

const GUARD_KEYS = keysOf(guardOptions)
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
  /**
   * The callers' scripts by their text.
   * @type {Map<string, Script>}
   */
  #scripts = new Map()

  /**
   * @param {ScriptRunner} runner
   * @param {string} prefix
   * @param {number | undefined} fenceTtlMs
   */
  constructor(runner, prefix, fenceTtlMs) {
    this.#runner = runner
    this.#prefix = prefix
    this.#fenceTtl = fenceTtlMs === undefined ? '' : String(fenceTtlMs)
  }

  /** @param {string} resource */
  fenceKey(resource) {
    const name = resourceName(resource)
    return `${this.#prefix}:{${hashTag(name)}}:guard:${name}`
  }

  /** @param {FencedLock} lock */
  async advance(lock) {
    await this.#run(ADVANCE, lock, [], [])
  }

  /** @param {string} resource */
  async highWater(resource) {
    const name = resourceName(resource)
    const reply = await this.#send(READ, [this.fenceKey(name)], [], { names: [name], strategy: undefined })
    const stored = /** @type {string | Buffer | null | undefined} */ (reply)
    if (stored === null || stored === undefined) return null
    const text = String(stored)
    if (!/^[1-9]\d*$/.test(text)) throw notAToken(this.fenceKey(name), name)
    return BigInt(text)
  }

  /**
   * @param {FencedLock} lock
   * @param {string} key
   * @param {Public.RedisValue} value
   * @param {Public.RedisSetOptions} [options]
   */
  async set(lock, key, value, options) {
    const { ttlMs, keepTtl = false, if: condition } = object('options', options, SET_KEYS)
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
    return (await this.#command(lock, 'SET', [redisKey(key)], args)) !== null
  }

  /**
   * @param {FencedLock} lock
   * @param {string} key
   * @param {Readonly<Record<string, Public.RedisValue>> | ReadonlyMap<string | Uint8Array,
   *   Public.RedisValue>} fields
   */
  async hset(lock, key, fields) {
    if (typeof fields !== 'object' || fields === null) throw wrongType('fields', 'an object or a Map', fields)
    const pairs = fields instanceof Map ? [...fields] : Object.entries(fields)
    if (pairs.length === 0) throw invalid(RangeError, 'fields must not be empty')
    return Number(await this.#command(lock, 'HSET', [redisKey(key)], parts('fields', pairs.flat())))
  }

  /**
   * @param {FencedLock} lock
   * @param {string | readonly string[]} key
   */
  async del(lock, key) {
    const keys = Array.isArray(key) ? Array.from(key, (each) => redisKey(each)) : [redisKey(key)]
    if (keys.length === 0) throw invalid(RangeError, 'an array of keys must not be empty')
    return Number(await this.#command(lock, 'DEL', few('an array of keys', keys), []))
  }

  /**
   * @param {FencedLock} lock
   * @param {string} body
   * @param {Public.RedisScriptOptions} [options]
   */
  async run(lock, body, options) {
    if (typeof body !== 'string') throw wrongType('the script', 'Lua as a string', body)
    const { keys = [], args = [] } = object('options', options, SCRIPT_KEYS)
    if (!Array.isArray(keys)) throw wrongType('keys', 'an array', keys)
    if (!Array.isArray(args)) throw wrongType('args', 'an array', args)
    return this.#run(
      this.#customScript(body),
      lock,
      Array.from(keys, (key) => redisKey(key)),
      parts('args', Array.from(args)),
    )
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
   */
  #command(lock, name, keys, args) {
    return this.#run(COMMAND, lock, keys, [name, ...args])
  }

  /**
   * @param {Script} script
   * @param {FencedLock} lock
   * @param {string[]} keys
   * @param {(string | Uint8Array)[]} args
   * @returns {Promise<unknown>}
   */
  async #run(script, lock, keys, args) {
    const lease = readLock(lock)
    assertHeld(lease)
    const { names, token } = lease
    const fences = names.map((name) => this.fenceKey(name))
    const reply = await this.#send(
      script,
      [...fences, ...keys],
      [String(names.length), String(token), this.#fenceTtl, ...args],
      lease,
    )
    const [outcome, detail, stored] = Array.isArray(reply) ? reply : []
    switch (String(outcome)) {
      case 'done':
        return detail ?? null
      case 'stale':
        throw stale(lease, names[detail - 1], BigInt(String(stored)))
      case 'odd':
        throw notAToken(fences[detail - 1], names[detail - 1], lease.strategy)
      case 'failed':
        throw new Error(String(detail))
      default:
        throw failure('unknown', new Error('the client’s answer is not one of the script’s'), lease)
    }
  }

  /**
   * Sends the hash of a script, and its text to a server that does not know it; nothing has run then.
   * @param {Script} script
   * @param {string[]} keys
   * @param {(string | Uint8Array)[]} args
   * @param {Pick<Lease, 'names' | 'strategy'>} lease
   */
  async #send(script, keys, args, lease) {
    if (this.#runner.isEnded()) throw failure('unsent', new Error('the client is closed'), lease)
    try {
      return await this.#runner.evalSha(script.sha, keys, args)
    } catch (error) {
      if (meaning(error) !== 'unloaded') throw failure(meaning(error), error, lease)
    }
    try {
      return await this.#runner.eval(script.text, keys, args)
    } catch (error) {
      throw failure(meaning(error), error, lease)
    }
  }
}

/**
 * The hash tag that Redis finds in a name, or the whole name: it puts the fence into the slot of the data of
 * that name.
 * @param {string} name
 */
function hashTag(name) {
  const tag = /^\{([^}]+)\}/.exec(name.slice(name.indexOf('{')))?.[1]
  if (tag !== undefined) return tag
  // A tag ends at the first closing brace, so a name that contains one cannot be a tag.
  return name.includes('}') ? Buffer.from(name).toString('hex') : name
}

/** @param {unknown} options */
function redisGuard(options) {
  const { client, prefix, fenceTtlMs } = object('options', options, GUARD_KEYS)
  const ttl =
    fenceTtlMs === undefined ? undefined : integer('fenceTtlMs', fenceTtlMs, { min: 1_000, max: MAX_TTL_MS })
  return new RedisGuard(scriptRunner(client), keyPrefix(prefix), ttl)
}

module.exports = { redisGuard }
