'use strict'

/**
 * Finds and loads the addon, and checks that it belongs to this package. Hand-written instead of the loader
 * that napi-rs generates: that one starts programs to find out the libc, looks for WebAssembly that is not
 * shipped, and reports every failure as a missing binding. load-errors.js explains what failed here.
 */

const { closeSync, existsSync, openSync, readSync, statSync } = require('node:fs')
const { join, resolve } = require('node:path')
const { version } = require('../../package.json')

/** @typedef {typeof import('../../binding.js')} Addon */

/** Whether this process runs on musl, no matter whether musl or a glibc is installed for other programs. */
function isMusl() {
  // The program names its loader in the first page, /lib/ld-musl-x86_64.so.1 for example.
  const head = Buffer.alloc(4096)
  try {
    const file = openSync(process.execPath, 'r')
    readSync(file, head)
    closeSync(file)
  } catch {
    // The report below says it, too.
  }
  const loader = /\/ld-(linux|musl)-/.exec(head.toString('latin1'))
  if (loader) return loader[1] === 'musl'
  // The program was patched, or started through its loader. This is not the first choice because it takes
  // milliseconds, and waits for worker threads.
  const report = /** @type {{ excludeNetwork: boolean, getReport(): object }} */ (
    /** @type {unknown} */ (process.report)
  )
  const { excludeNetwork } = report
  report.excludeNetwork = true // It would look up names.
  const { header } = /** @type {{ header: { glibcVersionRuntime?: string } }} */ (report.getReport())
  report.excludeNetwork = excludeNetwork
  return header.glibcVersionRuntime === undefined
}

/** What this process needs the addon for, as in the names of our packages. */
function target() {
  const { arch, platform } = process
  if (platform === 'linux') return `${platform}-${arch}-${isMusl() ? 'musl' : 'gnu'}`
  return platform === 'win32' ? `${platform}-${arch}-msvc` : `${platform}-${arch}`
}

/**
 * Each package by its full name, in a `try`, so that bundlers and tracers see it and ignore those that are
 * missing.
 * @param {string} wanted
 * @returns {Addon}
 */
function requirePackage(wanted) {
  try {
    switch (wanted) {
      case 'darwin-arm64':
        return require('@fencelock/binding-darwin-arm64')
      case 'darwin-x64':
        return require('@fencelock/binding-darwin-x64')
      case 'linux-arm64-gnu':
        return require('@fencelock/binding-linux-arm64-gnu')
      case 'linux-arm64-musl':
        return require('@fencelock/binding-linux-arm64-musl')
      case 'linux-x64-gnu':
        return require('@fencelock/binding-linux-x64-gnu')
      case 'linux-x64-musl':
        return require('@fencelock/binding-linux-x64-musl')
      case 'win32-arm64-msvc':
        return require('@fencelock/binding-win32-arm64-msvc')
      case 'win32-x64-msvc':
        return require('@fencelock/binding-win32-x64-msvc')
    }
  } catch (error) {
    throw require('./load-errors.js').packageFailed(wanted, error)
  }
  throw require('./load-errors.js').unsupported(wanted)
}

/**
 * @param {string} file
 * @param {string} wanted
 * @returns {Addon}
 */
function requireFile(file, wanted) {
  try {
    return /** @type {Addon} */ (require(file))
  } catch (error) {
    throw require('./load-errors.js').fileFailed(file, wanted, error)
  }
}

/**
 * The addon from this file, which each process loads once, however often this package is loaded again: the
 * runtimes keep some of what each loading of an addon defines.
 * @param {string} file
 * @param {() => Addon} loadIt
 */
function once(file, loadIt) {
  const { ino, mtimeMs } = statSync(file)
  const key = Symbol.for(`fencelock addon ${file} ${ino} ${mtimeMs}`)
  const loaded = /** @type {Addon | undefined} */ (Reflect.get(process, key))
  if (loaded) return loaded
  const addon = loadIt()
  // An object of the addon, which refers to nothing of this copy of the package.
  Reflect.defineProperty(process, key, { value: addon })
  return addon
}

/**
 * The file of this system's package, if that can be told before it is loaded.
 * @param {string} wanted
 */
function packageFile(wanted) {
  try {
    return require.resolve(`@fencelock/binding-${wanted}`)
  } catch {
    return undefined
  }
}

/** The addon, what it was built for, and its file if that is known without looking. */
function load() {
  const wanted = target()
  // A build of the user's own.
  const named = process.env.FENCELOCK_NATIVE_PATH
  // In a clone the build leaves it here.
  const built = join(__dirname, '../..', `fencelock.${wanted}.node`)
  if (!named && !existsSync(built)) {
    const file = packageFile(wanted)
    const loadIt = () => requirePackage(wanted)
    return { addon: file !== undefined && existsSync(file) ? once(file, loadIt) : loadIt(), wanted }
  }
  const file = named ? resolve(named) : built
  const loadIt = () => requireFile(file, wanted)
  return { addon: existsSync(file) ? once(file, loadIt) : loadIt(), wanted, file }
}

const { addon, wanted, file } = load()
const built = addon.version?.()
// An addon that a clone built before the last change has the version, and may lack what is called next.
if (built !== version || typeof addon.wire !== 'function') {
  throw require('./load-errors.js').wrongVersion(built, wanted, file)
}

module.exports = addon
