/**
 * Processes and folders that are gone when the benchmark is, however it ends: in order, by an error, or by Ctrl-C.
 */
import { fork, spawn } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

/** @typedef {import('node:child_process').ChildProcess} ChildProcess */

/** @type {Set<ChildProcess>} */
const running = new Set()
/** @type {Set<string>} */
const folders = new Set()

let guarded = false

/** From the first thing on that must not stay; before it, the programs of the set-up have guards of their own. */
function guard() {
  if (guarded) return
  guarded = true
  // Every way to end leads here, and only synchronous work is possible. SIGKILL also ends a process that is stopped.
  process.on('exit', () => {
    // PostgreSQL's own children see within a second that it is gone.
    for (const child of running) child.kill('SIGKILL')
    for (const folder of folders) rmSync(folder, { recursive: true, force: true, maxRetries: 3 })
  })
  for (const [signal, number] of Object.entries({ SIGHUP: 1, SIGINT: 2, SIGTERM: 15 })) {
    process.once(signal, () => process.exit(128 + number))
  }
}

/** @template {ChildProcess} T @param {T} child @returns {T} */
function watch(child) {
  guard()
  running.add(child)
  child.once('exit', () => running.delete(child))
  // A program that cannot be started has no exit.
  child.once('error', () => running.delete(child))
  return child
}

/**
 * Starts a program that says nothing.
 *
 * @param {string} command
 * @param {string[]} args
 */
export function startProgram(command, args) {
  return watch(spawn(command, args, { stdio: 'ignore' }))
}

/**
 * Starts a module on a runtime, with a channel for messages.
 *
 * @param {string} runtime the program
 * @param {string[]} flags of the runtime
 * @param {string} module
 * @param {string[]} args
 * @param {NodeJS.ProcessEnv} env
 */
export function startModule(runtime, flags, module, args, env) {
  return watch(
    fork(module, args, {
      execPath: runtime,
      execArgv: flags,
      env,
      // The one that Node and Bun both speak.
      serialization: 'json',
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    }),
  )
}

/** Ends a child, and waits until it is gone. @param {ChildProcess} child @param {NodeJS.Signals} [signal] */
export async function end(child, signal = 'SIGKILL') {
  if (!running.has(child)) return
  const gone = new Promise((resolve) => child.once('exit', resolve))
  child.kill(signal)
  await gone
}

/** A new folder for one run; on the disk that the system has for temporary files. */
export function makeFolder() {
  guard()
  const folder = mkdtempSync(join(tmpdir(), 'fencelock-bench-'))
  folders.add(folder)
  return folder
}
