/**
 * Links for macOS without Apple's SDK: with Rust's own lld and the list of the system library's symbols that
 * zig includes. zig's own linker ignores the list of symbols to export and exports all eight thousand.
 */
import { chmodSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

import { root } from '../../lib/shell.mjs'

/**
 * Writes the linker script and the symbol lists that it links with.
 *
 * @param {string} sysroot  of the toolchain
 * @param {string} zig  its folder
 * @returns {{ linker: string, flags: string[] }} for rustc
 */
export function darwinLinker(sysroot, zig) {
  const folder = join(root, 'target/cross/darwin')
  mkdirSync(folder, { recursive: true })
  // zig knows kinds of processors that lld does not know.
  const system = readFileSync(join(zig, 'lib/libc/darwin/libSystem.tbd'), 'utf8')
    .replaceAll(/,\s*arm64e\.[\w-]+/g, '')
    .replaceAll(/arm64e\.[\w-]+,\s*/g, '')
  // libc and libm are other names of the same library.
  for (const name of ['libSystem', 'libc', 'libm']) writeFileSync(join(folder, `${name}.tbd`), system)
  // Rust's libc crate links it but uses nothing of it.
  writeFileSync(
    join(folder, 'libiconv.tbd'),
    `--- !tapi-tbd
tbd-version: 4
targets: [ x86_64-macos, arm64-macos ]
install-name: '/usr/lib/libiconv.2.dylib'
...
`,
  )
  const linker = join(folder, 'ld')
  // napi-build passes "-Wl", which only a compiler understands. Without the option lld signs for Apple's
  // processors only.
  writeFileSync(
    linker,
    `#!/bin/sh
for word; do
  shift
  [ "$word" = -Wl ] || set -- "$@" "$word"
done
LD_LIBRARY_PATH='${sysroot}/lib' exec '${sysroot}/lib/rustlib/x86_64-unknown-linux-gnu/bin/rust-lld' "$@" -adhoc_codesign
`,
  )
  chmodSync(linker, 0o755)
  const link = ['-L', folder, '-dead_strip', '-dead_strip_dylibs', '-install_name', '@rpath/fencelock.node']
  return { linker, flags: ['-Clinker-flavor=ld64.lld', ...link.map((word) => `-Clink-arg=${word}`)] }
}
