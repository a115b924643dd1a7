'use strict'

/** All commands. Each is loaded when it is called. */

const { UsageError } = require('../exit-codes.js')

/** @import { Command } from '../options/arguments.js' */

/** @type {Readonly<Record<string, { summary: string, load: () => Command }>>} */
const COMMANDS = {
  run: { summary: 'run a command while holding a lock', load: () => require('./run.js') },
  ls: { summary: 'list the locks that are held', load: () => require('./ls.js') },
  watch: { summary: 'show the locks as they change', load: () => require('./watch.js') },
  inspect: { summary: 'show who holds a resource', load: () => require('./inspect.js') },
  release: { summary: 'end a lease, no matter who holds it', load: () => require('./release.js') },
  doctor: { summary: 'check what this deployment guarantees', load: () => require('./doctor.js') },
  completion: { summary: 'print a completion script for a shell', load: () => require('./completion.js') },
}

/**
 * @param {string} name
 * @returns {Command}
 */
function find(name) {
  const command = Object.hasOwn(COMMANDS, name) ? COMMANDS[name] : undefined
  if (command !== undefined) return command.load()
  const what = name.startsWith('-') ? 'option' : 'command'
  // Of a URL only what comes before its user and password.
  const shown = name.split('=')[0]?.replace(/:\/\/.*$/s, '://…')
  throw new UsageError(`unknown ${what} ${shown}; the commands are ${Object.keys(COMMANDS).join(', ')}`)
}

module.exports = { COMMANDS, find }
