'use strict'

/**
 * A small shell process next to the command, for two things that Node.js cannot do:
 *
 * - It ends the command when fencelock is killed by SIGKILL or crashes: its input, a pipe, ends then.
 * - It tells signals to this process from signals to the whole process group, such as Ctrl-C. Those the
 *   command has already got, so they must not be passed on. It is a member of the group, too, and dies of
 *   them.
 */

const { spawn } = require('node:child_process')

/**
 * Reads whom to end (a process, or with a minus a group), and then waits for the end of its input. Bash,
 * which is /bin/sh on many systems, ignores SIGQUIT unless that is trapped.
 */
const SCRIPT = `ulimit -c 0
trap 'kill -s KILL $$' QUIT
read -r target || exit 0
read -r end && exit 0
trap '' HUP INT QUIT TERM USR1 USR2
if [ "$1" -gt 0 ]; then
  kill -s TERM -- "$target" && kill -s CONT -- "$target" && sleep "$1"
fi
kill -s KILL -- "$target"`

/** @import { ChildProcessByStdio } from 'node:child_process' */
/** @import { Writable } from 'node:stream' */

/** @typedef {ChildProcessByStdio<Writable, null, null>} Shell */

class Guardian {
  /** @type {string | undefined} */
  #target
  #killAfterMs
  #isInGroup
  /** @type {Shell} */
  #shell
  /** @type {Promise<NodeJS.Signals | null>} */
  #ended
  #isDismissed = false

  /**
   * @param {{ killAfterMs: number, isInGroup: boolean }} options `isInGroup`: as a member of the process
   * group of fencelock, and not out of reach of signals to that
   */
  constructor({ killAfterMs, isInGroup }) {
    this.#killAfterMs = killAfterMs
    this.#isInGroup = isInGroup
    ;[this.#shell, this.#ended] = this.#start()
  }

  /** @returns {[Shell, Promise<NodeJS.Signals | null>]} */
  #start() {
    const seconds = String(Math.ceil(this.#killAfterMs / 1_000))
    const shell = spawn('/bin/sh', ['-c', SCRIPT, 'fencelock-guardian', seconds], {
      stdio: ['pipe', 'ignore', 'ignore'],
      detached: !this.#isInGroup,
      cwd: '/',
      env: {},
    })
    shell.stdin.on('error', () => undefined)
    // As long as fencelock lives is long enough.
    shell.unref()
    if (this.#target !== undefined) shell.stdin.write(`${this.#target}\n`)
    /** @type {Promise<NodeJS.Signals | null>} */
    const ended = new Promise((resolve) => {
      shell.once('error', () => resolve(null))
      shell.once('exit', (_code, signal) => resolve(signal))
    })
    return [shell, ended]
  }

  /**
   * @param {string} target a process, or with a minus a group, that has been started
   * @returns {Promise<void>} resolves when the line that names it has been written to the shell
   */
  watch(target) {
    this.#target = target
    this.#shell.stdin.write(`${target}\n`)
    // Bun writes when the event loop goes on, and calls back before that.
    return new Promise((resolve) => {
      setImmediate(resolve)
    })
  }

  /**
   * After a signal: whether the whole group has got it. A signal that was sent to the group is dealt with
   * before the shell reads on, so its end tells.
   * @returns {Promise<boolean>}
   */
  async sawSignal() {
    const [shell, ended] = [this.#shell, this.#ended]
    letGo(shell)
    shell.ref()
    const signal = await ended
    if (this.#shell === shell && !this.#isDismissed) [this.#shell, this.#ended] = this.#start()
    return signal !== null
  }

  /** The command has ended. */
  dismiss() {
    this.#isDismissed = true
    letGo(this.#shell)
  }
}

/** @param {Shell} shell */
function letGo(shell) {
  if (!shell.stdin.writableEnded) shell.stdin.end('end\n')
}

module.exports = { Guardian, SCRIPT }
