'use strict'

/** `fencelock release`: ends a lease that another process holds. */

const { COMMON, onlyResource } = require('../options/arguments.js')
const { managerOptions, withManager } = require('../options/connection.js')
const { readable } = require('../options/durations.js')
const { GROUPS } = require('../options/backends.js')
const { EXIT, UsageError } = require('../exit-codes.js')
const { note, plain, print, printJson } = require('../output/print.js')

/** @import { LockInfo } from '../../index.js' */
/** @import { Command } from '../options/arguments.js' */

/** @type {Command} */
module.exports = {
  usage: '--force [options] <resource>',
  description: [
    'Ends the current lease of a resource, no matter who holds it. The holder is not stopped: it learns of its ' +
      'loss, and until then it may still work. Only a guard that checks the token protects the data from it.',
    'It asks before it does so. Where it cannot ask, because stdin is not a terminal, it needs --yes.',
  ],
  groups: [
    {
      title: 'Options',
      options: {
        force: { type: 'boolean', text: 'required, because the lock is taken away from its holder' },
        yes: { type: 'boolean', short: 'y', text: 'do not ask' },
        ...COMMON,
      },
    },
    ...GROUPS,
  ],
  statuses: [
    ['0', 'the lease has ended'],
    ['1', 'the resource was free, the answer was no, or its holder changed before the answer'],
    ['64', 'wrong usage'],
    ['69', 'the backend cannot be reached'],
    ['78', 'the backend lacks what the locks need'],
  ],
  examples: [
    ['ask, then release', 'fencelock release --force deploy'],
    ['in a script', 'fencelock release --force --yes deploy'],
  ],
  async run(call) {
    const resource = onlyResource(call)
    if (call.values.force !== true) {
      throw new UsageError('release takes the lock away from its holder, who is not stopped: say --force')
    }
    const asks = call.values.yes !== true
    if (asks && !process.stdin.isTTY)
      throw new UsageError('stdin is not a terminal, so it cannot ask: say --yes')
    const { options } = managerOptions(call)
    const released = await withManager(options, async (locks) => {
      if (asks) {
        const info = await locks.inspect(resource)
        if (info === null || !(await isConfirmed(info))) return false
        // The answer was about this lease, and took its time.
        const now = await locks.inspect(resource)
        if (now?.owner !== info.owner) return false
      }
      return locks.forceRelease(resource)
    })
    if (call.values.json === true) printJson({ resource, released })
    else if (released) print(`${plain(resource)} is released`)
    else note(`${plain(resource)} was not released: it is free, the answer was no, or its holder has changed`)
    return released ? EXIT.ok : EXIT.no
  },
}

/**
 * On stderr, because stdout has the answer.
 * @param {LockInfo} info
 * @returns {Promise<boolean>}
 */
async function isConfirmed({ resource, token, remainingMs, holder }) {
  const { createInterface } = require('node:readline/promises')
  const terminal = createInterface({ input: process.stdin, output: process.stderr })
  const interrupted = new AbortController()
  terminal.once('SIGINT', () => interrupted.abort())
  // Ctrl-D.
  terminal.once('close', () => interrupted.abort())
  try {
    const answer = await terminal.question(
      `${plain(resource)} is held by ${holder === null ? 'an unknown holder' : plain(holder.name)} with token ${token}, ${readable(remainingMs)} remaining. ` +
        'Its holder is not stopped. Release it? [y/N] ',
      { signal: interrupted.signal },
    )
    return /^y(?:es)?$/i.test(answer.trim())
  } catch (error) {
    if (!interrupted.signal.aborted) throw error
    process.stderr.write('\n')
    return false
  } finally {
    terminal.close()
  }
}
