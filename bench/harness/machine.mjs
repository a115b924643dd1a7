/**
 * The machine and the versions that a run measured.
 */
import { readFileSync } from 'node:fs'
import os from 'node:os'
import { join } from 'node:path'

import { capture, root } from '../../scripts/lib/shell.mjs'
import { subjects } from '../subjects/index.mjs'

/**
 * @typedef {object} Machine
 * @property {string} cpu
 * @property {number} cores
 * @property {string} kernel
 * @property {number} memoryGiB
 * @property {number} loadBefore how many processes wanted a core in the minute before: the higher, the less
 *   the absolute numbers mean
 */

/** @returns {Machine} */
export function describeMachine() {
  const cpus = os.cpus()
  return {
    cpu: cpus[0]?.model.trim() ?? 'unknown',
    cores: cpus.length,
    kernel: `${os.type()} ${os.release()} ${os.arch()}`,
    memoryGiB: Math.round(os.totalmem() / 2 ** 30),
    loadBefore: os.loadavg()[0] ?? 0,
  }
}

/**
 * The versions of everything that takes part, by name; those of the runtimes are in their labels.
 *
 * @param {string} redisServer
 * @returns {Promise<Record<string, string>>}
 */
export async function describeVersions(redisServer) {
  const packages = new Set(subjects.flatMap((subject) => subject.package ?? []))
  const redis = /v=(\S+)/.exec((await capture(redisServer, ['--version'])) ?? '')?.[1] ?? 'unknown'
  return {
    fencelock: versionIn('package.json'),
    'redis-server': redis,
    ...Object.fromEntries(
      [...packages].map((name) => [name, versionIn(`bench/node_modules/${name}/package.json`)]),
    ),
  }
}

/** @param {string} file @returns {string} */
function versionIn(file) {
  return JSON.parse(readFileSync(join(root, file), 'utf8')).version.replace(/^v/, '')
}
