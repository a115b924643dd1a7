'use strict'

/**
 * The functions `credentials` of options. The addon says when to ask one: it has the time, which no fake
 * timers of tests stop and which keeps no process alive.
 */

const { onCredentials } = require('./native/completions.js')
const { credentials } = require('./options/redis/credentials.js')
const { kind } = require('./options/validate.js')
const { warnOfCredentials } = require('./warnings.js')

/** @import { NativeManager } from '../binding.js' */
/** @import { CredentialsFunction } from './options/redis/credentials.js' */

/**
 * By number. Weak, because the functions belong to their managers.
 * @type {Map<number, WeakRef<Credentials>>}
 */
const inUse = new Map()
let last = 0
const resolved = Promise.resolve()

onCredentials((number, question, refusal) => {
  const asked = inUse.get(number)?.deref()
  // Not here, where calls are settled: the function of the application may do anything.
  if (asked) void resolved.then(() => asked.answer(question, refusal))
})

/** What one function of a manager returns. */
class Credentials {
  #number = ++last
  #name
  /** @type {CredentialsFunction | undefined} */
  #ask
  /** @type {NativeManager | undefined} */
  #native
  /** Whether the function has ever returned credentials. */
  #some = false
  /** Whether a failure was reported since. */
  #warned = false

  /**
   * @param {string} name that of the option
   * @param {CredentialsFunction} ask
   */
  constructor(name, ask) {
    this.#name = name
    this.#ask = ask
    for (const [number, each] of inUse) if (each.deref() === undefined) inUse.delete(number)
    inUse.set(this.#number, new WeakRef(this))
  }

  get number() {
    return this.#number
  }

  /** @param {NativeManager} native where the answers go */
  connect(native) {
    this.#native = native
  }

  /** The function is never called again. */
  close() {
    this.#ask = undefined
    inUse.delete(this.#number)
    this.#native?.closeCredentials(this.#number)
  }

  /**
   * Never rejects.
   * @param {number} question
   * @param {string | undefined} refusal what a server said when it refused the last ones
   */
  async answer(question, refusal) {
    const ask = this.#ask
    if (ask === undefined) return
    if (refusal !== undefined) this.#warn(`a server refused what it returned: ${refusal}`)
    try {
      const answer = await Reflect.apply(ask, undefined, [])
      const { username, password, expiresInMs } = credentials(this.#name, answer)
      this.#native?.supplyCredentials(this.#number, question, username, password, expiresInMs)
      this.#some = true
      if (refusal === undefined) this.#warned = false
    } catch (error) {
      const why = reason(error)
      this.#native?.failCredentials(this.#number, question, why)
      // Before there are any, calls fail, which say so.
      if (this.#some && this.#ask !== undefined) this.#warn(why)
    }
  }

  /** @param {string} why */
  #warn(why) {
    if (this.#warned) return
    this.#warned = true
    warnOfCredentials(this.#name, why)
  }
}

/**
 * The message of an error. Anything else that was thrown may be a secret.
 * @param {unknown} error
 */
function reason(error) {
  try {
    if (typeof error === 'object' && error !== null) {
      const { message } = /** @type {{ message?: unknown }} */ (error)
      if (typeof message === 'string' && message !== '') return message.toWellFormed()
    }
    return `it threw, or rejected with, ${kind(error)}`
  } catch {
    return 'it threw, or rejected with, what cannot be read'
  }
}

module.exports = { Credentials }
