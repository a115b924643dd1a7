'use strict'

/** The guard for data in Redis: a script compares the token and writes, in one atomic step. */

const { boolean, integer, oneOf, wrongType } = require('../../lib/options/validate.js')
const {
  BackendUnavailableError,
  OutcomeUnknownError,
  UnsupportedError,
  invalid,
} = require('../../lib/errors.js')
const { resourceName } = require('../../lib/options/names.js')
const { few, keyPrefix, known, parts, redisKey } = require('../core/options.js')
const { assertHeld, nameOf, readLock, stale } = require('../core/token.js')
const { meaning, redisClient } = require('./clients.js')
const { ADVANCE, COMMAND, READ, custom } = require('./scripts.js')

const MAX_TTL_MS = Number.MAX_SAFE_INTEGER
const SET_KEYS = ['ttlMs', 'keepTtl', 'if']
const CONDITIONS = { absent: 'NX', present: 'XX' }

class RedisGuard {
  #client
  #prefix
  #fenceTtl
  /** The callers' scripts, by their text. */
  #scripts = new Map()

  constructor(client, prefix, fenceTtlMs) {
    this.#client = client
    this.#prefix = prefix
    this.#fenceTtl = fenceTtlMs === undefined ? '' : String(fenceTtlMs)
  }

  fenceKey(resource) {
    const name = resourceName(resource)
    return `${this.#prefix}:{${hashTag(name)}}:guard:${name}`
  }

  async advance(lock) {
    await this.#run(ADVANCE, lock, [], [])
  }

  async highWater(resource) {
    const name = resourceName(resource)
    const stored = await this.#send(READ, [this.fenceKey(name)], [], { names: [name], lock: {} })
    if (stored === null || stored === undefined) return null
    if (!/^[1-9]\d*$/.test(String(stored))) throw odd(this.fenceKey(name), name)
    return BigInt(String(stored))
  }

  async set(lock, key, value, options) {
    const { ttlMs, keepTtl = false, if: condition } = known('options', options, SET_KEYS)
    if (ttlMs !== undefined && keepTtl) {
      throw invalid(
        TypeError,
        'ttlMs and keepTtl exclude each other: give the key a new TTL, or let it keep its own',
      )
    }
    const args = parts('value', [value])
    if (ttlMs !== undefined) args.push('PX', String(integer('ttlMs', ttlMs, { min: 1, max: MAX_TTL_MS })))
    if (boolean('keepTtl', keepTtl)) args.push('KEEPTTL')
    if (condition !== undefined) args.push(CONDITIONS[oneOf('if', condition, Object.keys(CONDITIONS))])
    return (await this.#command(lock, 'SET', [redisKey(key)], args)) !== null
  }

  async hset(lock, key, fields) {
    if (typeof fields !== 'object' || fields === null) throw wrongType('fields', 'an object or a Map', fields)
    const pairs = fields instanceof Map ? [...fields] : Object.entries(fields)
    if (pairs.length === 0) throw invalid(RangeError, 'fields must not be empty')
    return Number(await this.#command(lock, 'HSET', [redisKey(key)], parts('fields', pairs.flat())))
  }

  async del(lock, key) {
    const keys = Array.isArray(key) ? Array.from(key, (each) => redisKey(each)) : [redisKey(key)]
    if (keys.length === 0) throw invalid(RangeError, 'an array of keys must not be empty')
    return Number(await this.#command(lock, 'DEL', few('an array of keys', keys), []))
  }

  async run(lock, body, options) {
    if (typeof body !== 'string') throw wrongType('the script', 'Lua as a string', body)
    const { keys = [], args = [] } = known('options', options, ['keys', 'args'])
    if (!Array.isArray(keys)) throw wrongType('keys', 'an array', keys)
    if (!Array.isArray(args)) throw wrongType('args', 'an array', args)
    let script = this.#scripts.get(body)
    if (script === undefined) {
      script = custom(body)
      // Scripts are code, and there are few; text that is put together for each call must not pile up here.
      if (this.#scripts.size >= 1_000) this.#scripts.clear()
      this.#scripts.set(body, script)
    }
    return this.#run(
      script,
      lock,
      Array.from(keys, (key) => redisKey(key)),
      parts('args', Array.from(args)),
    )
  }

  #command(lock, name, keys, args) {
    return this.#run(COMMAND, lock, keys, [name, ...args])
  }

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
        throw odd(fences[detail - 1], names[detail - 1], lease.lock.strategy)
      case 'failed':
        throw new Error(String(detail))
      default:
        throw failed('unknown', new Error('the client’s answer is none of the script’s'), lease)
    }
  }

  /** By its hash, and with its text to a server that does not know it: then nothing was done. */
  async #send(script, keys, args, lease) {
    if (this.#client.isEnded()) throw failed('unsent', new Error('the client is closed'), lease)
    try {
      return await this.#client.evalSha(script.sha, keys, args)
    } catch (error) {
      if (meaning(error) !== 'unloaded') throw failed(meaning(error), error, lease)
    }
    try {
      return await this.#client.eval(script.text, keys, args)
    } catch (error) {
      throw failed(meaning(error), error, lease)
    }
  }
}

/** The tag that Redis finds in a name, or all of the name: so that the fence lies where the data of that name does. */
function hashTag(name) {
  const tag = /\{([^}]+)\}/.exec(name.slice(name.indexOf('{')))
  if (tag !== null && tag.index === 0) return tag[1]
  // A tag ends at the first brace, so a name that has one can be no tag.
  return name.includes('}') ? Buffer.from(name).toString('hex') : name
}

/** Of a fence that is none. */
function odd(key, resource, strategy) {
  return new UnsupportedError(
    `the key ${JSON.stringify(key)} holds no token, so nothing was written: something else uses it; ` +
      'delete it, or give the guard another prefix',
    { code: 'UNSUPPORTED', resource, strategy },
  )
}

/** What to tell of a script that has no result. Errors of the caller's part stay what the client made of them. */
function failed(what, error, lease) {
  const { names, lock } = lease
  const about = `the guard of ${nameOf(names)}`
  const fields = { resource: names[0], strategy: lock.strategy, cause: error }
  switch (what) {
    case 'slots':
      return new UnsupportedError(
        `${about}: the keys are not in one slot of the cluster, so nothing was written: give each key of the data the ` +
          'same hash tag as guard.fenceKey(resource) has; several resources need a common one',
        { code: 'UNSUPPORTED', ...fields },
      )
    case 'unsupported':
      return new UnsupportedError(
        `${about} needs EVALSHA, EVAL, GET, SET and the commands of the write, which this server or user may not run: ` +
          `${error.message}; nothing was written: allow them, or use another server`,
        { code: 'UNSUPPORTED', ...fields },
      )
    case 'refused':
    case 'unsent':
      return new BackendUnavailableError(
        `${about}: ${what === 'refused' ? 'the server refused' : 'there is no connection'} (${error.message}); ` +
          'nothing was written: try again with the same lock while it is held',
        { code: 'BACKEND_UNAVAILABLE', ...fields },
      )
    case 'unknown':
      return new OutcomeUnknownError(
        `${about}: there was no answer (${error?.message ?? error}); the write may have been done, or may still be: ` +
          'advance under the same lock and read, or write again with it (an equal token passes)',
        { code: 'OUTCOME_UNKNOWN', ...fields },
      )
    default:
      return error
  }
}

/**
 * @param {import('../redis').RedisGuardOptions} options
 * @returns {RedisGuard}
 */
function redisGuard(options) {
  const { client, prefix, fenceTtlMs } = known('options', options, ['client', 'prefix', 'fenceTtlMs'])
  const ttl =
    fenceTtlMs === undefined ? undefined : integer('fenceTtlMs', fenceTtlMs, { min: 1_000, max: MAX_TTL_MS })
  return new RedisGuard(redisClient(client), keyPrefix(prefix), ttl)
}

module.exports = { redisGuard }
