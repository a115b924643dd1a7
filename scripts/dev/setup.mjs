/**
 * `npm run setup`: makes a fresh clone ready to use. It installs the tools, if this user is root, and the
 * dependencies, and builds the addon. It does only what is missing or out of date, so that other scripts can
 * begin with it.
 */
import { readdirSync, statSync, utimesSync } from 'node:fs'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'

import { npm, PlainError, root, runMain, say, which } from '../lib/shell.mjs'
import { need } from '../lib/tools.mjs'
import { installTools } from './install-tools.mjs'

/** When a file was last changed; 0 if it does not exist. @param {string} path */
function changed(path) {
  return statSync(join(root, path), { throwIfNoEntry: false })?.mtimeMs ?? 0
}

/** The newest change of any file below a folder. @param {string} folder @returns {number} */
function newestBelow(folder) {
  if (changed(folder) === 0) return 0
  const entries = readdirSync(join(root, folder), { recursive: true })
  return Math.max(changed(folder), ...entries.map((entry) => changed(join(folder, String(entry)))))
}

/** The addon of this platform in the root folder, as `napi build --platform` names it. */
function addon() {
  const start = `fencelock.${process.platform}-${process.arch}`
  return readdirSync(root).find((name) => name.startsWith(start) && name.endsWith('.node'))
}

function checkNode() {
  const [major = 0, minor = 0] = process.versions.node.split('.').map(Number)
  if (major < 20 || (major === 20 && minor < 19)) {
    throw new PlainError(`Node.js 20.19 or newer is needed; this is ${process.versions.node}`)
  }
}

/**
 * Installs the packages of a folder exactly as locked, unless that was done since the lock file last changed.
 *
 * @param {string} folder relative to the root
 */
export async function installPackages(folder) {
  // npm writes this file at the end of every installation.
  const installed = changed(join(folder, 'node_modules/.package-lock.json'))
  if (installed > 0 && installed >= changed(join(folder, 'package-lock.json'))) return
  say(`installing packages${folder === '.' ? '' : ` of ${folder}`}`)
  // Includes development dependencies when NODE_ENV is production. No package needs its scripts.
  await npm(['ci', '--include=dev', '--include=optional', '--ignore-scripts', '--loglevel=error'], {
    cwd: join(root, folder),
  })
}

async function buildAddon() {
  const sources = Math.max(
    newestBelow('src'),
    newestBelow('core/src'),
    changed('core/Cargo.toml'),
    changed('Cargo.toml'),
    changed('Cargo.lock'),
    changed('.cargo/config.toml'),
    changed('build.rs'),
    // How it is built.
    changed('package.json'),
  )
  const built = addon()
  if (built && changed(built) >= sources) return
  if (!which('cargo'))
    throw new PlainError('cargo is missing: install Rust from https://rustup.rs, then run this again')
  if (process.platform !== 'win32') await need('cc')
  say('building the addon (some minutes the first time, seconds afterwards)')
  const begin = new Date()
  await npm(['run', '--silent', 'build:fast'])
  const result = addon()
  if (!result) throw new PlainError('the build left no addon for this platform')
  // A source that changed during the build must count as newer than the result.
  utimesSync(join(root, result), begin, begin)
}

/** Installs the dependencies and builds the addon. Tools that are missing are reported, not installed. */
export async function setUp() {
  checkNode()
  await installPackages('.')
  // The type checker needs these, too.
  await installPackages('scripts/sql-clients')
  await buildAddon()
}

if (process.argv[1] && pathToFileURL(process.argv[1]).href === import.meta.url) {
  await runMain(async () => {
    for (const problem of await installTools()) say(`the tests need a tool: ${problem}`)
    await setUp()
    say('ready')
  })
}
