'use strict'

/** `fencelock watch`: the locks that are held, as they change. */

const { setTimeout: sleep } = require('node:timers/promises')

const { COMMON, integer, startOperand, text } = require('../options/arguments.js')
const { managerOptions, withManager } = require('../options/connection.js')
const { duration } = require('../options/durations.js')
const { GROUPS } = require('../options/backends.js')
const { EXIT, exitOfSignal } = require('../exit-codes.js')
const { note, print, printJson } = require('../output/print.js')
const { Screen } = require('../output/screen.js')
const { lockJson, tableOf } = require('../output/table.js')

/** @import { LockInfo } from '../../index.js' */
/** @import { Command } from '../options/arguments.js' */

/** @type {readonly NodeJS.Signals[]} */
const ENDING = ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGQUIT']

/**
 * Without a pause it would be all that the backend does. A timer of Node.js that is longer than 24 days
 * expires at once.
 */
const INTERVALS = { min: '10ms', max: '1d' }

/** @typedef {{ show(locks: readonly LockInfo[]): void, failed(error: Error): void, close(): void }} View */

/** @type {Command} */
module.exports = {
  usage: '[options] [start]',
  description: [
    'Shows the locks that are held, or those of resources whose names begin with start, until Ctrl-C. In a terminal ' +
      'it is a table that is drawn anew; otherwise each lock is a line, which begins with the time.',
    'A backend that cannot be reached any more is asked again.',
  ],
  groups: [
    {
      title: 'Options',
      options: {
        interval: {
          type: 'string',
          value: 'time',
          text: 'the time between two looks, 10ms to 1d; by default 1s',
        },
        count: { type: 'string', value: 'n', text: 'end after so many looks' },
        ...COMMON,
      },
    },
    ...GROUPS,
  ],
  statuses: [
    ['0', 'as many looks as wished'],
    ['64', 'wrong usage'],
    ['69', 'the backend could not be reached at first'],
    ['78', 'the backend lacks what the locks need'],
    ['128 + n', 'signal n ended it; 130 is Ctrl-C'],
  ],
  examples: [
    ['all locks', 'fencelock watch'],
    ['a log of one group', 'fencelock watch order: --interval 10s >> locks.log'],
  ],
  async run(call) {
    const prefix = startOperand(call)
    const interval = duration('--interval', text(call, 'interval') ?? '1s', INTERVALS)
    const count = text(call, 'count')
    const looks = count === undefined ? Infinity : integer('--count', count, { min: 1, max: 1_000_000_000 })
    const { options, place } = managerOptions(call)
    const ended = new AbortController()
    for (const signal of ENDING) {
      process.once(signal, () => {
        // Before anything that may take time, because a second signal kills.
        view.close()
        ended.abort(signal)
      })
    }
    // After the listeners, because a signal without one would leave the terminal as it is.
    const view = viewFor(call.values.json === true, place)
    try {
      await withManager(options, async (locks) => {
        const { signal } = ended
        for (let look = 1; look <= looks && !signal.aborted; look++) {
          try {
            view.show(await collected(locks.list({ prefix, signal })))
          } catch (error) {
            if (signal.aborted) return
            // What is wrong from the start will not mend.
            if (look === 1 || !(error instanceof Error)) throw error
            view.failed(error)
          }
          if (look < looks) await sleep(interval, undefined, { signal }).catch(() => undefined)
        }
      })
    } finally {
      view.close()
    }
    if (!ended.signal.aborted) return EXIT.ok
    return exitOfSignal(/** @type {NodeJS.Signals} */ (ended.signal.reason))
  },
}

/** @param {AsyncIterable<LockInfo>} list */
async function collected(list) {
  /** @type {LockInfo[]} */
  const found = []
  for await (const info of list) found.push(info)
  return found
}

/**
 * @param {boolean} json
 * @param {string} place
 * @returns {View}
 */
function viewFor(json, place) {
  if (!json && process.stdout.isTTY) return new LiveTable(place)
  return {
    show(locks) {
      const at = new Date().toISOString()
      if (json) return printJson({ at, locks: locks.map((info) => lockJson(info)) })
      for (const row of tableOf(locks).rows) print(`${at}  ${row}`)
    },
    failed: ({ message }) => note(message),
    close: () => undefined,
  }
}

class LiveTable {
  #place
  #screen = new Screen(process.stdout)
  /** @type {readonly LockInfo[]} */
  #locks = []
  #status = ''
  #redraw = () => this.#draw()
  #stop = () => {
    this.#screen.close()
    process.kill(process.pid, 'SIGSTOP')
  }
  #continue = () => {
    this.#screen.open()
    this.#draw()
  }

  /** @param {string} place */
  constructor(place) {
    this.#place = place
    process.stdout.on('resize', this.#redraw)
    process.on('SIGTSTP', this.#stop)
    process.on('SIGCONT', this.#continue)
    this.#screen.open()
  }

  /** @param {readonly LockInfo[]} locks */
  show(locks) {
    this.#locks = locks
    this.#status = `${locks.length} ${locks.length === 1 ? 'lock' : 'locks'}`
    this.#draw()
  }

  /** @param {Error} error */
  failed({ message }) {
    this.#status = `not up to date: ${message}`
    this.#draw()
  }

  close() {
    process.stdout.off('resize', this.#redraw)
    process.off('SIGTSTP', this.#stop)
    process.off('SIGCONT', this.#continue)
    this.#screen.close()
  }

  #draw() {
    const { header, rows } = tableOf(this.#locks)
    this.#screen.draw([`fencelock  ${this.#status}  ${this.#place}`, '', header, ...rows], 2)
  }
}
