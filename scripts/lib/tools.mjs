/**
 * Finds the programs that the scripts start.
 */
import { existsSync, readdirSync } from 'node:fs'
import { isAbsolute, join } from 'node:path'

import { capture, PlainError, which } from './shell.mjs'

const hints = {
  'redis-server': 'apt install redis-server, brew install redis, or name one in FENCELOCK_REDIS_SERVER',
  openssl: 'apt install openssl, or brew install openssl',
  python3: 'apt install python3, or brew install python (its SQLite plays another application)',
  pip: 'apt install python3-pip, or brew install python',
  cc: 'apt install build-essential, or xcode-select --install',
  postgres: 'apt install postgresql, or brew install postgresql',
  mariadbd: 'apt install mariadb-server, or brew install mariadb',
  chromium: 'apt install chromium, brew install --cask chromium, or name one in FENCELOCK_CHROMIUM',
}

/** Where Chromium, or Chrome, may be. */
const browsers = [
  'chromium',
  'chromium-browser',
  'google-chrome',
  '/Applications/Chromium.app/Contents/MacOS/Chromium',
  '/Applications/Google Chrome.app/Contents/MacOS/Google Chrome',
]

/** A browser that can be driven, or null. */
function findBrowser() {
  return browsers.map((name) => (isAbsolute(name) ? existing(name) : findProgram(name))).find(Boolean) ?? null
}

/** @param {string} file */
function existing(file) {
  return existsSync(file) ? file : null
}

/** Python as this system calls it, or null. */
export function python() {
  return which('python3') ?? which('python')
}

/** Distributions package Python without it. */
async function findPip() {
  const program = python()
  return program && (await capture(program, ['-m', 'pip', '--version'])) ? program : null
}

/**
 * The full path of a program, or null: on PATH, or where distributions keep the programs that users do not
 * call.
 *
 * @param {string} name
 */
export function findProgram(name) {
  const folders = ['/usr/sbin', '/usr/libexec']
  const debian = '/usr/lib/postgresql'
  const versions = existsSync(debian) ? readdirSync(debian) : []
  // The newest first.
  folders.push(
    ...versions.toSorted((a, b) => Number(b) - Number(a)).map((version) => join(debian, version, 'bin')),
  )
  return which(name) ?? folders.map((folder) => join(folder, name)).find((file) => existsSync(file)) ?? null
}

/** @typedef {keyof typeof hints} Tool */

/**
 * The path of a tool, or null; pip's is that of the Python that has it as a module.
 *
 * @param {Tool} name
 */
export async function find(name) {
  if (name === 'pip') return findPip()
  return name === 'chromium' ? findBrowser() : findProgram(name)
}

/**
 * The path of a tool; throws an error that says how to get it.
 *
 * @param {Tool} name
 * @param {string} [variable] an environment variable that may name another place
 * @returns {Promise<string>}
 */
export async function need(name, variable) {
  const named = variable ? process.env[variable] : undefined
  if (named) {
    if (!existsSync(named)) throw new PlainError(`${variable} names ${named}, which does not exist`)
    return named
  }
  const found = await find(name)
  if (!found) throw new PlainError(`${name} is missing: ${hints[name]}`)
  return found
}
