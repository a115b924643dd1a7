// Child processes that take locks.

import { fork } from 'node:child_process'
import { join } from 'node:path'

import { end, track } from '../../scripts/servers/processes.mjs'

const worker = join(import.meta.dirname, 'worker.mjs')

/** @typedef {{ resolve: (value: any) => void, reject: (error: Error) => void }} Call */

/** A process that takes locks on request. It ends with the demo, at the latest. */
export class LockProcess {
  #child
  /** @type {Map<number, Call>} */
  #calls = new Map()
  #next = 1

  /** @param {string} name @param {import('../../index.js').ManagerOptions} options */
  constructor(name, options) {
    this.name = name
    const stdio = /** @type {const} */ (['ignore', 'inherit', 'inherit', 'ipc'])
    this.#child = track(fork(worker, [JSON.stringify(options)], { stdio: [...stdio] }))
    this.#child.on('message', (/** @type {any} */ { id, error, value }) => {
      const call = this.#calls.get(id)
      this.#calls.delete(id)
      if (error) call?.reject(Object.assign(new Error(error.message), error))
      else call?.resolve(value)
    })
    this.#child.on('exit', (code, signal) => {
      for (const { reject } of this.#calls.values()) reject(new Error(`${name} ended: ${signal ?? code}`))
    })
  }

  /**
   * Requests an action of worker.mjs and returns its result.
   *
   * @param {string} action
   * @param {object} [request]
   * @returns {Promise<any>}
   */
  ask(action, request = {}) {
    const id = this.#next++
    return new Promise((resolve, reject) => {
      this.#calls.set(id, { resolve, reject })
      this.#child.send({ id, action, ...request })
    })
  }

  /** @param {NodeJS.Signals} signal */
  signal(signal) {
    this.#child.kill(signal)
  }

  /** Kills it and waits for its end. */
  end() {
    return end(this.#child)
  }
}
