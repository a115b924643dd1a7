'use strict'

/** The command that runs while the lock is held, and the processes that it starts. */

const { spawn } = require('node:child_process')

const { codeOf } = require('../exit-codes.js')
const { now } = require('./clock.js')
const { Guardian } = require('./guardian.js')

/**
 * How it ended: its status, or the signal that ended it.
 * @typedef {{ code: number | null, signal: NodeJS.Signals | null }} Ending
 */

/**
 * Whether a signal was sent. If not, its receiver has ended (`gone`), or is alive and belongs to another
 * user, as below `sudo` (`denied`).
 * @typedef {'sent' | 'gone' | 'denied'} Delivery
 */

/** @typedef {import('node:child_process').ChildProcess} ChildProcess */
/** @typedef {(signal: NodeJS.Signals) => void} OnDenied is told of signals that the system refuses to send */

const onWindows = process.platform === 'win32'
/** How often a group is looked at whose members end. */
const POLL_MS = 20

class Child {
  pid
  #ownsGroup
  /** @type {InstanceType<typeof Guardian> | undefined} */
  #guardian
  /** Of the terminal's group those below the command that were told to end. @type {Set<number>} */
  #told = new Set()
  #isEnded = false
  #onDenied
  /** Signals are dealt with one after the other. @type {Promise<void>} */
  #passing
  /** Resolves once the guardian has been told which command to end. @type {Promise<void>} */
  watched
  /** Resolves when the command has ended. @type {Promise<Ending>} */
  ended

  /**
   * @param {ChildProcess} child that was started
   * @param {number} pid
   * @param {{
   *   ownsGroup: boolean, onDenied: OnDenied, guardian: InstanceType<typeof Guardian> | undefined
   * }} options
   */
  constructor(child, pid, { ownsGroup, onDenied, guardian }) {
    this.pid = pid
    this.#onDenied = onDenied
    this.#ownsGroup = ownsGroup
    this.#guardian = guardian
    this.watched = guardian?.watch(ownsGroup ? `-${pid}` : String(pid)) ?? Promise.resolve()
    // No signal is passed on before the start of the command has been reported.
    this.#passing = this.watched
    this.ended = new Promise((resolve) => {
      child.once('exit', (code, signal) => {
        this.#isEnded = true
        resolve({ code, signal })
      })
    })
  }

  /**
   * @param {readonly string[]} command
   * @param {{ env: NodeJS.ProcessEnv, killAfterMs: number, ownsGroup: boolean, onDenied: OnDenied }} options
   * @returns {Promise<Child>} rejects with the error of the operating system if it cannot be started
   */
  static start([program = '', ...args], { env, killAfterMs, ownsGroup, onDenied }) {
    // Before the command, so that there is next to no time in which the command runs without it.
    const guardian = onWindows ? undefined : new Guardian({ killAfterMs, isInGroup: !ownsGroup })
    const child = spawn(program, args, { stdio: 'inherit', detached: ownsGroup, env })
    const { pid } = child
    if (pid !== undefined) return Promise.resolve(new Child(child, pid, { ownsGroup, onDenied, guardian }))
    guardian?.dismiss()
    return new Promise((_resolve, reject) => {
      child.once('error', reject)
    })
  }

  /**
   * Passes a signal on that fencelock got, unless the command has got it, too.
   * @param {NodeJS.Signals} signal
   */
  pass(signal) {
    this.#passing = this.#passing.then(async () => {
      if (!this.#ownsGroup && (await this.#guardian?.sawSignal())) return
      this.#tell(signal)
    })
  }

  /** @returns {boolean} whether it is stopped */
  stop() {
    // As the only group of its session, it ignores SIGTSTP.
    return this.#tell('SIGSTOP')
  }

  continue() {
    this.#send('SIGCONT')
  }

  /**
   * Ends all of its processes: by SIGTERM, and after a while by SIGKILL. Resolves when the command has ended,
   * however long it takes.
   * @param {number} killAfterMs
   */
  async end(killAfterMs) {
    const limit = now() + killAfterMs
    if (killAfterMs > 0) {
      this.#tell('SIGTERM')
      // A stopped process ends when it is continued.
      this.#send('SIGCONT')
    }
    while (this.#isAlive() && now() < limit) await sleep(POLL_MS)
    this.#tell('SIGKILL')
    await this.ended
  }

  /** The command has ended, and the rest of its group is left alone. */
  dismiss() {
    this.#guardian?.dismiss()
  }

  #isAlive() {
    if (this.#ownsGroup) return send(-this.pid, 0) !== 'gone'
    return !this.#isEnded || [...this.#told].some((pid) => send(pid, 0) !== 'gone')
  }

  /**
   * @param {NodeJS.Signals} signal
   * @returns {boolean} false if the system refused
   */
  #tell(signal) {
    const isDenied = this.#send(signal).includes('denied')
    if (isDenied) this.#onDenied(signal)
    return !isDenied
  }

  /**
   * @param {NodeJS.Signals} signal
   * @returns {Delivery[]}
   */
  #send(signal) {
    // A group counts as reached if one of its processes is.
    if (this.#ownsGroup) return [send(-this.pid, signal)]
    const command = this.#isEnded ? [] : [this.pid]
    if (!onWindows && !this.#isEnded) {
      // Others are in this group, too: fencelock, and what it shares a pipeline with.
      const { descendants } = require('./process-tree.js')
      for (const pid of descendants(this.pid)) this.#told.add(pid)
    }
    return [...command, ...this.#told].map((pid) => send(pid, signal))
  }
}

/**
 * @param {number} target a process, or the negative number of a group
 * @param {NodeJS.Signals | 0} signal
 * @returns {Delivery}
 */
function send(target, signal) {
  try {
    process.kill(target, signal)
    return 'sent'
  } catch (error) {
    return codeOf(error) === 'EPERM' ? 'denied' : 'gone'
  }
}

/** @param {number} ms */
function sleep(ms) {
  return new Promise((resolve) => {
    setTimeout(resolve, ms)
  })
}

module.exports = { Child }
