'use strict'

/** The signals that fencelock gets while it waits for a lock, and while its command runs. */

/**
 * The command.
 * @typedef {object} Receiver
 * @property {(signal: NodeJS.Signals) => void} pass
 * @property {() => boolean} stop false if it cannot be stopped
 * @property {() => void} continue
 */

/** What ends a program by default, and can be caught. @type {readonly NodeJS.Signals[]} */
const PASSED_ON =
  process.platform === 'win32'
    ? ['SIGINT', 'SIGTERM', 'SIGHUP']
    : ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGQUIT', 'SIGUSR1', 'SIGUSR2']

/** Of the others one writes a core, and one starts the debugger of Node.js. */
const DEADLY = new Set(['SIGINT', 'SIGTERM', 'SIGHUP'])

class Signals {
  /** The last one that came. @type {NodeJS.Signals | undefined} */
  last
  /** @type {Map<NodeJS.Signals, () => void>} */
  #listeners = new Map()
  /**
   * Set later than the listeners, which stay: a signal may have come and not have been dispatched yet.
   * @type {Receiver | undefined}
   */
  #child
  #mayContinue = () => true
  #waiting = new AbortController()

  /** @param {{ stops: boolean }} options whether to stop the command, which the kernel does for a terminal */
  constructor({ stops }) {
    for (const signal of PASSED_ON) {
      this.#listen(signal, () => {
        this.last = signal
        if (this.#child !== undefined) return this.#child.pass(signal)
        // A second one ends fencelock at once.
        this.restore()
        this.#waiting.abort()
      })
    }
    if (!stops) return
    this.#listen('SIGTSTP', () => {
      // Stopped alone, fencelock would not renew the lock of a command that goes on.
      if (this.#child?.stop() === false) return
      process.kill(process.pid, 'SIGSTOP')
    })
    this.#listen('SIGCONT', () => {
      if (this.#mayContinue()) this.#child?.continue()
    })
  }

  /** Aborts with the first signal, unless there is a command. */
  get whileWaiting() {
    return this.#waiting.signal
  }

  /**
   * @param {Receiver} child
   * @param {{ mayContinue: () => boolean }} options without its lock, a stopped command is not continued
   */
  passTo(child, { mayContinue }) {
    this.#child = child
    this.#mayContinue = mayContinue
  }

  /**
   * @param {NodeJS.Signals} signal
   * @param {() => void} listener
   */
  #listen(signal, listener) {
    this.#listeners.set(signal, listener)
    process.on(signal, listener)
  }

  /** From now on they do to fencelock what they do to any program. */
  restore() {
    for (const [signal, listener] of this.#listeners) process.off(signal, listener)
    this.#listeners.clear()
  }

  /**
   * Ends as a program does that does not catch this signal. Returns if that would do more than end it.
   * @param {NodeJS.Signals} signal
   */
  die(signal) {
    if (DEADLY.has(signal)) process.kill(process.pid, signal)
  }
}

module.exports = { Signals }
