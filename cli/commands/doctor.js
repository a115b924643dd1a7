'use strict'

/** `fencelock doctor`: what this deployment guarantees, as a report. */

const { COMMON, noOperands, text } = require('../options/arguments.js')
const { managerOptions, withManager } = require('../options/connection.js')
const { EXIT, UsageError, codeOf, exitOf } = require('../exit-codes.js')
const { GRANT_OPTIONS, grantDefaults } = require('../options/grant.js')
const { GROUPS } = require('../options/backends.js')
const { messageOf, print, printJson, wrap } = require('../output/print.js')

/** @import { Guarantee, Survives } from '../../index.js' */
/** @import { Command } from '../options/arguments.js' */

/** @typedef {{ name: string, status: 'pass' | 'warn' | 'fail', message: string }} Check */

/** @type {Readonly<Record<keyof Survives, string>>} */
const FAILURES = {
  processCrash: 'process crash',
  pause: 'pause',
  primaryCrash: 'primary crash',
  failover: 'failover',
  partition: 'partition',
  clockStep: 'clock step',
  powerLoss: 'power loss',
}

/** @type {Command} */
module.exports = {
  usage: '[options]',
  description: [
    'Connects, and reports what the locks of this deployment survive, what is wrong with it, and what to do.',
    'pass: it is as it should be. A failure that locks survive "with a guard" is passed, too, because no lease ' +
      'alone survives it; --require makes it fail. warn: check this. fail: locks are refused, or are not safe.',
  ],
  groups: [
    {
      title: 'Options',
      options: {
        require: {
          type: 'string',
          value: 'failures',
          text: `fail unless locks survive these without a guard: a list with commas of ${Object.keys(FAILURES).join(', ')}`,
        },
        strict: { type: 'boolean', text: 'warnings fail, too' },
        ...GRANT_OPTIONS,
        ...COMMON,
      },
    },
    ...GROUPS,
  ],
  statuses: [
    ['0', 'no check failed'],
    ['1', 'a check failed; with --strict also for a warning'],
    ['64', 'wrong usage'],
    ['69', 'the backend cannot be reached'],
    ['78', 'the backend lacks what the locks need'],
  ],
  examples: [
    ['look at a deployment', 'fencelock doctor --redis redis://cache.example --replicas 2'],
    ['in a pipeline', 'fencelock doctor --strict --require failover,powerLoss'],
  ],
  async run(call) {
    noOperands(call)
    const required = requiredFailures(text(call, 'require'))
    const { options } = managerOptions(call, grantDefaults(call))
    const json = call.values.json === true
    try {
      const guarantee = await withManager(options, (locks) => locks.describe())
      const checks = checksOf(guarantee, required)
      const bad = call.values.strict === true ? ['fail', 'warn'] : ['fail']
      const exit = checks.some(({ status }) => bad.includes(status)) ? EXIT.no : EXIT.ok
      if (json) printJson({ strategy: guarantee.strategy, status: worst(checks), checks, guarantee })
      else printReport(guarantee.summary, checks)
      return exit
    } catch (error) {
      if (
        !(error instanceof Error) ||
        !['BACKEND_UNAVAILABLE', 'UNSUPPORTED'].includes(codeOf(error) ?? '')
      ) {
        throw error
      }
      /** @type {Check[]} */
      const checks = [{ name: 'connection', status: 'fail', message: messageOf(error) }]
      if (json) printJson({ strategy: null, status: 'fail', checks, guarantee: null })
      else printReport(undefined, checks)
      return exitOf(error)
    }
  },
}

/**
 * @param {string | undefined} list
 * @returns {readonly (keyof Survives)[]}
 */
function requiredFailures(list) {
  return (list?.split(',') ?? []).map((name) => {
    if (Object.hasOwn(FAILURES, name)) return /** @type {keyof Survives} */ (name)
    throw new UsageError(`--require must list some of ${Object.keys(FAILURES).join(', ')}`)
  })
}

/**
 * @param {Guarantee} guarantee
 * @param {readonly (keyof Survives)[]} required
 * @returns {Check[]}
 */
function checksOf({ acks, file, replicas, server, survives, warnings }, required) {
  const isNew = file !== null && !file.exists
  const answer = isNew ? 'the first lock creates the file' : 'the backend answers'
  /** @type {Check[]} */
  const checks = [{ name: 'connection', status: 'pass', message: answer }]
  if (server?.role === 'replica') {
    checks.push({ name: 'role', status: 'fail', message: 'this server is a replica: connect to its primary' })
  }
  const connected = replicas?.connected ?? null
  if (acks !== null && acks > 0 && connected !== null) {
    const count = `${connected} replicas are connected, and a lock requires ${acks} acknowledgements`
    const message =
      connected < acks ? `${count}: every lock is refused. Reconnect them, or correct --replicas` : count
    checks.push({ name: 'replicas', status: connected < acks ? 'fail' : 'pass', message })
  }
  for (const [key, name] of Object.entries(FAILURES)) {
    const failure = /** @type {keyof Survives} */ (key)
    const { verdict, reason } = survives[failure]
    const isMissing = required.includes(failure) && verdict === 'with a guard'
    checks.push({ name, status: isMissing ? 'fail' : 'pass', message: messageOf(`${verdict}: ${reason}`) })
  }
  for (const warning of warnings)
    checks.push({ name: 'warning', status: 'warn', message: messageOf(warning) })
  return checks
}

/** @param {readonly Check[]} checks */
function worst(checks) {
  const found = new Set(checks.map(({ status }) => status))
  if (found.has('fail')) return 'fail'
  return found.has('warn') ? 'warn' : 'pass'
}

/**
 * @param {string | undefined} summary
 * @param {readonly Check[]} checks
 */
function printReport(summary, checks) {
  if (summary !== undefined) print(`${wrap(summary, '')}\n`)
  const width = Math.max(...checks.map(({ name }) => name.length))
  const indent = ' '.repeat(8 + width)
  for (const { name, status, message } of checks) {
    print(`${status}  ${name.padEnd(width)}  ${wrap(message, indent)}`)
  }
}
