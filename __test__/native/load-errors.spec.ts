/** The errors if the addon is not found, or is not the right one. Each case is a project of its own. */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { build } from 'vite'
import { describe, expect, it } from 'vitest'

import { startScript } from '../fixtures/processes/processes'
import {
  built,
  host,
  version,
  addon,
  foreign,
  project,
  install,
  outdated,
  program,
  type Failure,
  load,
} from './support'

describe('an error reports that', () => {
  it('optional dependencies were left out', async () => {
    const folder = project()
    const error = await load(folder)
    expect(error).toEqual({
      code: 'ADDON_NOT_FOUND',
      message: expect.stringContaining(
        `the package @fencelock/binding-${host} was looked for from ${join(folder, 'node_modules', 'fencelock')}`,
      ),
      cause: expect.stringContaining(`@fencelock/binding-${host}`),
    })
    expect((error as Failure).message).toContain('--omit=optional')
  })

  it('a bundler has taken the package in', async () => {
    const folder = project()
    const entry = join(folder, 'entry.cjs')
    writeFileSync(entry, "require('fencelock')")
    await build({
      configFile: false,
      logLevel: 'error',
      root: folder,
      ssr: { noExternal: true },
      build: { ssr: entry, outDir: 'dist', rolldownOptions: { output: { format: 'cjs' } } },
    })
    const { code, stderr } = await startScript(join(folder, 'dist/entry.js'), { cwd: folder }).ended
    expect(code).toBe(1)
    expect(stderr).toContain("serverExternalPackages: ['fencelock']")
  })

  it('the package is installed without its addon', async () => {
    const folder = project()
    install(folder, host)
    expect(await load(folder)).toEqual({
      code: 'ADDON_NOT_FOUND',
      message: expect.stringContaining(
        `package @fencelock/binding-${host} is installed in ${join(folder, 'node_modules', '@fencelock', `binding-${host}`)} but its native binary is missing`,
      ),
      cause: expect.any(String),
    })
  })

  it('packages were installed on another system', async () => {
    const folder = project()
    for (const target of foreign) install(folder, target, program(target))
    expect(await load(folder)).toEqual({
      code: 'ADDON_WRONG_PLATFORM',
      message: expect.stringMatching(
        new RegExp(
          `needs the addon for ${host}, but only that for ${foreign.join(', ')} is installed: .*image`,
        ),
      ),
      cause: expect.any(String),
    })
  })

  it.each(foreign)('the file of the addon is for %s', async (target) => {
    const folder = project()
    const file = install(folder, host, program(target))
    const expected = {
      code: 'ADDON_WRONG_PLATFORM',
      message: expect.stringContaining(`${file} is for ${target}, but this process needs one for ${host}`),
      cause: expect.any(String),
    }
    expect(await load(folder)).toEqual(expected)
    expect(await load(folder, { path: file })).toEqual({
      ...expected,
      message: expect.stringContaining(`FENCELOCK_NATIVE_PATH names, ${file}, is for ${target}`),
    })
  })

  it.runIf(host.startsWith('linux'))(
    'the addon does not fit in its processor, its libc or its age',
    async () => {
      const folder = project()
      const otherCpu = addon()
      otherCpu.writeUInt16LE(process.arch === 'x64' ? 0xb7 : 0x3e, 18)
      install(folder, host, otherCpu)
      expect(await load(folder)).toMatchObject({ code: 'ADDON_WRONG_PLATFORM' })
      if (!host.endsWith('gnu')) return

      const patched = (from: string, to: string): Buffer =>
        Buffer.from(addon().toString('latin1').replaceAll(from, to), 'latin1')
      install(folder, host, patched('libc.so.6', 'libc.so.9'))
      expect(await load(folder)).toMatchObject({
        code: 'ADDON_WRONG_PLATFORM',
        message: expect.stringContaining(`is for ${host.replace('gnu', 'musl')}`),
        cause: expect.stringContaining('libc.so.9'),
      })
      install(folder, host, patched('GLIBC_2.', 'GLIBC_9.'))
      expect(await load(folder)).toMatchObject({
        code: 'ADDON_NOT_LOADED',
        message: expect.stringMatching(/GLIBC_9.*the C library of this system is too old/),
      })
    },
  )

  it('the file of the addon is not an addon', async () => {
    const folder = project()
    const file = install(folder, host, Buffer.from('<html>404</html>'))
    expect(await load(folder)).toEqual({
      code: 'ADDON_NOT_LOADED',
      message: expect.stringMatching(
        new RegExp(`${built.replaceAll('.', '\\.')} does not load: .*it is damaged, or not an addon`),
      ),
      cause: expect.any(String),
    })
    expect(existsSync(file)).toBe(true)
  })

  it('addons are not allowed', async () => {
    const folder = project()
    install(folder, host, addon())
    expect(await load(folder, { args: ['--no-addons'] })).toMatchObject({
      code: 'ADDON_NOT_LOADED',
      message: expect.stringContaining('allow it (--allow-addons'),
    })
  })

  it('package and addon have different versions', async () => {
    const folder = project()
    const file = install(folder, host, outdated)
    const expected = (where: string): object => ({
      code: 'ADDON_WRONG_VERSION',
      message: expect.stringContaining(
        `${where} is of version 0.0.1, but only this package's own version fits`,
      ),
    })
    const error = await load(folder)
    expect(error).toEqual(expected(`fencelock ${version}: the addon ${file}`))
    expect((error as Failure).message).toContain(`remove fencelock and @fencelock/binding-${host}`)
    writeFileSync(join(folder, 'own.cjs'), 'module.exports = {}')
    const unknown = await load(folder, { path: 'own.cjs' })
    expect(unknown).toMatchObject({
      code: 'ADDON_WRONG_VERSION',
      message: expect.stringContaining(`${join(folder, 'own.cjs')}, is of version (unknown)`),
    })
  })

  it('FENCELOCK_NATIVE_PATH names a missing file', async () => {
    const folder = project()
    install(folder, host, addon())
    expect(await load(folder, { path: 'missing.node' })).toEqual({
      code: 'ADDON_NOT_FOUND',
      message: expect.stringContaining(
        `FENCELOCK_NATIVE_PATH names, ${join(folder, 'missing.node')}, does not exist`,
      ),
      cause: expect.any(String),
    })
  })

  it('FENCELOCK_NATIVE_PATH names a folder', async () => {
    const folder = project()
    mkdirSync(join(folder, 'mine'))
    expect(await load(folder, { path: 'mine' })).toEqual({
      code: 'ADDON_NOT_LOADED',
      message: expect.stringContaining(
        `names, ${join(folder, 'mine')}, is not a file; give the path of the .node file`,
      ),
      cause: expect.any(String),
    })
  })

  it('FENCELOCK_NATIVE_PATH names a file that this user may not read', async () => {
    const folder = project()
    const path = join(folder, 'own.node')
    writeFileSync(path, 'no addon')
    // Tests may run as root, who may read everything.
    const before = `const fs = require('node:fs')
      const read = fs.readFileSync
      fs.readFileSync = (file, ...rest) => {
        if (file === ${JSON.stringify(path)}) throw new Error('EACCES: permission denied')
        return read(file, ...rest)
      }`
    expect(await load(folder, { path, before })).toEqual({
      code: 'ADDON_NOT_LOADED',
      message: expect.stringMatching(/own\.node, cannot be read: EACCES: permission denied; allow/),
      cause: expect.any(String),
    })
  })

  it('FENCELOCK_NATIVE_PATH names an addon whose name does not end in .node', async () => {
    const folder = project()
    writeFileSync(join(folder, 'own.so'), addon())
    const error = (await load(folder, { path: 'own.so' })) as Failure
    expect(error.code).toMatch(/^ADDON_(NOT_LOADED|WRONG_VERSION)$/)
    expect(error.message).toMatch(/; its name must end in \.node$/)
  })

  it('FENCELOCK_NATIVE_PATH names a damaged file, which reinstalling does not repair', async () => {
    const folder = project()
    writeFileSync(join(folder, 'own.node'), 'no addon')
    const error = (await load(folder, { path: 'own.node' })) as Failure
    expect(error.code).toBe('ADDON_NOT_LOADED')
    expect(error.message).toMatch(/it is damaged, or not an addon: build it .*, or unset the variable$/)
  })

  it('the build in a clone is damaged, or has another version', async () => {
    const folder = project()
    const home = join(folder, 'node_modules', 'fencelock')
    writeFileSync(join(home, built), 'no addon')
    expect(await load(folder)).toMatchObject({
      code: 'ADDON_NOT_LOADED',
      message: expect.stringMatching(/not an addon: build it again \(npm run build:fast\)$/),
    })
    writeFileSync(join(home, built), addon())
    const manifest = JSON.parse(readFileSync(join(home, 'package.json'), 'utf8')) as object
    writeFileSync(join(home, 'package.json'), JSON.stringify({ ...manifest, version: '9.9.9' }))
    expect(await load(folder)).toMatchObject({
      code: 'ADDON_WRONG_VERSION',
      message: expect.stringMatching(
        /only this package's own version fits; build it again \(npm run build:fast\)$/,
      ),
    })
  })

  it('there is no addon for this processor', async () => {
    const folder = project()
    const before = "Object.defineProperty(process, 'arch', { value: 'riscv64' })"
    expect(await load(folder, { before })).toMatchObject({
      code: 'ADDON_UNSUPPORTED_PLATFORM',
      message: expect.stringMatching(
        /no addon for \w+-riscv64.*only for darwin-arm64, .*FENCELOCK_NATIVE_PATH/,
      ),
    })
  })
})
