/**
 * What all install tests share.
 */
import { PlainError } from '../lib/shell.mjs'
import { LeftOut } from './project.mjs'

/**
 * @typedef {object} Context what a case gets
 * @property {string} tools the `node_modules` with the tools of the long cases
 * @property {Map<string, string>} runtimes programs by name: `node` (the current one), `node-oldest`,
 *   `bun-newest`, …
 * @property {string} tarballs the folder of the packed tarballs
 * @property {string} registry its address
 * @property {string} host the platform of this machine, as our packages call it
 * @property {string} version
 * @property {boolean} released whether the addons are as they are published
 * @property {(name: string) => import('./project.mjs').Project} fresh makes a new project
 * @property {(name: string) => string} versionOf the version of a development dependency
 */

/**
 * @typedef {object} Case
 * @property {string} name
 * @property {boolean} [long] runs only with `--long`
 * @property {(context: Context) => Promise<void>} test
 */

/** @param {boolean} holds @param {string} message */
export function check(holds, message) {
  if (!holds) throw new PlainError(message)
}

/** @param {Context} context @param {string} name */
export function runtime({ runtimes }, name) {
  const path = runtimes.get(name)
  if (!path) throw new LeftOut(`there is no ${name} for this platform`)
  return path
}

/** A project in which npm has installed fencelock. @param {Context} context */
export async function npmProject(context, name = 'npm') {
  const project = context.fresh(name)
  await project.exec('npm', ['install', 'fencelock'])
  return project
}

/** @param {Context} context @param {string} name @param {...string} packages */
export async function withPackages(context, name, ...packages) {
  const project = context.fresh(name)
  await project.exec('npm', ['install', '--ignore-scripts', 'fencelock', ...packages], { limitMs: 300_000 })
  return project
}
