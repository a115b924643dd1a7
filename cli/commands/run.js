'use strict'

/** `fencelock run`: runs a command while holding a lock. */

const { COMMON, integer, text } = require('../options/arguments.js')
const { managerOptions } = require('../options/connection.js')
const { duration } = require('../options/durations.js')
const { EXIT, UsageError } = require('../exit-codes.js')
const { ACK_TIMEOUT, GRANT_OPTIONS, grantDefaults } = require('../options/grant.js')
const { GROUPS } = require('../options/backends.js')

/** @import { Call, Command, Options } from '../options/arguments.js' */

/** @type {Options} */
const OPTIONS = {
  wait: { type: 'string', short: 'w', value: 'time', text: 'wait so long at most; default: for ever' },
  'no-wait': { type: 'boolean', short: 'n', text: 'do not wait' },
  'conflict-exit-code': {
    type: 'string',
    short: 'E',
    value: 'n',
    text: 'the exit status when another owner holds the lock, 0 to 255; by default 1; with 0, only --verbose and --json report it',
  },
  command: {
    type: 'string',
    short: 'c',
    value: 'line',
    text: 'run this line with /bin/sh, instead of -- command',
  },
  'kill-after': {
    type: 'string',
    value: 'time',
    text: 'when the lock is lost, send SIGKILL so long after SIGTERM; by default 5s, at once with 0s',
  },
  fair: { type: 'boolean', text: 'first come, first served, among all who wait with --fair' },
  'min-hold': {
    type: 'string',
    value: 'time',
    text: 'keep others out for so long, also when the command ends sooner: for a job that every host starts',
  },
  verbose: {
    type: 'boolean',
    short: 'v',
    text: 'tell on stderr how long it waited, and how the command ended',
  },
  ...GRANT_OPTIONS,
  ...ACK_TIMEOUT,
  ...COMMON,
}

/** @type {Command} */
module.exports = {
  usage: "[options] <resource> -- <command> [arguments]\n[options] <resource> -c '<line>'",
  description: [
    'Waits for the lock, runs the command, renews the lease while it runs, and releases the lock when it ends. ' +
      'The command inherits stdin, stdout and stderr, and gets FENCELOCK_TOKEN, FENCELOCK_RESOURCE and ' +
      'FENCELOCK_OWNER in its environment. Let what it writes to refuse a token that is lower than one it has seen.',
    'SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1 and SIGUSR2 are passed on to the command and its process group, ' +
      'once each. When the lock is lost, SIGTERM ends them, and after --kill-after SIGKILL.',
    'Processes that the command leaves behind are not waited for: the lock is released when the command ends. ' +
      'When fencelock itself is killed, a process beside it ends the command in the same way.',
  ],
  groups: [{ title: 'Options', options: OPTIONS }, ...GROUPS],
  statuses: [
    ['n', 'the status of the command'],
    ['1', 'another owner holds the lock; --conflict-exit-code changes it'],
    ['64', 'wrong usage'],
    ['69', 'the backend cannot be reached, or too few replicas acknowledged; the command was not started'],
    ['70', 'an error in fencelock'],
    ['75', 'the lock was lost before the command had ended'],
    ['78', 'the backend lacks what the locks need'],
    ['126', 'the command cannot be executed'],
    ['127', 'there is no such command'],
    ['128 + n', 'signal n ended the command, or fencelock while it waited'],
  ],
  examples: [
    ['skip this run if another host does it', 'fencelock run nightly-report --no-wait -- ./report.sh'],
    ['one deployment at a time', 'fencelock run deploy --wait 10m --verbose -- make deploy'],
    ['a shell line', "fencelock run backup -c 'pg_dump app | gzip > app.gz'"],
    ['once a minute among all hosts', 'fencelock run reminders -n --min-hold 30s -E 0 -- ./remind'],
  ],
  run(call) {
    // Loads the addon.
    const { runHolding } = require('../run/index.js')
    return runHolding(settingsOf(call))
  },
}

/**
 * Everything is checked before anything is done.
 * @param {Call} call
 */
function settingsOf(call) {
  const { resource, command } = operandsOf(call)
  const conflict = text(call, 'conflict-exit-code')
  const minHold = text(call, 'min-hold')
  const killAfter = text(call, 'kill-after')
  const { options, place } = managerOptions(call, grantDefaults(call))
  return {
    resource,
    command,
    options,
    place,
    acquire: {
      waitMs: waitOf(call),
      renew: true,
      ...(call.values.fair === true && { fair: true }),
      ...(minHold !== undefined && {
        minHoldMs: duration('--min-hold', minHold, { min: '0s', max: '1d' }),
      }),
    },
    conflictExit:
      conflict === undefined ? EXIT.no : integer('--conflict-exit-code', conflict, { min: 0, max: 255 }),
    killAfterMs: killAfter === undefined ? 5_000 : duration('--kill-after', killAfter),
    verbose: call.values.verbose === true,
    json: call.values.json === true,
    env: call.env,
  }
}

/** @param {Call} call */
function waitOf(call) {
  const wait = text(call, 'wait')
  if (call.values['no-wait'] !== true) return wait === undefined ? Infinity : duration('--wait', wait)
  if (wait !== undefined) throw new UsageError('--wait and --no-wait exclude each other')
  return 0
}

/** @param {Call} call */
function operandsOf(call) {
  const line = text(call, 'command')
  const { operands, rest } = beforeAndAfter(call, line)
  const [resource, ...others] = operands
  if (resource === undefined) {
    const hint = rest === undefined ? '' : '; one that begins with a dash: fencelock run -- -x -- <command>'
    throw new UsageError(`a resource is missing: fencelock run <resource> -- <command>${hint}`)
  }
  if (others.length > 0) throw new UsageError('the command follows --: fencelock run <resource> -- <command>')
  return { resource, command: commandOf(call, line, rest) }
}

/**
 * The operands, and what follows them. A resource that begins with a dash has a `--` of its own before it.
 * @param {Call} call
 * @param {string | undefined} line
 * @returns {{ operands: readonly string[], rest: readonly string[] | undefined }}
 */
function beforeAndAfter({ operands, command }, line) {
  if (operands.length > 0 || command === undefined) return { operands, rest: command }
  const end = command.indexOf('--')
  if (end === 1) return { operands: command.slice(0, 1), rest: command.slice(2) }
  return line === undefined ? { operands, rest: command } : { operands: command, rest: undefined }
}

/**
 * @param {Call} call
 * @param {string | undefined} line of -c
 * @param {readonly string[] | undefined} rest after --
 * @returns {readonly string[]}
 */
function commandOf(call, line, rest) {
  if (line === undefined) {
    if (rest === undefined || rest.length === 0) {
      throw new UsageError('a command is missing: fencelock run <resource> -- <command>')
    }
    if (rest[0] === '') throw new UsageError('the command is empty: is a variable of a script not set?')
    return rest
  }
  if (rest !== undefined) throw new UsageError('-c and a command after -- exclude each other')
  if (line === '') throw new UsageError('the line of -c is empty: is a variable of a script not set?')
  return process.platform === 'win32'
    ? [call.env.ComSpec ?? 'cmd.exe', '/d', '/s', '/c', line]
    : ['/bin/sh', '-c', line]
}
