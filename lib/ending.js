'use strict'

/** The signals of locks. */

const { AsyncResource } = require('node:async_hooks')

/**
 * A signal's controller, and the asynchronous context in which the signal was first read: its listeners run
 * in that one.
 */
class Ending extends AsyncResource {
  #controller = new AbortController()
  /** Kept itself: Bun 1.2 loses the reason of a signal to which only its controller refers. */
  signal = this.#controller.signal

  /** @param {import('../index.js').Lock} lock */
  constructor(lock) {
    super('FENCELOCK_SIGNAL')
    // Code that has the signal waits for its end, which is no longer reported once the locks of a copy of
    // this module were collected.
    Object.defineProperty(this.signal, Symbol('fencelock.lock'), { value: lock })
  }

  /** @param {unknown} reason */
  abort(reason) {
    this.runInAsyncScope(() => this.#controller.abort(reason))
  }

  /** For tools that look for what keeps a process alive. */
  hasRef() {
    return false
  }
}

module.exports = { Ending }
