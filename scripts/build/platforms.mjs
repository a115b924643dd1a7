/**
 * The platforms that have a package under npm/: what each is built for, and what its binary may require of a
 * system.
 */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'

import { PlainError, root } from '../lib/shell.mjs'

/**
 * The newest glibc that the binaries may need: that of RHEL 7, older than any on which a supported Node runs.
 */
export const oldestGlibc = '2.17'

/**
 * @typedef {object} Platform
 * @property {string} name  as in npm/ and in the name of the binary
 * @property {'linux' | 'darwin' | 'win32'} os
 * @property {'x64' | 'arm64'} cpu
 * @property {'glibc' | 'musl'} [libc]
 * @property {string} target  Rust's name for it
 * @property {string} [oldestMacos]
 */

/** @type {readonly Platform[]} */
export const platforms = [
  { name: 'linux-x64-gnu', os: 'linux', cpu: 'x64', libc: 'glibc', target: 'x86_64-unknown-linux-gnu' },
  { name: 'linux-arm64-gnu', os: 'linux', cpu: 'arm64', libc: 'glibc', target: 'aarch64-unknown-linux-gnu' },
  { name: 'linux-x64-musl', os: 'linux', cpu: 'x64', libc: 'musl', target: 'x86_64-unknown-linux-musl' },
  { name: 'linux-arm64-musl', os: 'linux', cpu: 'arm64', libc: 'musl', target: 'aarch64-unknown-linux-musl' },
  { name: 'darwin-x64', os: 'darwin', cpu: 'x64', target: 'x86_64-apple-darwin', oldestMacos: '10.13' },
  { name: 'darwin-arm64', os: 'darwin', cpu: 'arm64', target: 'aarch64-apple-darwin', oldestMacos: '11.0' },
  { name: 'win32-x64-msvc', os: 'win32', cpu: 'x64', target: 'x86_64-pc-windows-msvc' },
  { name: 'win32-arm64-msvc', os: 'win32', cpu: 'arm64', target: 'aarch64-pc-windows-msvc' },
]

/** The platforms with these names, or all if there are none. @param {string[]} names */
export function named(names) {
  return names.length === 0 ? platforms : names.map(platform)
}

/** @param {string} name */
export function platform(name) {
  const found = platforms.find((each) => each.name === name)
  if (found) return found
  throw new PlainError(`unknown platform ${name}; known are ${platforms.map((each) => each.name).join(', ')}`)
}

/** The name of the platform with this Rust target. @param {string} target */
export function platformOf(target) {
  const found = platforms.find((each) => each.target === target)
  if (found) return found.name
  throw new PlainError(`no platform has the target ${target}`)
}

/**
 * What lib/native/load.js looks for in this process: the name of a platform, or of a system without a
 * package.
 */
export function hostName() {
  const name = `${process.platform}-${process.arch}`
  if (process.platform === 'win32') return `${name}-msvc`
  if (process.platform !== 'linux') return name
  const { header } = /** @type {{ header: { glibcVersionRuntime?: string } }} */ (process.report.getReport())
  return `${name}-${header.glibcVersionRuntime === undefined ? 'musl' : 'gnu'}`
}

/** The file name of a platform's binary. @param {{ name: string }} platform */
export function binaryName({ name }) {
  return `fencelock.${name}.node`
}

/** The name of a platform's package. @param {{ name: string }} platform */
export function packageName({ name }) {
  return `@fencelock/binding-${name}`
}

/** The folder of a platform's package. @param {Platform} platform */
export function packageFolder({ name }) {
  return join(root, 'npm', name)
}

/** The path of a platform's binary in its package. @param {Platform} target */
export function binaryPath(target) {
  return join(packageFolder(target), binaryName(target))
}

/** The version to publish. */
export function version() {
  return String(JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')).version)
}
