/**
 * What it costs as the work grows: held locks, calls in flight, resources in the table.
 */
import { join } from 'node:path'

import { capture, which } from '../../scripts/lib/shell.mjs'
import { startRemote } from '../lib/remote.mjs'
import { median } from '../lib/stats.mjs'
import { apart } from './index.mjs'

/** @typedef {import('./index.mjs').Context} Context */
/** @typedef {import('../inside/load.mjs').Sample} Sample */
/** @typedef {'strong' | 'local'} Strategy */

/**
 * @typedef {object} Memory
 * @property {Strategy} strategy
 * @property {import('../inside/memory.mjs').MemoryPoint[]} points
 */

/**
 * @typedef {object} InFlight
 * @property {Strategy} strategy
 * @property {{ atOnce: number, perSecond: number, p50: number, p99: number, acquiresPerWait: number | null }[]} points
 *   medians of the rounds; `acquiresPerWait` is how many grants share one WAIT, as the server counted them
 */

/** @typedef {import('../inside/table.mjs').TablePoint[]} Table */

/** @type {Strategy[]} */
const strategies = ['strong', 'local']
const HELD = [1, 10, 100, 1_000, 10_000, 100_000]
const IN_FLIGHT = [1, 10, 100, 1_000, 10_000]
const RESOURCES = [10, 10_000, 1_000_000]

/** @param {Context} context @returns {Promise<Memory[]>} */
export async function measureMemory(context) {
  const results = []
  const malloc = await compileMalloc(context.folder)
  for (const strategy of strategies) {
    const remote = startRemote(context.runtime, 'memory.mjs')
    try {
      const place = { url: context.servers.url, folder: apart(context, strategy).folder, malloc }
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
  const args = [
    '-O2',
    '-shared',
    '-fPIC',
    ...late,
    '-o',
    output,
    join(import.meta.dirname, '../inside/malloc.c'),
  ]
  return (await capture(compiler, args)) === null ? null : output
}

/** @param {Context} context @returns {Promise<InFlight[]>} */
export async function measureInFlight(context) {
  const results = []
  for (const strategy of strategies) {
    const remote = startRemote(context.runtime, 'load.mjs')
    const { folder } = apart(context, strategy)
    try {
      await remote.call('open', `fencelock-${strategy}`, {
        url: context.servers.url,
        folder,
        atOnce: Math.max(...IN_FLIGHT),
      })
      const points = []
      for (const atOnce of IN_FLIGHT) points.push(await measurePoint(context, remote, strategy, atOnce))
      results.push({ strategy, points })
      await remote.call('close')
    } finally {
      await remote.end()
    }
  }
  return results
}

/**
 * @param {Context} context
 * @param {import('../lib/remote.mjs').Remote} remote
 * @param {Strategy} strategy
 * @param {number} atOnce
 */
async function measurePoint({ servers, rounds, seconds }, remote, strategy, atOnce) {
  await remote.call('load', { atOnce, seconds: seconds / 2 })
  const waits = await servers.waits()
  /** @type {Sample[]} */
  const samples = []
  for (let round = 0; round < Math.min(rounds, 3); round++) {
    samples.push(await remote.call('load', { atOnce, seconds }))
  }
  const pairs = samples.reduce((sum, sample) => sum + sample.pairs, 0)
  return {
    atOnce,
    perSecond: median(samples.map(({ perSecond }) => perSecond)),
    p50: median(samples.map(({ p50 }) => p50)),
    p99: median(samples.map(({ p99 }) => p99)),
    acquiresPerWait: strategy === 'strong' ? pairs / ((await servers.waits()) - waits) : null,
  }
}

/** @param {Context} context @returns {Promise<Table>} */
export async function measureTable({ runtime, folder, rounds, seconds }) {
  const remote = startRemote(runtime, 'table.mjs')
  try {
    return await remote.call('measure', folder, RESOURCES, { rounds: Math.min(rounds, 3), seconds })
  } finally {
    await remote.end()
  }
}
