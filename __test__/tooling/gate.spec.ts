/** The gate for the platforms' binaries before they are published: what it accepts and what it refuses. */
import { execFileSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { existsSync, mkdirSync, readFileSync, readdirSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { beforeAll, describe, expect, test } from 'vitest'

import { platform, platforms, version, type Platform } from '../../scripts/build/platforms.mjs'
import { wheels } from '../../scripts/lib/python.mjs'
import { root } from '../../scripts/lib/shell.mjs'
import { gate } from '../../scripts/release/binary-rules.mjs'
import { startScript } from '../fixtures/processes/processes'
import { tempDir } from '../fixtures/temp'

const addon = readdirSync(root).find((name) => name.startsWith('fencelock.') && name.endsWith('.node')) ?? ''
const here = platforms.find(({ name }) => addon === `fencelock.${name}.node`)

/** The platform that differs from this one in its processor only. */
function sibling({ os, cpu, libc }: Platform): Platform {
  const found = platforms.find((each) => each.os === os && each.libc === libc && each.cpu !== cpu)
  if (!found) throw new Error('each system must have both processors')
  return found
}

function file(content: string | Buffer) {
  const path = join(tempDir(), 'addon.node')
  writeFileSync(path, content)
  return path
}

// The first time it is downloaded.
beforeAll(() => wheels('scripts/release/binary-formats.txt'), 120_000)

test('each platform has a package that says exactly where it fits', () => {
  const ours = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'))
  expect(readdirSync(join(root, 'npm')).toSorted()).toEqual(platforms.map(({ name }) => name).toSorted())
  for (const { name, os, cpu, libc } of platforms) {
    const binary = `fencelock.${name}.node`
    expect(JSON.parse(readFileSync(join(root, 'npm', name, 'package.json'), 'utf8'))).toMatchObject({
      name: `@fencelock/binding-${name}`,
      version: ours.version,
      license: ours.license,
      engines: ours.engines,
      main: binary,
      files: [binary],
      os: [os],
      cpu: [cpu],
      ...(libc && { libc: [libc] }),
    })
  }
  expect(platforms.map(({ target }) => target).toSorted()).toEqual(ours.napi.targets.toSorted())
})

describe('the gate refuses', () => {
  const wanted = here ?? platform('linux-x64-gnu')

  test('a missing file', async () => {
    expect(await gate(join(tempDir(), 'addon.node'), wanted)).toEqual(['the file is missing'])
  })

  test('a text file, an empty file', async () => {
    const objection = ['it is not a binary: neither ELF nor Mach-O nor PE']
    expect(await gate(file('module.exports = {}\n'), wanted)).toEqual(objection)
    expect(await gate(file(''), wanted)).toEqual(objection)
  })

  test.runIf(here)('a binary for another processor, for another system', async () => {
    const path = join(root, addon)
    const [processor] = await gate(path, sibling(wanted))
    expect(processor).toMatch(/^it is for \w+, not for \w+$/)
    const [system] = await gate(path, platform(wanted.os === 'win32' ? 'linux-x64-gnu' : 'win32-x64-msvc'))
    expect(system).toMatch(/^it is (ELF|Mach-O|PE), not (ELF|Mach-O|PE)$/)
  })

  test.runIf(here)('a binary that was cut off, late or early', async () => {
    const whole = readFileSync(join(root, addon))
    for (const length of [whole.length - 1, whole.length >> 1]) {
      const path = file(whole)
      truncateSync(path, length)
      const [objection] = await gate(path, wanted)
      expect(objection).toMatch(new RegExp(`^it is cut off: ${length} bytes are left of \\d+$`))
    }
  })
})

test('nothing is packed that the gate refuses', async () => {
  const [from, out] = [tempDir(), join(tempDir(), 'out')]
  mkdirSync(join(from, 'linux-x64-gnu'))
  writeFileSync(join(from, 'linux-x64-gnu/fencelock.linux-x64-gnu.node'), 'no addon')
  const script = startScript(join(root, 'scripts/release/pack.mjs'), { args: ['--from', from, '--out', out] })
  expect(await script.ended).toMatchObject({
    code: 1,
    stderr: expect.stringContaining('nothing was packed:\n  linux-x64-gnu: it is not a binary'),
  })
  expect(existsSync(out)).toBe(false)
})

// The rules are tried on libraries that a C compiler builds here.
describe.runIf(here?.libc === 'glibc')('rules for Linux with glibc', () => {
  const gnu = here ?? platform('linux-x64-gnu')
  const entry = 'int napi_register_module_v1(void) { return getpid(); }'
  const stamp = (text = version()) =>
    `__attribute__((used)) static const char stamp[] = "fencelock addon ${text}\\n";`

  /** Compiles a library from these lines of C. */
  function library(lines: string[], options: string[] = [], kind = '-shared') {
    const folder = tempDir()
    const source = join(folder, 'addon.c')
    writeFileSync(source, ['#include <unistd.h>', ...lines, ''].join('\n'))
    execFileSync('cc', [kind, '-fPIC', '-o', join(folder, 'addon.node'), source, ...options])
    return join(folder, 'addon.node')
  }

  test('a library that follows them is accepted', async () => {
    expect(await gate(library([entry, stamp()]), gnu)).toEqual([])
  })

  test('the addon under test has the version of the package, wherever it was built', async () => {
    const objections = await gate(join(root, addon), gnu)
    expect(objections.filter((objection) => objection.includes('version'))).toEqual([])
  })

  test('a program instead of a library', async () => {
    const [objection] = await gate(library(['int main(void) { return 0; }'], [], '-no-pie'), gnu)
    expect(objection).toBe('it is a file of type EXEC, not a library that can be loaded (DYN)')
  })

  test('a symbol of glibc 2.18', async () => {
    const thread = 'extern int __cxa_thread_atexit_impl(void (*)(void *), void *, void *);'
    const use = 'static int at_exit(void) { return __cxa_thread_atexit_impl(0, 0, 0); }'
    const call = 'int napi_register_module_v1(void) { return at_exit(); }'
    expect(await gate(library([thread, use, call, stamp()]), gnu)).toEqual([
      'it needs glibc 2.18, not 2.17 at most',
    ])
  })

  test('packed relocations, which glibc supports since 2.36', async ({ skip }) => {
    const data = 'static int value, *pointer = &value;'
    const call = 'int napi_register_module_v1(void) { int **volatile at = &pointer; return **at = getpid(); }'
    const path = library([data, call, stamp()], ['-Wl,-z,pack-relative-relocs'])
    // Older linkers do not know them.
    if (!readFileSync(path).includes('GLIBC_ABI_DT_RELR')) skip()
    expect(await gate(path, gnu)).toEqual([
      'it needs GLIBC_ABI_DT_RELR, which is not a symbol version of glibc 2.17',
    ])
  })

  test('no entry point, or other exported symbols', async () => {
    expect(await gate(library(['int other(void) { return getpid(); }', stamp()]), gnu)).toEqual([
      'it does not export napi_register_module_v1',
      "it exports 1 symbols besides Node-API's: other",
    ])
    const more = ['a', 'b', 'c', 'd'].map((name) => `int sqlite3_${name}(void) { return 0; }`)
    expect(await gate(library([entry, ...more, stamp()]), gnu)).toEqual([
      "it exports 4 symbols besides Node-API's: sqlite3_a, sqlite3_b, sqlite3_c, …",
    ])
  })

  test('a library that not every system has', async () => {
    const other = library(['int other;'], ['-Wl,-soname,libother.so.1'])
    expect(await gate(library([entry, stamp()], ['-Wl,--no-as-needed', other]), gnu)).toEqual([
      'it is linked to libother.so.1, which not every system of the platform has',
    ])
  })

  test('the other libc', async () => {
    const musl = platforms.find(({ cpu, libc }) => libc === 'musl' && cpu === gnu.cpu)
    const objections = await gate(library([entry, stamp()]), musl ?? gnu)
    expect(objections).toContain('it is not linked to musl')
  })

  test('another version, or no version', async () => {
    expect(await gate(library([entry, stamp('9.9.9')]), gnu)).toEqual([
      `it is of version 9.9.9, and package.json of ${version()}`,
    ])
    expect(await gate(library([entry]), gnu)).toEqual(['it does not say which version of fencelock it is'])
  })

  test('too large, and too large when packed', async () => {
    const zeros = '__attribute__((used)) static char large[5000000] = {1};'
    const [bytes, ...none] = await gate(library([entry, stamp(), zeros]), gnu)
    expect(bytes).toMatch(/^it has 50\d{5} bytes, not under 4000000$/)
    expect(none).toEqual([])

    const noise = file(randomBytes(2_500_000))
    const included = `__asm__(".section .rodata\\n.incbin \\"${noise}\\"");`
    const [packed] = await gate(library([entry, stamp(), included]), gnu)
    expect(packed).toMatch(/^its package has 2[56]\d{5} bytes, not under 2000000$/)
  })
})
