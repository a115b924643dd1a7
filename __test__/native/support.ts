/** Projects that installed fencelock, and how the addon is found in them. */
import { copyFileSync, cpSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect } from 'vitest'

import { runCode } from '../fixtures/processes/processes'
import { root, tempDir } from '../fixtures/temp'

/** The addon that `npm run setup` built, and its platform, for example `linux-x64-gnu`. */
export const built = readdirSync(root).find((name) => name.endsWith('.node')) ?? 'none'
export const host = built.split('.')[1] ?? 'none'
export const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { version: string }
export const addon = (): Buffer => readFileSync(join(root, built))

/** Other systems. */
export const foreign = [
  'darwin-arm64',
  'linux-arm64-musl',
  'linux-x64-gnu',
  'linux-x64-musl',
  'win32-x64-msvc',
]
  .filter((target) => target !== host)
  .slice(0, 3)

/** A project that installed fencelock, without any addon. */
export function project(): string {
  const folder = tempDir()
  const home = join(folder, 'node_modules', 'fencelock')
  mkdirSync(home, { recursive: true })
  for (const name of ['index.js', 'package.json']) copyFileSync(join(root, name), join(home, name))
  cpSync(join(root, 'lib'), join(home, 'lib'), { recursive: true })
  return folder
}

/** Installs a platform package; `content` is its addon, or the code of a stand-in. Returns the file. */
export function install(folder: string, target: string, content?: Buffer | string): string {
  const home = join(folder, 'node_modules', '@fencelock', `binding-${target}`)
  mkdirSync(home, { recursive: true })
  const main = typeof content === 'string' ? 'index.js' : `fencelock.${target}.node`
  writeFileSync(join(home, 'package.json'), JSON.stringify({ name: `@fencelock/binding-${target}`, main }))
  if (content !== undefined) writeFileSync(join(home, main), content)
  return join(home, main)
}

/** A stand-in for an addon of another version. */
export const outdated = "module.exports = { version: () => '0.0.1' }"

/** The header of a binary for another system. */
export function program(target: string): Buffer {
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

export interface Failure {
  code: string
  message: string
  cause?: string
}

/** What `require('fencelock')` throws in that folder, or the version that it loaded. */
export async function load(
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
