'use strict'

/** What `fencelock run` says about itself, on stderr: stdout belongs to the command. */

const { readable } = require('../options/durations.js')
const { messageOf, note, noteJson, plain, reportError } = require('../output/print.js')

/** @import { Lock } from '../../index.js' */

class Report {
  #resource
  #place
  #verbose
  #json

  /** @param {{ resource: string, place: string, verbose: boolean, json: boolean }} options */
  constructor({ resource, place, verbose, json }) {
    this.#resource = resource
    this.#place = place
    this.#verbose = verbose
    this.#json = json
  }

  /** @param {string} message */
  warning(message) {
    if (this.#json) noteJson({ event: 'warning', resource: this.#resource, message })
    else note(message)
  }

  /** It is taking time. */
  waiting() {
    if (this.#verbose && !this.#json) note(`waiting for ${this.#name} (${this.#place})`)
  }

  /**
   * @param {Lock} lock
   * @param {number} waitedMs
   */
  acquired({ owner, strategy, token }, waitedMs) {
    const resource = this.#resource
    if (this.#json) {
      noteJson({
        event: 'acquired',
        resource,
        strategy,
        owner,
        token: String(token),
        waitedMs: rounded(waitedMs),
      })
    } else if (this.#verbose) {
      note(`acquired ${this.#name} after ${readable(waitedMs)}, token ${token} (${strategy}, ${this.#place})`)
    }
  }

  /** @param {number} pid of the command */
  started(pid) {
    if (this.#json) noteJson({ event: 'started', resource: this.#resource, pid })
  }

  /**
   * @param {string} why
   * @param {string} consequence
   */
  lost(why, consequence) {
    if (this.#json) noteJson({ event: 'lost', resource: this.#resource, message: why })
    else note(`${why}: ${consequence}`)
  }

  /**
   * The command, or something that it started, runs as another user.
   * @param {NodeJS.Signals} signal
   * @param {boolean} isLost
   */
  denied(signal, isLost) {
    const until = isLost ? 'it goes on without the lock until it ends' : 'it goes on until it ends'
    const message = `${signal} was refused by what the command runs as another user`
    if (this.#json) noteJson({ event: 'signal-failed', resource: this.#resource, signal, message })
    else note(`${message}: ${until}`)
  }

  /** @param {unknown} error */
  releaseFailed(error) {
    const message = messageOf(error)
    if (this.#json) noteJson({ event: 'release-failed', resource: this.#resource, message })
    else note(`the command ended in time, but its lock was not released, and expires: ${message}`)
  }

  /**
   * @param {import('./child.js').Ending} ending
   * @param {number} heldMs
   */
  ended({ code, signal }, heldMs) {
    if (this.#json)
      noteJson({ event: 'ended', resource: this.#resource, code, signal, heldMs: rounded(heldMs) })
    else if (this.#verbose) note(`${signal ?? `status ${code}`} after ${readable(heldMs)} with ${this.#name}`)
  }

  /** @param {unknown} error */
  failed(error) {
    reportError(error, this.#json)
  }

  get #name() {
    return `'${plain(this.#resource)}'`
  }
}

/** @param {number} ms */
function rounded(ms) {
  return Math.round(ms * 10) / 10
}

module.exports = { Report }
