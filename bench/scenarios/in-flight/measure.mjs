/**
 * How throughput and latency change with the number of calls in flight.
 */
import { inFolder } from '../../harness/context.mjs'
import { startRemote } from '../../harness/remote.mjs'
import { loadWorker } from '../../harness/rounds.mjs'
import { median } from '../../harness/stats.mjs'
import { strategies } from '../../subjects/conditions.mjs'

/** @typedef {import('../../harness/context.mjs').Context} Context */
/** @typedef {import('../../harness/load-worker.mjs').Sample} Sample */
/** @typedef {import('../../subjects/conditions.mjs').Strategy} Strategy */

/**
 * @typedef {object} InFlight
 * @property {Strategy} strategy
 * @property {{ atOnce: number, perSecond: number, p50: number, p99: number, acquiresPerWait: number | null
 *   }[]} points medians of the rounds; `acquiresPerWait` is how many grants share one WAIT, as the server
 *   counted them
 */

const IN_FLIGHT = [1, 10, 100, 1_000, 10_000]

/** @param {Context} context @returns {Promise<InFlight[]>} */
export async function measureInFlight(context) {
  const results = []
  for (const strategy of strategies) {
    const remote = startRemote(context.runtime, loadWorker)
    const { folder } = inFolder(context, strategy)
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
 * @param {import('../../harness/remote.mjs').Remote} remote
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
