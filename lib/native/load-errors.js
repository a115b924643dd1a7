'use strict'

/**
 * Explains why the addon cannot be loaded: what was looked for, where, and what to do. Loaded only in that
 * case.
 */

const { existsSync, readFileSync, statSync } = require('node:fs')
const { dirname, join } = require('node:path')
const { version } = require('../../package.json')

const home = join(__dirname, '../..')
const targets = [
  'darwin-arm64',
  'darwin-x64',
  'linux-arm64-gnu',
  'linux-arm64-musl',
  'linux-x64-gnu',
  'linux-x64-musl',
  'win32-arm64-msvc',
  'win32-x64-msvc',
]

/** What to do about packages that were installed for or on another system. */
const install =
  'install on the system, or in the image, that runs it, instead of copying node_modules from another one'

/**
 * @param {string} code
 * @param {string} message
 * @param {unknown} [cause]
 */
function failure(code, message, cause) {
  const error = new Error(`fencelock ${version}: ${message}`, cause ? { cause } : undefined)
  return Object.assign(error, { code, help: 'docs/reference/troubleshooting.md#the-addon-does-not-load' })
}

/** @param {string} target */
function packageName(target) {
  return `@fencelock/binding-${target}`
}

/**
 * A file of an installed package, or undefined.
 * @param {string} name
 */
function find(name) {
  try {
    return require.resolve(name)
  } catch {
    return undefined
  }
}

/**
 * The addon's file in its package, or undefined.
 * @param {string} target
 */
function fileOf(target) {
  return find(packageName(target))
}

/** @param {string | undefined} cpu */
function processor(cpu) {
  return cpu ?? 'another processor'
}

/**
 * The system that a program file is made for, from its head; undefined when it is not a program file.
 * @param {Buffer} bytes
 */
function madeFor(bytes) {
  if (bytes.length < 64) return undefined
  if (bytes.readUInt32BE(0) === 0x7f_45_4c_46) {
    const cpu = new Map([
      [0x3e, 'x64'],
      [0xb7, 'arm64'],
    ]).get(bytes.readUInt16LE(18))
    // The name of glibc, among those of the libraries that it is linked to.
    const libc = bytes.includes('libc.so.6') ? 'gnu' : 'musl'
    return `linux-${processor(cpu)}-${libc}`
  }
  if (bytes.readUInt32LE(0) === 0xfe_ed_fa_cf) {
    const cpu = new Map([
      [0x01_00_00_07, 'x64'],
      [0x01_00_00_0c, 'arm64'],
    ]).get(bytes.readUInt32LE(4))
    return `darwin-${processor(cpu)}`
  }
  const header = bytes.readUInt32LE(0x3c)
  if (bytes.readUInt16LE(0) === 0x5a_4d && header + 6 <= bytes.length) {
    const cpu = new Map([
      [0x86_64, 'x64'],
      [0xaa_64, 'arm64'],
    ]).get(bytes.readUInt16LE(header + 4))
    return `win32-${processor(cpu)}-msvc`
  }
  return undefined
}

/**
 * How messages name the file, and how it was chosen.
 * @param {string | undefined} file
 */
function source(file) {
  return process.env.FENCELOCK_NATIVE_PATH
    ? `the addon that FENCELOCK_NATIVE_PATH names, ${file},`
    : `the addon ${file}`
}

/**
 * What to do about a file that is of no use; `reinstall` when it came with a package.
 * @param {string | undefined} file
 * @param {string} reinstall
 */
function replace(file, reinstall) {
  if (process.env.FENCELOCK_NATIVE_PATH) {
    // Any other file would be read as JavaScript.
    if (!file?.endsWith('.node')) return 'its name must end in .node'
    return 'build it from the sources of this version for this system, or unset the variable'
  }
  // In a clone.
  return file && dirname(file) === home ? 'build it again (npm run build:fast)' : reinstall
}

/**
 * No addon is made for this system.
 * @param {string} wanted
 */
function unsupported(wanted) {
  return failure(
    'ADDON_UNSUPPORTED_PLATFORM',
    `there is no addon for ${wanted}, only for ${targets.join(', ')}; ` +
      'build one from the sources (npm run build), and set FENCELOCK_NATIVE_PATH to its file',
  )
}

/**
 * The package of this system is missing, or its addon does not load.
 * @param {string} wanted
 * @param {unknown} error
 */
function packageFailed(wanted, error) {
  const file = fileOf(wanted)
  if (file) return fileFailed(file, wanted, error)
  const name = packageName(wanted)
  const manifest = find(`${name}/package.json`)
  if (manifest) {
    return failure(
      'ADDON_NOT_FOUND',
      `package ${name} is installed in ${dirname(manifest)} but its native binary is missing: reinstall it`,
      error,
    )
  }
  const others = targets.filter(fileOf)
  const looked = `the package ${name} was looked for from ${home}, and is not there`
  if (others.length > 0) {
    return failure(
      'ADDON_WRONG_PLATFORM',
      `this process needs the addon for ${wanted}, but only that for ${others.join(', ')} is installed: ` +
        `${looked}; ${install}`,
      error,
    )
  }
  // A bundler has put this code into a file of its own.
  if (!existsSync(join(home, 'lib/native/load-errors.js'))) {
    return failure(
      'ADDON_NOT_FOUND',
      `${looked}: fencelock was bundled, and the addon cannot be; keep fencelock out of the bundle (Next.js: ` +
        "serverExternalPackages: ['fencelock']; esbuild: --external:fencelock)",
      error,
    )
  }
  return failure(
    'ADDON_NOT_FOUND',
    `${looked}: it is an optional dependency, and holds the addon for this system; install with optional ` +
      'dependencies (without --omit=optional, --no-optional or omit in .npmrc); if they were not left out, ' +
      'the lock file may have been created without them: reinstall fencelock (npm uninstall fencelock, ' +
      `npm install fencelock@${version})`,
    error,
  )
}

/**
 * This file is missing, or does not load.
 * @param {string} file
 * @param {string} wanted
 * @param {unknown} error
 */
function fileFailed(file, wanted, error) {
  if (!existsSync(file)) {
    return failure(
      'ADDON_NOT_FOUND',
      `${source(file)} does not exist; give a path that is absolute or relative to the working directory ` +
        `(${process.cwd()}), or unset the variable`,
      error,
    )
  }
  if (!statSync(file).isFile()) {
    return failure(
      'ADDON_NOT_LOADED',
      `${source(file)} is not a file; give the path of the .node file`,
      error,
    )
  }
  let found
  try {
    found = madeFor(readFileSync(file))
  } catch (unreadable) {
    const { message } = /** @type {Error} */ (unreadable)
    const advice = `allow the user of this process (or Node's permissions) to read it`
    return failure('ADDON_NOT_LOADED', `${source(file)} cannot be read: ${message}; ${advice}`, error)
  }
  if (found !== undefined && found !== wanted) {
    return failure(
      'ADDON_WRONG_PLATFORM',
      `${source(file)} is for ${found}, but this process needs one for ${wanted}; ${replace(file, install)}`,
      error,
    )
  }
  return notLoaded(file, error, found !== undefined)
}

/**
 * @param {string} file
 * @param {unknown} error
 * @param {boolean} isProgram
 */
function notLoaded(file, error, isProgram) {
  const { code, message = error } = /** @type {{ code?: unknown, message?: unknown }} */ (error ?? {})
  const [reason = ''] = String(message).split('\n', 1)
  let advice = replace(file, 'reinstall it')
  if (code === 'ERR_DLOPEN_DISABLED') advice = 'allow it (--allow-addons with --permission, no --no-addons)'
  else if (!isProgram) advice = `it is damaged, or not an addon: ${advice}`
  else if (reason.includes('GLIBC_')) advice = 'the C library of this system is too old for it'
  return failure('ADDON_NOT_LOADED', `${source(file)} does not load: ${reason}; ${advice}`, error)
}

/**
 * An addon of another version, which may interpret our calls differently.
 * @param {string | undefined} built
 * @param {string} wanted
 * @param {string} [file]
 */
function wrongVersion(built, wanted, file = fileOf(wanted)) {
  return failure(
    'ADDON_WRONG_VERSION',
    `${source(file)} is of version ${built ?? '(unknown)'}, but only this package's own version fits; ` +
      replace(
        file,
        `remove fencelock and ${packageName(wanted)} from the lock file and node_modules, ` +
          'and install fencelock again',
      ),
  )
}

module.exports = { fileFailed, packageFailed, unsupported, wrongVersion }
