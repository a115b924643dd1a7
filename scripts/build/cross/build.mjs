/**
 * Builds the addon as it is published: for other platforms on one Linux machine, with zig as C compiler and
 * linker; on macOS and Windows for both of their processors, with the system's own tools.
 */
import { existsSync, mkdirSync, writeFileSync } from 'node:fs'
import { homedir } from 'node:os'
import { join } from 'node:path'

import { wheels } from '../../lib/python.mjs'
import { capture, PlainError, root, run } from '../../lib/shell.mjs'
import { oldestGlibc } from '../platforms.mjs'
import { asPublished, library, rustFlags } from '../release-flags.mjs'
import { darwinLinker } from './darwin-linker.mjs'

/** @typedef {import('../platforms.mjs').Platform} Platform */
/** @typedef {import('./toolchain.mjs').Toolchain} Toolchain */

const output = join(root, 'target/cross/cargo')

/** The paths of zig and of cargo-zigbuild, which runs it. */
async function compilers() {
  const folder = await wheels('scripts/build/cross/compilers.txt')
  return { zigbuild: join(folder, 'bin/cargo-zigbuild'), zig: join(folder, 'ziglang') }
}

/**
 * The environment of a build: it names the tools, and keeps the paths of this machine out of the binary.
 *
 * @param {Toolchain} toolchain
 * @param {string} zig  its folder; empty where the system's own tools build
 * @param {string[]} flags  for rustc
 * @returns {NodeJS.ProcessEnv}
 */
function environment({ env, sysroot }, zig, flags) {
  const registry = join(env.CARGO_HOME ?? join(homedir(), '.cargo'), 'registry/src')
  const remap = [`${registry}=registry`, `${root}=fencelock`].map((pair) => `--remap-path-prefix=${pair}`)
  return {
    ...env,
    CARGO_TARGET_DIR: output,
    CARGO_ENCODED_RUSTFLAGS: [...remap, ...rustFlags, ...flags].join('\u001F'),
    ...(zig && { CARGO_ZIGBUILD_ZIG_PATH: join(zig, 'zig') }),
    // The tool that strips binaries of other systems needs LLVM's library; without it they are not stripped.
    ...(process.platform === 'linux' && { LD_LIBRARY_PATH: join(sysroot, 'lib') }),
  }
}

/**
 * Builds a platform's binary as it is published.
 *
 * @param {Platform} platform
 * @param {Toolchain} toolchain
 * @returns {Promise<string>} the file
 */
export async function build(platform, toolchain) {
  const { zigbuild, zig } = await compilers()
  let env = environment(toolchain, zig, [])
  let { target } = platform
  if (platform.libc === 'glibc') target += `.${oldestGlibc}`
  // The system's musl: an addon cannot include its own.
  if (platform.libc === 'musl') env = environment(toolchain, zig, ['-Ctarget-feature=-crt-static'])
  if (platform.os === 'darwin') {
    const { linker, flags } = darwinLinker(toolchain.sysroot, zig)
    env = environment(toolchain, zig, flags)
    env[`CARGO_TARGET_${platform.target.toUpperCase().replaceAll('-', '_')}_LINKER`] = linker
    env.MACOSX_DEPLOYMENT_TARGET = platform.oldestMacos
    // Otherwise Apple's SDK would be looked for; nothing of it is used.
    env.SDKROOT = join(root, 'target/cross/darwin')
  }
  await cargo(zigbuild, ['build', ...asPublished, '--target', target], toolchain, env)
  return join(output, platform.target, 'release', library(platform))
}

/**
 * Builds a platform's binary with the tools of the system that it is for.
 *
 * @param {Platform} platform
 * @param {Toolchain} toolchain
 * @returns {Promise<string>} the file
 */
export async function buildNatively(platform, toolchain) {
  // The C runtime is linked statically: not every Windows has Microsoft's. This replaces the flags of
  // .cargo/config.toml.
  const flags = platform.os === 'win32' ? ['-Ctarget-feature=+crt-static'] : []
  const env = environment(toolchain, '', flags)
  if (platform.oldestMacos) env.MACOSX_DEPLOYMENT_TARGET = platform.oldestMacos
  await cargo('cargo', ['build', ...asPublished, '--target', platform.target], toolchain, env)
  const file = join(output, platform.target, 'release', library(platform))
  // Apple's linker signs for Apple's processors only, and stripping afterwards invalidates the signature.
  if (platform.os === 'darwin') {
    const { ok, why } = await run('codesign', ['--force', '--sign', '-', file])
    if (!ok) throw new PlainError(`codesign failed: ${why}`)
  }
  return file
}

/**
 * Links an addon for Windows with GNU's ABI. It proves that the code links and, under wine, that it runs; the
 * published addon is built with Microsoft's compiler.
 *
 * @param {Toolchain} toolchain
 * @returns {Promise<string>} the file
 */
export async function buildWindowsGnu(toolchain) {
  const { zigbuild, zig } = await compilers()
  const libnode = join(root, 'target/cross/libnode')
  mkdirSync(libnode, { recursive: true })
  // The build script requires these files; the addon finds Node's functions when it is loaded.
  writeFileSync(join(libnode, 'libnode.dll'), '')
  for (const name of ['libnode.a', 'node.lib']) {
    const archive = join(libnode, name)
    if (!existsSync(archive) && (await capture(join(zig, 'zig'), ['ar', 'rcs', archive])) === null) {
      throw new PlainError('zig ar does not run')
    }
  }
  const env = { ...environment(toolchain, zig, []), LIBNODE_PATH: libnode }
  await cargo(zigbuild, ['build', ...asPublished, '--target', windowsGnu], toolchain, env)
  return join(output, windowsGnu, 'release/fencelock.dll')
}

/** Rust's name for Windows with GNU's ABI. */
export const windowsGnu = 'x86_64-pc-windows-gnu'

/**
 * Runs clippy on the code of a platform, including tests. That needs no linker and no C compiler: build
 * scripts that compile C get a stub that creates empty files.
 *
 * @param {Platform} platform
 * @param {Toolchain} toolchain
 */
export async function lint(platform, toolchain) {
  const { zig } = await compilers()
  const stub = join(import.meta.dirname, 'no-compiler.py')
  const suffix = platform.target.replaceAll('-', '_')
  const env = {
    ...environment(toolchain, zig, []),
    [`CC_${suffix}`]: stub,
    [`AR_${suffix}`]: stub,
    // A folder of its own, because the results of the stub must not be linked.
    CARGO_TARGET_DIR: join(root, 'target/cross/lint'),
  }
  const args = ['clippy', '--workspace', '--all-targets', '--target', platform.target]
  await cargo('cargo', args, toolchain, env, ['--', '-D', 'warnings'])
}

/**
 * @param {string} program
 * @param {string[]} args
 * @param {Toolchain} toolchain
 * @param {NodeJS.ProcessEnv} env
 * @param {string[]} [rest]
 */
async function cargo(program, args, toolchain, env, rest = []) {
  const { ok, why } = await run(program, [...args, '--locked', ...toolchain.args, ...rest], {
    env,
    limitMs: 60 * 60_000,
  })
  if (!ok) throw new PlainError(`cargo ${args.join(' ')} failed: ${why}`)
}
