/**
 * Server programs that wheels of the Python package index contain.
 */
import { chmodSync, readdirSync } from 'node:fs'
import { join } from 'node:path'

import { wheels } from '../lib/python.mjs'
import { capture, PlainError, say } from '../lib/shell.mjs'

/**
 * The path of a program in a wheel, or null if there is none for this system.
 *
 * @param {string} name of the program
 * @param {string} requirements the file that pins the wheel, from the project's root
 * @param {string[]} [options] for pip
 */
export async function serverFromWheel(name, requirements, options) {
  if (process.platform !== 'linux' || process.arch !== 'x64') return null
  try {
    const folder = await wheels(requirements, options)
    const entries = readdirSync(folder, { recursive: true }).map(String)
    const found = entries.find((entry) => entry.endsWith(`/${name}`))
    if (!found) return null
    const file = join(folder, found)
    chmodSync(file, 0o755)
    return (await capture(file, ['--version'])) ? file : null
  } catch (error) {
    if (!(error instanceof PlainError)) throw error
    say(`no ${name} from ${requirements}: ${error.message}`)
    return null
  }
}
