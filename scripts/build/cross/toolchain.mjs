/**
 * A Rust toolchain with the standard library of other platforms: rustup's, or, where rustup cannot fetch
 * anything, this compiler with the sources of its library, which Debian packages.
 */
import { cpSync, existsSync, mkdirSync, renameSync, rmSync } from 'node:fs'
import { join } from 'node:path'

import { capture, PlainError, root, run, say, which } from '../../lib/shell.mjs'
import { unpack, versionsOf } from './debian.mjs'

/**
 * @typedef {object} Toolchain
 * @property {string} sysroot
 * @property {NodeJS.ProcessEnv} env  for cargo
 * @property {string[]} args  for cargo: how it gets the standard library
 */

/**
 * @param {string[]} targets  of the build
 * @param {'rustup' | 'debian' | undefined} source  undefined: rustup, then Debian if that fails
 * @returns {Promise<Toolchain>}
 */
export async function crossToolchain(targets, source) {
  if (!which('cargo')) throw new PlainError('cargo is missing: install Rust from https://rustup.rs')
  const sysroot = await capture('rustc', ['--print', 'sysroot'])
  if (!sysroot) throw new PlainError('rustc does not start')
  const libraries = (/** @type {string} */ target) => existsSync(join(sysroot, 'lib/rustlib', target, 'lib'))
  const missing = targets.filter((target) => !libraries(target))
  if (missing.length === 0) return { sysroot, env: process.env, args: [] }
  if (source !== 'debian' && which('rustup')) {
    say(`getting the standard library of ${missing.join(', ')} with rustup`)
    const { ok, why } = await run('rustup', ['target', 'add', ...missing], { limitMs: 600_000 })
    if (ok) return { sysroot, env: process.env, args: [] }
    if (source === 'rustup') throw new PlainError(`rustup target add failed: ${why}`)
  }
  if (source === 'rustup') throw new PlainError('rustup is missing')
  return withSources(sysroot)
}

/**
 * This machine's toolchain with the sources of its library, from which cargo builds it for each target.
 *
 * @param {string} original  its sysroot
 * @returns {Promise<Toolchain>}
 */
async function withSources(original) {
  const release = /^release: (\S+)$/m.exec((await capture('rustc', ['-vV'])) ?? '')?.[1] ?? 'unknown'
  const sysroot = join(root, `target/cross/rust-${release}`)
  if (!existsSync(sysroot)) {
    const versions = await versionsOf('rust-src')
    // The library of another version does not compile.
    const version = versions.find((each) => each.startsWith(`${release}+`))
    if (!version) {
      const others = versions.map((each) => each.split('+')[0]).join(', ')
      throw new PlainError(
        `no standard library for other platforms: rustup cannot fetch one, and Debian's rust-src has no version ` +
          `${release}, which this compiler is, but ${others}`,
      )
    }
    const unpacked = join(root, 'target/cross/rust-src')
    const unfinished = `${sysroot}-unfinished`
    rmSync(unfinished, { recursive: true, force: true })
    await unpack(`rust-src=${version}`, unpacked)
    mkdirSync(unfinished, { recursive: true })
    // Hard links where possible: it is a gigabyte, and nothing in it is written to.
    const linked = await run('cp', ['-al', `${original}/.`, unfinished])
    if (!linked.ok) cpSync(original, unfinished, { recursive: true, verbatimSymlinks: true })
    const sources = join(unfinished, 'lib/rustlib/src/rust')
    mkdirSync(sources, { recursive: true })
    for (const folder of ['library', 'src']) {
      cpSync(join(unpacked, `usr/src/rustc-${release}`, folder), join(sources, folder), {
        recursive: true,
        verbatimSymlinks: true,
      })
    }
    rmSync(unpacked, { recursive: true, force: true })
    renameSync(unfinished, sysroot)
  }
  const env = {
    ...process.env,
    PATH: `${join(sysroot, 'bin')}:${process.env.PATH}`,
    // -Z needs a nightly compiler, or this.
    RUSTC_BOOTSTRAP: '1',
    // clippy finds its compiler by it.
    SYSROOT: sysroot,
  }
  return { sysroot, env, args: ['-Z', 'build-std=std,panic_unwind'] }
}
