/**
 * The Node and the Bun on which the benchmark runs: the newest that the tests run on, so that every peer
 * finds the version it needs, and every run of the benchmark uses the same.
 */
import { installPackages } from '../../scripts/dev/setup.mjs'
import { capture } from '../../scripts/lib/shell.mjs'
import { runtimesOfThisPlatform } from '../../scripts/runtimes/index.mjs'

/**
 * @typedef {object} Runtime
 * @property {'node' | 'bun'} kind
 * @property {string} label for example `Node 26.10.0`
 * @property {string} version
 * @property {string} path the program
 * @property {NodeJS.ProcessEnv} env for all its processes
 */

/** @typedef {{ kind: 'node' | 'bun', why: string }} Missing */

/**
 * @param {('node' | 'bun')[]} kinds
 * @param {NodeJS.ProcessEnv} env
 * @param {string | undefined} node another Node to run on
 * @returns {Promise<{ runtimes: Runtime[], missing: Missing[] }>}
 */
export async function findRuntimes(kinds, env, node) {
  if (kinds.includes('bun') || !node) await installPackages('scripts/runtimes')
  const installed = runtimesOfThisPlatform()
  /** @type {Runtime[]} */
  const runtimes = []
  /** @type {Missing[]} */
  const missing = []
  for (const kind of kinds) {
    const newest = installed.find(({ name }) => name === `${kind}-newest`)?.path
    // On a platform without a package of Node, the one that runs this does.
    const path = kind === 'node' ? (node ?? newest ?? process.execPath) : newest
    const version = path && (await capture(path, ['--version']))?.replace('v', '')
    if (path && version) {
      runtimes.push({ kind, label: `${kind === 'bun' ? 'Bun' : 'Node'} ${version}`, version, path, env })
    } else {
      missing.push({ kind, why: path ? `${path} does not start` : 'there is no package for this platform' })
    }
  }
  return { runtimes, missing }
}
