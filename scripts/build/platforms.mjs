/**
 * The platforms that have a package under npm/: what each is built for, and what its binary may ask of a system.
 */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'

import { PlainError, root } from '../lib/shell.mjs'

/** The glibc that the binaries need at most: that of RHEL 7, older than any that a supported Node runs on. */
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

/** Those with these names; all without any. @param {string[]} names */
export function named(names) {
  return names.length === 0 ? platforms : names.map(platform)
}

/** @param {string} name */
export function platform(name) {
  const found = platforms.find((each) => each.name === name)
  if (found) return found
  throw new PlainError(
    `there is no platform ${name}; there are ${platforms.map((each) => each.name).join(', ')}`,
  )
}

/** The name of the platform that Rust calls so. @param {string} target */
export function platformOf(target) {
  const found = platforms.find((each) => each.target === target)
  if (found) return found.name
  throw new PlainError(`there is no platform for the target ${target}`)
}

/** What lib/native/load.js looks for in this process: the name of a platform, or of a system that has no package. */
export function hostName() {
  const name = `${process.platform}-${process.arch}`
  if (process.platform === 'win32') return `${name}-msvc`
  if (process.platform !== 'linux') return name
  const { header } = /** @type {{ header: { glibcVersionRuntime?: string } }} */ (process.report.getReport())
  return `${name}-${header.glibcVersionRuntime === undefined ? 'musl' : 'gnu'}`
}

/** What the binary of a platform is called. @param {{ name: string }} platform */
export function binaryName({ name }) {
  return `fencelock.${name}.node`
}

/** The name of the platform's package. @param {{ name: string }} platform */
export function packageName({ name }) {
  return `@fencelock/binding-${name}`
}

/** The platform's package. @param {Platform} platform */
export function packageFolder({ name }) {
  return join(root, 'npm', name)
}

/** Where the platform's package has its binary. @param {Platform} target */
export function binaryPath(target) {
  return join(packageFolder(target), binaryName(target))
}

/** The version that is to be published. */
export function version() {
  return String(JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')).version)
}
