/**
 * Running other programs from the scripts. Node built-ins only: the scripts run before any dependency is
 * installed.
 */
import { spawn } from 'node:child_process'
import { accessSync, constants, statSync } from 'node:fs'
import { delimiter, join } from 'node:path'

/** The project's root folder. */
export const root = join(import.meta.dirname, '../..')

/** An error whose message is all that the user needs: it is printed without a stack. */
export class PlainError extends Error {}

/**
 * Runs a program to its end; its output goes to the terminal, and it gets no input.
 *
 * The program is the leader of a process group, so that at the time limit everything it started is killed,
 * too.
 *
 * @param {string} command
 * @param {string[]} args
 * @param {{ cwd?: string, env?: NodeJS.ProcessEnv, limitMs?: number, onOutput?: (text: string) => void,
 *   quiet?: boolean, shell?: boolean }} [options] `onOutput` gets what the program prints; with `quiet` it is
 *   not printed to the terminal.
 * @returns {Promise<{ ok: boolean, why: string }>} `why` is the reason of a failure: exit code, signal or
 *   time limit
 */
export function run(
  command,
  args,
  { cwd = root, env = process.env, limitMs = 0, onOutput, quiet = false, shell = false } = {},
) {
  return new Promise((resolve) => {
    const group = process.platform !== 'win32'
    const stdio = onOutput ? 'pipe' : 'inherit'
    const child = spawn(command, args, { cwd, env, stdio: ['ignore', stdio, stdio], detached: group, shell })
    const end = () => {
      try {
        if (child.pid) process.kill(group ? -child.pid : child.pid, 'SIGKILL')
      } catch {
        // It has ended meanwhile.
      }
    }
    const interrupted = () => {
      end()
      process.exit(130)
    }
    process.once('SIGINT', interrupted).once('SIGTERM', interrupted)
    let late = false
    const timer = limitMs ? setTimeout(() => ((late = true), end()), limitMs) : undefined
    /** @param {boolean} ok @param {string} why */
    const settle = (ok, why) => {
      clearTimeout(timer)
      process.off('SIGINT', interrupted).off('SIGTERM', interrupted)
      resolve({ ok, why })
    }
    for (const name of /** @type {const} */ (['stdout', 'stderr'])) {
      child[name]?.on('data', (data) => {
        if (!quiet) process[name].write(data)
        onOutput?.(String(data))
      })
    }
    child.once('error', (error) => settle(false, error.message))
    child.once('close', (code, signal) => {
      if (late) settle(false, `no end after ${Math.round(limitMs / 1000)} s`)
      else settle(code === 0, signal ? `ended by ${signal}` : `exit code ${code}`)
    })
  })
}

/**
 * The output of a program, or null if it cannot be run or fails.
 *
 * @param {string} command
 * @param {string[]} args
 * @param {{ env?: NodeJS.ProcessEnv, limitMs?: number, shell?: boolean }} [options]
 * @returns {Promise<string | null>}
 */
export function capture(command, args, { env = process.env, limitMs = 30_000, shell = false } = {}) {
  return new Promise((resolve) => {
    let text = ''
    const child = spawn(command, args, {
      cwd: root,
      env,
      stdio: ['ignore', 'pipe', 'ignore'],
      timeout: limitMs,
      shell,
    })
    child.stdout.on('data', (data) => (text += data))
    child.once('error', () => resolve(null))
    child.once('close', (code) => resolve(code === 0 ? text.trim() : null))
  })
}

/**
 * The full path of a program on PATH, or null.
 *
 * @param {string} name
 * @returns {string | null}
 */
export function which(name) {
  const suffixes = process.platform === 'win32' ? ['.exe', '.cmd', ''] : ['']
  for (const folder of (process.env.PATH ?? '').split(delimiter)) {
    for (const suffix of suffixes) {
      const file = join(folder, name + suffix)
      try {
        accessSync(file, constants.X_OK)
        if (statSync(file).isFile()) return file
      } catch {
        // Not in this folder.
      }
    }
  }
  return null
}

/**
 * How to call npm. It is a script: under `npm run` a variable names it; otherwise only a shell finds npm.cmd
 * on Windows.
 *
 * @param {string[]} args
 * @returns {{ command: string, args: string[], shell: boolean }}
 */
export function npmCall(args) {
  const script = process.env.npm_execpath
  if (script?.endsWith('npm-cli.js')) {
    return { command: process.execPath, args: [script, ...args], shell: false }
  }
  return { command: 'npm', args, shell: process.platform === 'win32' }
}

/**
 * Runs npm; throws when it fails.
 *
 * @param {string[]} args
 * @param {{ cwd?: string }} [options]
 */
export async function npm(args, { cwd = root } = {}) {
  const call = npmCall(args)
  const { ok, why } = await run(call.command, call.args, { cwd, shell: call.shell })
  if (!ok) throw new PlainError(`npm ${args.join(' ')} failed: ${why}`)
}

/**
 * Runs a script's main function; prints a {@link PlainError} as one line.
 *
 * @param {() => Promise<void>} main
 */
export async function runMain(main) {
  try {
    await main()
  } catch (error) {
    if (!(error instanceof PlainError)) throw error
    console.error(`fencelock: ${error.message}`)
    process.exitCode = 1
  }
}

/** Prints a line of progress. @param {string} text */
export function say(text) {
  console.log(process.stdout.isTTY ? `\u001B[1m» ${text}\u001B[0m` : `» ${text}`)
}
