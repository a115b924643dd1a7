/** How the addon is found, and the errors if it is not. Each case is a project with its own packages. */
import {
  copyFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'

import { hostName, platforms } from '../../scripts/build/platforms.mjs'
import { runCode } from '../fixtures/processes/processes'
import { onBun } from '../fixtures/processes/runtimes'
import { root, tempDir } from '../fixtures/temp'

/** The addon that `npm run setup` built, and its platform, for example `linux-x64-gnu`. */
const built = readdirSync(root).find((name) => name.endsWith('.node')) ?? 'none'
const host = built.split('.')[1] ?? 'none'
const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { version: string }
const addon = (): Buffer => readFileSync(join(root, built))

/** Other systems. */
const foreign = ['darwin-arm64', 'linux-arm64-musl', 'linux-x64-gnu', 'linux-x64-musl', 'win32-x64-msvc']
  .filter((target) => target !== host)
  .slice(0, 3)

/** A project that installed fencelock, without any addon. */
function project(): string {
  const folder = tempDir()
  const home = join(folder, 'node_modules', 'fencelock')
  mkdirSync(home, { recursive: true })
  for (const name of ['index.js', 'package.json']) copyFileSync(join(root, name), join(home, name))
  cpSync(join(root, 'lib'), join(home, 'lib'), { recursive: true })
  return folder
}

/** Installs a platform package; `content` is its addon, or the code of a stand-in. Returns the file. */
function install(folder: string, target: string, content?: Buffer | string): string {
  const home = join(folder, 'node_modules', '@fencelock', `binding-${target}`)
  mkdirSync(home, { recursive: true })
  const main = typeof content === 'string' ? 'index.js' : `fencelock.${target}.node`
  writeFileSync(join(home, 'package.json'), JSON.stringify({ name: `@fencelock/binding-${target}`, main }))
  if (content !== undefined) writeFileSync(join(home, main), content)
  return join(home, main)
}

/** A stand-in for an addon of another version. */
const outdated = "module.exports = { version: () => '0.0.1' }"

/** The header of a binary for another system. */
function program(target: string): Buffer {
  const bytes = Buffer.alloc(1024)
  const [system, cpu, libc] = target.split('-')
  if (system === 'linux') {
    bytes.writeUInt32BE(0x7f_45_4c_46)
    bytes.writeUInt16LE(cpu === 'x64' ? 0x3e : 0xb7, 18)
    bytes.write(libc === 'gnu' ? 'libc.so.6' : 'libc.musl-x86_64.so.1', 512)
  } else if (system === 'darwin') {
    bytes.writeUInt32LE(0xfe_ed_fa_cf)
    bytes.writeUInt32LE(cpu === 'x64' ? 0x01_00_00_07 : 0x01_00_00_0c, 4)
  } else {
    bytes.write('MZ')
    bytes.writeUInt32LE(128, 0x3c)
    bytes.writeUInt16LE(cpu === 'x64' ? 0x86_64 : 0xaa_64, 132)
  }
  return bytes
}

/** What every list of platforms must contain. */
const all = platforms.map(({ name }) => name).toSorted()

it('the loader knows exactly the platforms that have a package', () => {
  const code = readFileSync(join(root, 'lib/native/load.js'), 'utf8')
  const cases = [...code.matchAll(/case '([\w-]+)':\n +return require\('@fencelock\/binding-([\w-]+)'\)/g)]
  expect(cases.map(([, name]) => name)).toEqual(all)
  expect(cases.map(([, , required]) => required)).toEqual(all)
  const errors = readFileSync(join(root, 'lib/native/load-errors.js'), 'utf8')
  const targets = /const targets = \[([^\]]*)\]/.exec(errors)?.[1] ?? ''
  expect([...targets.matchAll(/'([\w-]+)'/g)].map(([, name]) => name)).toEqual(all)
})

it('a build has the name that the loader looks for', () => {
  expect(hostName()).toBe(host)
})

interface Failure {
  code: string
  message: string
  cause?: string
}

/** What `require('fencelock')` throws in that folder, or the version that it loaded. */
async function load(
  folder: string,
  { path, before = '', args = [] }: { path?: string; before?: string; args?: string[] } = {},
): Promise<string | Failure> {
  const ending = await runCode(
    `const { createRequire } = await import('node:module')
     const require = createRequire(${JSON.stringify(join(folder, 'x.js'))})
     ${before}
     try {
       require('fencelock')
       say(require('./node_modules/fencelock/lib/native/load.js').version())
     } catch (error) {
       say({ code: error.code, message: error.message, cause: error.cause && String(error.cause.message ?? error.cause) })
     }`,
    { cwd: folder, env: { FENCELOCK_NATIVE_PATH: path }, nodeArgs: args, bunArgs: args },
  )
  expect(ending).toMatchObject({ code: 0, signal: null, stderr: '' })
  return JSON.parse(ending.stdout) as string | Failure
}

describe('the loaded addon is', () => {
  it('that of the platform package', async () => {
    const folder = project()
    install(folder, host, addon())
    expect(await load(folder)).toBe(version)
  })

  it('the one next to the package, where it was built', async () => {
    const folder = project()
    writeFileSync(join(folder, 'node_modules', 'fencelock', built), addon())
    install(folder, host, outdated)
    expect(await load(folder)).toBe(version)
  })

  it('the one that FENCELOCK_NATIVE_PATH names, absolute or from the working directory', async () => {
    const folder = project()
    install(folder, host, outdated)
    mkdirSync(join(folder, 'mine'))
    writeFileSync(join(folder, 'mine', 'own.node'), addon())
    expect(await load(folder, { path: join(folder, 'mine', 'own.node') })).toBe(version)
    expect(await load(folder, { path: 'mine/own.node' })).toBe(version)
    // Empty, which is how many configuration files unset a variable.
    expect(await load(folder, { path: '' })).toMatchObject({ code: 'ADDON_WRONG_VERSION' })
  })

  it.runIf(process.platform === 'linux')('that for the libc of this process', async () => {
    const folder = project()
    const pretend = (name: string, text: string): string => {
      writeFileSync(join(folder, name), text)
      return `Object.defineProperty(process, 'execPath', { value: ${JSON.stringify(join(folder, name))} })`
    }
    const arch = `/linux-${process.arch}`
    const musl = await load(folder, { before: pretend('a', '\u007FELF…\0/lib/ld-musl-x86_64.so.1\0') })
    expect(musl).toMatchObject({ message: expect.stringContaining(`${arch.slice(1)}-musl`) })
    const gnu = await load(folder, {
      before: pretend('b', '\u007FELF…\0/nix/store/g/lib/ld-linux-x86-64.so.2\0'),
    })
    expect(gnu).toMatchObject({ message: expect.stringContaining(`${arch.slice(1)}-gnu`) })
    // The program does not state it: the runtime's report does.
    const own = await load(folder, { before: pretend('c', 'nothing') })
    expect(own).toMatchObject({ message: expect.stringContaining(host) })
  })

  it('loaded with less CPU time than the start of the runtime takes', async () => {
    const folder = project()
    install(folder, host, addon())
    const runs: [number, number][] = []
    for (let round = 0; round < 5; round++) {
      const { stdout } = await runCode(
        `const { createRequire } = await import('node:module')
         const require = createRequire(${JSON.stringify(join(folder, 'x.js'))})
         const now = () => { const { user, system } = process.cpuUsage(); return user + system }
         const start = now()
         require('fencelock')
         say([start, now() - start])`,
      )
      runs.push(JSON.parse(stdout) as [number, number])
    }
    const least = (index: 0 | 1): number => Math.min(...runs.map((run) => run[index]))
    // Bun starts several times as fast as Node.
    expect(least(1)).toBeLessThan(least(0) * (onBun ? 3 : 1))
  })
})

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
