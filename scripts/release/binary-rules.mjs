/**
 * The rules that a platform's binary must keep to be published. Nothing is loaded, so every machine can check
 * them.
 */
import { readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'

import { binaryName, oldestGlibc, packageFolder, version } from '../build/platforms.mjs'
import { runPython, wheels } from '../lib/python.mjs'
import { PlainError } from '../lib/shell.mjs'

/** @typedef {import('../build/platforms.mjs').Platform} Platform */

/**
 * What scripts/release/binary-facts.py reports about a file.
 *
 * @typedef {object} Facts
 * @property {'ELF' | 'Mach-O' | 'PE'} format
 * @property {string} cpu
 * @property {string} kind
 * @property {string[]} libraries  that it is linked to
 * @property {string[]} exports
 * @property {number} end  where the last part that its headers name ends
 * @property {string[]} [glibc]  the versions of glibc's symbols that it needs, without `GLIBC_`
 * @property {string} [macos]  the oldest macOS that it declares to run on
 * @property {boolean} [signed]
 */

export const limits = { bytes: 4_000_000, packed: 2_000_000 }

const formats = { linux: 'ELF', darwin: 'Mach-O', win32: 'PE' }
const kinds = { linux: 'DYN', darwin: 'DYLIB', win32: 'DLL' }
const cpus = {
  linux: { x64: 'X86_64', arm64: 'AARCH64' },
  darwin: { x64: 'X86_64', arm64: 'ARM64' },
  win32: { x64: 'AMD64', arm64: 'ARM64' },
}

/**
 * The libraries it may be linked to: parts of the system, nothing that a user must install.
 *
 * @type {Record<string, RegExp>}
 */
const system = {
  glibc: /^(lib(c|m|dl|rt|pthread|util|gcc_s)\.so\.\d|ld-linux-.*\.so\.\d)$/,
  musl: /^(libc\.so|libc\.musl-.*|libgcc_s\.so\.1|ld-musl-.*)$/,
  darwin: /^\/usr\/lib\/lib(System\.B|iconv\.2)\.dylib$/,
  // Windows's own; not vcruntime140.dll, which not every Windows has.
  win32: /^((kernel32|ntdll|advapi32|bcrypt|bcryptprimitives|ws2_32|user32|userenv)|api-ms-win-.*)\.dll$/,
}

/**
 * Checks a binary against the rules of its platform.
 *
 * @param {string} file
 * @param {Platform} platform
 * @returns {Promise<string[]>} what is wrong with it; empty when it may be published
 */
export async function gate(file, platform) {
  const size = statSync(file, { throwIfNoEntry: false })?.size
  if (size === undefined) return ['the file is missing']
  const bytes = readFileSync(file)
  const facts = await read(file)
  if (!facts) return ['it is not a binary: neither ELF nor Mach-O nor PE']
  // For the binary of another system the other rules make no sense.
  const kind = ofPlatform(facts, platform)
  if (kind.length > 0) return kind
  if (facts.end > size) return [`it is cut off: ${size} bytes are left of ${facts.end}`]
  return [
    ...linked(facts, platform),
    ...exported(facts),
    ...(platform.libc === 'glibc' ? needsGlibc(facts.glibc ?? []) : []),
    ...(platform.os === 'darwin' ? forMacos(facts, platform) : []),
    ...stamped(bytes),
    ...sized(bytes, platform),
  ]
}

/** @param {string} file @returns {Promise<Facts | null>} */
async function read(file) {
  const script = join(import.meta.dirname, 'binary-facts.py')
  const text = await runPython(await wheels('scripts/release/binary-formats.txt'), [script, file])
  if (text === null) throw new PlainError(`the formats of binaries cannot be read: ${script} failed`)
  return JSON.parse(text)[0]
}

/** @param {Facts} facts @param {Platform} platform */
function ofPlatform({ format, cpu, kind }, { os, cpu: processor }) {
  const wanted = { format: formats[os], cpu: cpus[os][processor], kind: kinds[os] }
  if (format !== wanted.format) return [`it is ${format}, not ${wanted.format}`]
  if (cpu !== wanted.cpu) return [`it is for ${cpu}, not for ${wanted.cpu}`]
  return kind === wanted.kind
    ? []
    : [`it is a file of type ${kind}, not a library that can be loaded (${wanted.kind})`]
}

/** @param {Facts} facts @param {Platform} platform */
function linked({ libraries }, { os, libc }) {
  const allowed = system[libc ?? os]
  const others = libraries.filter((library) => !allowed?.test(library))
  const objections = others.map(
    (library) => `it is linked to ${library}, which not every system of the platform has`,
  )
  const [libcName, its] = libc === 'musl' ? ['musl', /^libc\.(so|musl-.*)$/] : ['glibc', /^libc\.so\.6$/]
  if (libc && !libraries.some((library) => its.test(library)))
    objections.push(`it is not linked to ${libcName}`)
  return objections
}

/** @param {Facts} facts */
function exported({ exports }) {
  // Node calls the first one; the second one may tell it which version of Node-API is meant.
  const others = exports.filter(
    (name) => name !== 'napi_register_module_v1' && name !== 'node_api_module_get_api_version_v1',
  )
  const objections = exports.includes('napi_register_module_v1')
    ? []
    : ['it does not export napi_register_module_v1']
  if (others.length > 0) {
    // Another library of the process could be linked to them instead of its own: to SQLite's, for example.
    const some = others.slice(0, 3).join(', ')
    objections.push(
      `it exports ${others.length} symbols besides Node-API's: ${some}${others.length > 3 ? ', …' : ''}`,
    )
  }
  return objections
}

/** @param {string[]} versions */
function needsGlibc(versions) {
  const numbers = versions.filter((each) => /^[\d.]+$/.test(each))
  // Names without numbers mark features of newer loaders (ABI_DT_RELR) or glibc's own use (PRIVATE).
  const objections = versions
    .filter((each) => !numbers.includes(each))
    .map((each) => `it needs GLIBC_${each}, which is not a symbol version of glibc ${oldestGlibc}`)
  const newest = numbers.toSorted(compare).at(-1)
  if (newest === undefined) objections.push('it does not say which glibc it needs')
  else if (compare(newest, oldestGlibc) > 0)
    objections.push(`it needs glibc ${newest}, not ${oldestGlibc} at most`)
  return objections
}

/** @param {Facts} facts @param {Platform} platform */
function forMacos({ macos = '', signed }, { oldestMacos = '' }) {
  const objections = []
  if (macos === '') objections.push('it does not say which macOS it needs')
  else if (compare(macos, oldestMacos) > 0)
    objections.push(`it needs macOS ${macos}, not ${oldestMacos} at most`)
  // Apple's processors run nothing unsigned; an ad-hoc signature is enough.
  if (!signed) objections.push('it has no signature, not even an ad-hoc one')
  return objections
}

/** @param {Buffer} bytes */
function stamped(bytes) {
  const found = /fencelock addon (\d[\w.+-]*)\n/.exec(bytes.toString('latin1'))?.[1]
  const wanted = version()
  if (found === undefined) return ['it does not say which version of fencelock it is']
  return found === wanted ? [] : [`it is of version ${found}, and package.json of ${wanted}`]
}

/** @param {Buffer} bytes @param {Platform} platform */
function sized(bytes, platform) {
  const objections = []
  if (bytes.length >= limits.bytes) objections.push(`it has ${bytes.length} bytes, not under ${limits.bytes}`)
  const packed = packedSize(bytes, platform)
  if (packed >= limits.packed) objections.push(`its package has ${packed} bytes, not under ${limits.packed}`)
  return objections
}

/**
 * The size of the package that users download: npm compresses a tar file of the binary and the files next to
 * it.
 *
 * @param {Buffer} bytes @param {Platform} platform
 */
export function packedSize(bytes, platform) {
  const texts = ['package.json', 'README.md', 'LICENSE'].map((name) => {
    const file = join(packageFolder(platform), name)
    return statSync(file, { throwIfNoEntry: false }) ? readFileSync(file) : Buffer.alloc(0)
  })
  // A tar file has a header of 512 bytes for each entry.
  const heads = Buffer.alloc(512 * (texts.length + 1), binaryName(platform))
  return gzipSync(Buffer.concat([heads, bytes, ...texts]), { level: 9 }).length
}

/** Compares numeric versions; 11.0 equals 11.0.0. @param {string} a @param {string} b */
function compare(a, b) {
  const [one, other] = [a, b].map((text) => text.split('.').map(Number))
  for (const [at] of [0, 0, 0].entries()) {
    const difference = (one?.[at] ?? 0) - (other?.[at] ?? 0)
    if (difference !== 0) return difference
  }
  return 0
}
