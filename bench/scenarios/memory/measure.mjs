/**
 * What held locks cost in memory.
 */
import { join } from 'node:path'

import { capture, which } from '../../../scripts/lib/shell.mjs'
import { inFolder } from '../../harness/context.mjs'
import { startRemote } from '../../harness/remote.mjs'
import { strategies } from '../../subjects/conditions.mjs'

/** @typedef {import('../../harness/context.mjs').Context} Context */

/**
 * @typedef {object} Memory
 * @property {import('../../subjects/conditions.mjs').Strategy} strategy
 * @property {import('./worker.mjs').MemoryPoint[]} points
 */

const worker = import.meta.resolve('./worker.mjs')
const HELD = [1, 10, 100, 1_000, 10_000, 100_000]

/** @param {Context} context @returns {Promise<Memory[]>} */
export async function measureMemory(context) {
  const results = []
  const malloc = await compileMalloc(context.folder)
  for (const strategy of strategies) {
    const remote = startRemote(context.runtime, worker)
    try {
      const place = { url: context.servers.url, folder: inFolder(context, strategy).folder, malloc }
      results.push({ strategy, points: await remote.call('hold', strategy, place, HELD) })
    } finally {
      await remote.end()
    }
  }
  return results
}

/**
 * With the compiler that Rust needs anyway; null where there is none, or another C library.
 *
 * @param {string} folder
 */
async function compileMalloc(folder) {
  const compiler = which('cc')
  if (!compiler) return null
  const output = join(folder, 'malloc.node')
  const late = process.platform === 'darwin' ? ['-undefined', 'dynamic_lookup'] : []
  const args = ['-O2', '-shared', '-fPIC', ...late, '-o', output, join(import.meta.dirname, 'malloc.c')]
  return (await capture(compiler, args)) === null ? null : output
}
