'use strict'

/** `fencelock inspect`: who holds a resource. */

const { COMMON, onlyResource } = require('../options/arguments.js')
const { managerOptions, withManager } = require('../options/connection.js')
const { readable } = require('../options/durations.js')
const { GROUPS } = require('../options/backends.js')
const { EXIT } = require('../exit-codes.js')
const { columns, plain, print, printJson } = require('../output/print.js')
const { lockJson } = require('../output/table.js')

/** @import { LockInfo } from '../../index.js' */
/** @import { Command } from '../options/arguments.js' */

/** @type {Command} */
module.exports = {
  usage: '[options] <resource>',
  description: [
    'Shows the current lease of a resource: its holder, its token, how long it lasts, and how many wait.',
  ],
  groups: [{ title: 'Options', options: COMMON }, ...GROUPS],
  statuses: [
    ['0', 'it is held'],
    ['1', 'it is free'],
    ['64', 'wrong usage'],
    ['69', 'the backend cannot be reached'],
    ['78', 'the backend lacks what the locks need'],
  ],
  examples: [
    ['who holds it?', 'fencelock inspect deploy'],
    ['the token alone', 'fencelock inspect deploy --json | jq -r .token'],
  ],
  async run(call) {
    const resource = onlyResource(call)
    const { options } = managerOptions(call)
    const info = await withManager(options, (locks) => locks.inspect(resource))
    if (info === null) {
      if (call.values.json === true) printJson({ resource, held: false })
      else print(`${plain(resource)} is free`)
      return EXIT.no
    }
    if (call.values.json === true) {
      printJson(lockJson(info))
    } else {
      const rows = [
        ['resource', plain(info.resource)],
        ['strategy', info.strategy],
        ['holder', holderText(info)],
        ['owner', info.owner],
        ['token', String(info.token)],
        ['remaining', readable(info.remainingMs)],
        ['waiters', String(info.waiters)],
      ]
      for (const line of columns(rows)) print(line)
    }
    return EXIT.ok
  },
}

/** @param {LockInfo} info */
function holderText({ holder }) {
  if (holder === null) return 'unknown'
  const { name, host, pid, since } = holder
  return `${plain(name)} (process ${pid} on ${plain(host)}, since ${since.toISOString()})`
}
