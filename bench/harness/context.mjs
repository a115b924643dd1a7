/**
 * What a scenario gets to measure with.
 */
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'

/**
 * @typedef {object} Context
 * @property {import('./runtimes.mjs').Runtime} runtime
 * @property {import('./servers.mjs').Servers} servers
 * @property {string} folder of one scenario
 * @property {number} rounds
 * @property {number} seconds how long a subject works in each round
 */

/**
 * The context with a subfolder of its folder.
 *
 * @param {Context} context
 * @param {string} name
 * @returns {Context}
 */
export function inFolder(context, name) {
  const folder = join(context.folder, name)
  mkdirSync(folder, { recursive: true })
  return { ...context, folder }
}
