// What the acts of the demo share: output, actors (child processes), and clearing up.

import { fork } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'

const ACTOR = fileURLToPath(new URL('actor.mjs', import.meta.url))

const color = process.stdout.isTTY ? (code, text) => `\u001B[${code}m${text}\u001B[0m` : (_, text) => text
const bold = (text) => color(1, text)

/** A child process that takes locks when it is told to. */
class Actor {
  #child
  #calls = new Map()
  #next = 1

  constructor(name, options) {
    this.name = name
    this.#child = fork(ACTOR, [JSON.stringify(options)], { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] })
    this.#child.on('message', ({ id, error, value }) => {
      const { resolve, reject } = this.#calls.get(id)
      this.#calls.delete(id)
      if (error) reject(Object.assign(new Error(error.message), error))
      else resolve(value)
    })
    this.#child.on('exit', (code, signal) => {
      for (const { reject } of this.#calls.values()) reject(new Error(`${name} ended: ${signal ?? code}`))
    })
  }

  get pid() {
    return this.#child.pid
  }

  /** Has the actor do something and answers what it returned. */
  ask(action, parameters = {}) {
    const id = this.#next++
    return new Promise((resolve, reject) => {
      this.#calls.set(id, { resolve, reject })
      this.#child.send({ id, action, ...parameters })
    })
  }

  signal(signal) {
    this.#child.kill(signal)
  }

  async end(signal = 'SIGKILL') {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return
    this.#child.kill(signal)
    await once(this.#child, 'exit')
  }
}

export class Stage {
  #actors = []
  #deferred = []

  title(text) {
    console.log(`\n${bold(text)}`)
  }

  act(text) {
    console.log(`\n  ${text}`)
  }

  say(text) {
    console.log(`    ${text}`)
  }

  actor(name, options) {
    const actor = new Actor(name, options)
    this.#actors.push(actor)
    return actor
  }

  /** Runs when the demo is over, however it ended. */
  defer(action) {
    this.#deferred.push(action)
  }

  async clear() {
    await Promise.all(this.#actors.map((actor) => actor.end()))
    for (const action of this.#deferred) await action()
  }
}
