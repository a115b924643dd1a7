'use strict'

/** `fencelock ls`: the locks that are held. */

const { COMMON, startOperand } = require('../options/arguments.js')
const { managerOptions, withManager } = require('../options/connection.js')
const { GROUPS } = require('../options/backends.js')
const { EXIT } = require('../exit-codes.js')
const { print, printJson } = require('../output/print.js')
const { lockJson, tableOf } = require('../output/table.js')

/** @import { LockInfo } from '../../index.js' */
/** @import { Command } from '../options/arguments.js' */

/** @type {Command} */
module.exports = {
  usage: '[options] [start]',
  description: [
    'Lists the locks that are held: all of them, or those of resources whose names begin with start. The order is ' +
      'that of the names; with --json each lock is printed when it is found, a line each.',
    'On Redis it looks at all keys of the server in small steps, about a second for each million of them.',
  ],
  groups: [{ title: 'Options', options: COMMON }, ...GROUPS],
  statuses: [
    ['0', 'they were listed, also if there are none'],
    ['64', 'wrong usage'],
    ['69', 'the backend cannot be reached'],
    ['78', 'the backend lacks what the locks need'],
  ],
  examples: [
    ['all locks', 'fencelock ls'],
    ['who waits?', "fencelock ls order: --json | jq -r 'select(.waiters > 0) | .resource'"],
  ],
  async run(call) {
    const prefix = startOperand(call)
    const { options } = managerOptions(call)
    const json = call.values.json === true
    /** @type {LockInfo[]} */
    const found = []
    await withManager(options, async (locks) => {
      for await (const info of locks.list({ prefix })) {
        if (json) printJson(lockJson(info))
        else found.push(info)
      }
    })
    if (!json) {
      const { header, rows } = tableOf(found)
      for (const line of [header, ...rows]) print(line)
    }
    return EXIT.ok
  },
}
