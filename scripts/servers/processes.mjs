/**
 * Processes and folders that are removed when this process ends, whether it ends normally, by an error or by
 * Ctrl-C.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

/** @typedef {import('node:child_process').ChildProcess} ChildProcess */

/**
 * What the starters of servers need. The tests have their own, which cleans up after each test.
 *
 * @typedef {object} Launcher
 * @property {(command: string, args: string[], options?: import('node:child_process').SpawnOptions) =>
 *   ChildProcess} start
 * @property {() => string} makeFolder a new, empty folder
 */

/** @type {Set<ChildProcess>} */
const running = new Set()
/** @type {Set<string>} */
const folders = new Set()

let installed = false

/** Installs the exit handlers, once there is something to clean up. */
function installHandlers() {
  if (installed) return
  installed = true
  // Every way to end leads here, and only synchronous work is possible. SIGKILL also ends a process that is
  // stopped.
  process.on('exit', () => {
    // PostgreSQL's child processes notice within a second that their parent is gone.
    for (const child of running) child.kill('SIGKILL')
    for (const folder of folders) rmSync(folder, { recursive: true, force: true, maxRetries: 3 })
  })
  for (const [signal, number] of Object.entries({ SIGHUP: 1, SIGINT: 2, SIGTERM: 15 })) {
    process.once(signal, () => process.exit(128 + number))
  }
}

/**
 * Ends a child with this process.
 *
 * @template {ChildProcess} T
 * @param {T} child
 * @returns {T}
 */
export function track(child) {
  installHandlers()
  running.add(child)
  child.once('exit', () => running.delete(child))
  // A program that cannot be started has no exit.
  child.once('error', () => running.delete(child))
  return child
}

/**
 * Starts a program, by default without input and output.
 *
 * @param {string} command
 * @param {string[]} args
 * @param {import('node:child_process').SpawnOptions} [options]
 */
export function startProgram(command, args, options = {}) {
  return track(spawn(command, args, { stdio: 'ignore', ...options }))
}

/** Ends a child and waits for its exit. @param {ChildProcess} child @param {NodeJS.Signals} [signal] */
export async function end(child, signal = 'SIGKILL') {
  if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) return
  const exited = once(child, 'exit')
  child.kill(signal)
  await exited
}

/** A new, empty folder where the system has its temporary files. @param {string} [prefix] of its name */
export function makeFolder(prefix = 'fencelock-') {
  installHandlers()
  const folder = mkdtempSync(join(tmpdir(), prefix))
  folders.add(folder)
  return folder
}

/** @type {Launcher} */
export const launcher = { start: startProgram, makeFolder }
