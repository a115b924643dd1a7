/**
 * Prepares a run: packages, a Redis server, and the addon as it is published.
 */
import { existsSync, readdirSync } from 'node:fs'
import { join } from 'node:path'

import { installPackages, setUp } from '../../scripts/dev/setup.mjs'
import { npm, PlainError, root, say, which } from '../../scripts/lib/shell.mjs'
import { need } from '../../scripts/lib/tools.mjs'
import { PROJECT } from '../subjects/telemetry.mjs'

/** A folder of its own: the addon that the tests use is built without link-time optimisation. */
const folder = 'target/bench'

/**
 * @param {object} options
 * @param {boolean} options.fast the addon of the tests, which is built sooner and runs a little slower
 * @param {boolean} options.databases whether the guards are measured
 * @returns {Promise<{ env: NodeJS.ProcessEnv, redisServer: string, profile: 'release' | 'fast' }>} `env` for
 *   the processes that load the addon
 */
export async function prepare({ fast, databases }) {
  /** @type {NodeJS.ProcessEnv} */
  let env = {}
  if (fast) {
    await setUp()
  } else {
    await installPackages('.')
    env = { FENCELOCK_NATIVE_PATH: await buildRelease() }
  }
  await installPackages('bench')
  await installPackages(PROJECT)
  if (databases) {
    await installPackages('scripts/sql-clients')
    for (const name of /** @type {const} */ (['postgres', 'mariadbd'])) {
      try {
        await need(name)
      } catch (error) {
        if (!(error instanceof PlainError)) throw error
        say(`guards that are not measured: ${error.message}`)
      }
    }
  }
  const redisServer = await need('redis-server', 'FENCELOCK_REDIS_SERVER')
  return { env, redisServer, profile: fast ? 'fast' : 'release' }
}

/** @returns {Promise<string>} the addon */
async function buildRelease() {
  if (!which('cargo')) {
    throw new PlainError('cargo is missing: install Rust from https://rustup.rs, then run this again')
  }
  if (process.platform !== 'win32') await need('cc')
  // Cargo knows best what is out of date, and takes a second if nothing is.
  say('building the addon as it is published (some minutes the first time)')
  await npm(['run', '--silent', 'build', '--', '--output-dir', folder])
  const built = join(root, folder)
  const name = existsSync(built) && readdirSync(built).find((file) => file.endsWith('.node'))
  if (!name) throw new PlainError('the build left no addon for this platform')
  return join(built, name)
}
