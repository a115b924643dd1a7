'use strict'

/** Holds a lock while a command runs. */

const { LockManager } = require('../../index.js')
const { EXIT, codeOf, exitOf, exitOfSignal } = require('../exit-codes.js')
const { replacedVariables } = require('../options/encoding.js')
const { messageOf, plain } = require('../output/print.js')
const { now } = require('./clock.js')
const { Report } = require('./report.js')
const { Signals } = require('./signals.js')
const { hasTerminal } = require('./terminal.js')

/** @import { Lock, ManagerOptions, StrongOptions } from '../../index.js' */

/** @typedef {InstanceType<typeof import('./child.js').Child>} RunningCommand */
/** @typedef {{ report: InstanceType<typeof Report>, signals: InstanceType<typeof Signals> }} Own */

const onWindows = process.platform === 'win32'
/** Loaded while the backend is busy, instead of after that. */
const childModule = () => require('./child.js')
/** After this time `--verbose` says that it waits. */
const PATIENCE_MS = 250

/**
 * @typedef {object} Settings
 * @property {string} resource
 * @property {readonly string[]} command
 * @property {ManagerOptions} options
 * @property {string} place
 * @property {StrongOptions} acquire
 * @property {number} conflictExit
 * @property {number} killAfterMs
 * @property {boolean} verbose
 * @property {boolean} json
 * @property {NodeJS.ProcessEnv} env
 */

/** What its caller's process does at last. @typedef {{ exit: number, dieOf?: NodeJS.Signals }} Outcome */

/**
 * @param {Settings} settings
 * @returns {Promise<number>} the exit status
 */
async function runHolding(settings) {
  const report = new Report(settings)
  for (const name of replacedVariables(settings.env)) {
    report.warning(
      `the variable ${plain(name)} is not UTF-8, and the command gets it changed: unset or correct it`,
    )
  }
  const ownsGroup = !onWindows && !hasTerminal()
  const signals = new Signals({ stops: ownsGroup })
  const locks = new LockManager(settings.options)
  const { exit, dieOf } = await acquireAndRun(locks, { ...settings, ownsGroup }, { report, signals })
  // From now on the user need not wait for a backend that does not answer.
  signals.restore()
  await locks.close({ drainMs: 0 })
  if (dieOf !== undefined) signals.die(dieOf)
  return exit
}

/**
 * @param {LockManager} locks
 * @param {Settings & { ownsGroup: boolean }} settings
 * @param {Own} own
 * @returns {Promise<Outcome>}
 */
async function acquireAndRun(locks, settings, { report, signals }) {
  const { resource, acquire, conflictExit } = settings
  const signal = signals.whileWaiting
  const begin = now()
  const impatient = setTimeout(() => report.waiting(), PATIENCE_MS)
  let lock
  try {
    const acquired = locks.acquire(resource, { ...acquire, signal })
    childModule()
    lock = await acquired
  } catch (error) {
    if (signal.aborted) return interrupted(signals)
    const held = codeOf(error) === 'LOCK_HELD'
    // With a conflict status of 0 it is no failure, and cron would mail every line.
    if (!held || conflictExit !== 0 || settings.verbose || settings.json) report.failed(error)
    return { exit: held ? conflictExit : exitOf(error) }
  } finally {
    clearTimeout(impatient)
  }
  // It may have been granted and interrupted at the same time.
  if (signal.aborted) {
    await release(lock, report)
    return interrupted(signals)
  }
  report.acquired(lock, now() - begin)
  return hold(lock, settings, { report, signals })
}

/**
 * @param {Own['signals']} signals
 * @returns {Outcome}
 */
function interrupted({ last }) {
  return last === undefined ? { exit: EXIT.internal } : { exit: exitOfSignal(last), dieOf: last }
}

/**
 * @param {Lock} lock
 * @param {Settings & { ownsGroup: boolean }} settings
 * @param {Own} own
 * @returns {Promise<Outcome>}
 */
async function hold(lock, { command, killAfterMs, ownsGroup, env }, { report, signals }) {
  const begin = now()
  // Read before the command runs, so that no loss is missed.
  const { signal } = lock
  // This process may have been stopped since the grant.
  if (!lock.held) {
    await release(lock, report)
    report.lost('the lock was lost before the command could start', 'the command does not run')
    return { exit: EXIT.lost }
  }
  const { Child } = childModule()
  let child
  try {
    child = await Child.start(command, {
      killAfterMs,
      ownsGroup,
      env: environment(env, lock),
      onDenied: (denied) => report.denied(denied, signal.aborted),
    })
  } catch (error) {
    await release(lock, report)
    report.failed(new SpawnError(command[0] ?? '', error))
    return { exit: codeOf(error) === 'ENOENT' ? EXIT.notFound : EXIT.notExecutable }
  }
  signals.passTo(child, { mayContinue: () => lock.held })
  await child.watched
  report.started(child.pid)
  const ending = await endOf(child, signal, { report, killAfterMs })
  child.dismiss()
  report.ended(ending, now() - begin)
  const inTime = await release(lock, report)
  if (signal.aborted || !inTime) {
    if (!signal.aborted)
      report.lost('the lock was lost while the command ran', 'another owner may have had it')
    return { exit: EXIT.lost }
  }
  if (ending.signal === null) return { exit: ending.code ?? EXIT.internal }
  const exit = exitOfSignal(ending.signal)
  // A shell's loop goes on after a program that exits, and ends with one that SIGINT ended.
  return ending.signal === 'SIGINT' && signals.last === 'SIGINT' ? { exit, dieOf: 'SIGINT' } : { exit }
}

/**
 * Waits for the end of the command; ends it when the lock is lost.
 * @param {RunningCommand} child
 * @param {AbortSignal} signal of the lock
 * @param {{ report: Own['report'], killAfterMs: number }} options
 */
async function endOf(child, signal, { report, killAfterMs }) {
  /** @type {Promise<void> | undefined} */
  let killed
  const onLoss = () => {
    const { reason } = /** @type {{ reason: unknown }} */ (signal)
    report.lost(messageOf(reason), 'the command is being ended')
    killed = child.end(killAfterMs)
  }
  if (signal.aborted) onLoss()
  else signal.addEventListener('abort', onLoss, { once: true })
  const ending = await child.ended
  signal.removeEventListener('abort', onLoss)
  // What it left behind has lost the lock, too.
  await killed
  return ending
}

/**
 * @param {NodeJS.ProcessEnv} env
 * @param {Lock} lock
 */
function environment(env, { token, resource, owner }) {
  return { ...env, FENCELOCK_TOKEN: String(token), FENCELOCK_RESOURCE: resource, FENCELOCK_OWNER: owner }
}

/**
 * @param {Lock} lock
 * @param {Own['report']} report
 * @returns {Promise<boolean>} whether it was held until now
 */
async function release(lock, report) {
  const { held } = lock
  try {
    return await lock.release()
  } catch (error) {
    report.releaseFailed(error)
    return held
  }
}

/** The command could not be started. */
class SpawnError extends Error {
  code = 'SPAWN'

  /**
   * @param {string} program
   * @param {unknown} cause
   */
  constructor(program, cause) {
    super(`${program} cannot be run: ${whyNot(cause)}`, { cause })
  }
}

/** @param {unknown} error */
function whyNot(error) {
  const code = codeOf(error)
  if (code === 'ENOENT') return 'there is no such command'
  return code === 'EACCES' ? 'permission denied' : (code ?? String(error))
}

module.exports = { runHolding }
