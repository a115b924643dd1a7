/**
 * The JavaScript runtimes to test on. `npm test` installs them; the list is this folder's package.json.
 *
 * Plain JavaScript, because scripts use it before any dependency is installed.
 */
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'

/**
 * @typedef {object} Runtime
 * @property {string} name  `node-oldest`, `node-22`, `node-24`, `node-newest`, `bun-oldest` or `bun-newest`
 * @property {'node' | 'bun'} kind
 * @property {string} version  for example `20.19.0`
 * @property {string} path  the program, absolute
 */

const folder = import.meta.dirname

/** Whether the packages can start here: they are all for glibc, and none starts on musl. */
function hasLibc() {
  if (process.platform !== 'linux') return true
  // It is an object, contrary to its type.
  const report = /** @type {{ header: { glibcVersionRuntime?: string } }} */ (process.report.getReport())
  return report.header.glibcVersionRuntime !== undefined
}

/**
 * The runtimes that exist for this platform, installed or not.
 *
 * @returns {Runtime[]}
 */
export function runtimesOfThisPlatform() {
  if (!hasLibc()) return []
  const { optionalDependencies } = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'))
  const ending = `-${process.platform}-${process.arch}`
  return Object.entries(optionalDependencies)
    .filter(([alias]) => alias.endsWith(ending))
    .map(([alias, target]) => {
      const kind = alias.startsWith('bun') ? 'bun' : 'node'
      const program = process.platform === 'win32' ? `${kind}.exe` : kind
      return {
        name: alias.slice(0, -ending.length),
        kind,
        version: target.slice(target.lastIndexOf('@') + 1),
        path: join(folder, 'node_modules', alias, 'bin', program),
      }
    })
}

/**
 * The runtimes that are installed.
 *
 * @returns {Runtime[]}
 */
export function installedRuntimes() {
  return runtimesOfThisPlatform().filter(({ path }) => existsSync(path))
}
