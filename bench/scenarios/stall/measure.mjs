/**
 * Whether acquires that the healthy replica alone can acknowledge stay fast while others wait in vain for a
 * stopped one.
 */
import { startRemote } from '../../harness/remote.mjs'
import { median } from '../../harness/stats.mjs'

/** @typedef {import('../../harness/context.mjs').Context} Context */
/** @typedef {import('./worker.mjs').StallSample} StallSample */

/**
 * @typedef {object} Stall medians of the rounds, in milliseconds
 * @property {{ p50: number, p99: number }} calm with all replicas and nothing else to do
 * @property {{ p50: number, p99: number, max: number }} stalled while batches with `acks: 2` stall on a
 *   stopped replica; `max` is of all rounds
 * @property {number} batches that stalled, of all rounds
 * @property {number} batchMs how long such a batch took
 * @property {StallSample[]} rounds those with the stopped replica
 */

const worker = import.meta.resolve('./worker.mjs')

/** @param {Context} context @returns {Promise<Stall>} */
export async function measureStall({ runtime, servers, rounds, seconds }) {
  const remote = startRemote(runtime, worker)
  /** @type {StallSample[]} */
  const calm = []
  /** @type {StallSample[]} */
  const stalled = []
  try {
    await remote.call('open', servers.url)
    await remote.call('run', { seconds, stalls: false })
    for (let round = 0; round < rounds; round++) {
      calm.push(await remote.call('run', { seconds, stalls: false }))
      servers.pauseReplica()
      try {
        stalled.push(await remote.call('run', { seconds: 2 * seconds, stalls: true }))
      } finally {
        await servers.resumeReplica()
      }
    }
    await remote.call('close')
  } finally {
    await remote.end()
  }
  return {
    calm: { p50: medianOf(calm, 'p50'), p99: medianOf(calm, 'p99') },
    stalled: {
      p50: medianOf(stalled, 'p50'),
      p99: medianOf(stalled, 'p99'),
      max: Math.max(...stalled.map(({ max }) => max)),
    },
    batches: stalled.reduce((sum, { batches }) => sum + batches, 0),
    batchMs: medianOf(stalled, 'batchMs'),
    rounds: stalled,
  }
}

/**
 * @param {StallSample[]} samples
 * @param {'p50' | 'p99' | 'batchMs'} key
 */
function medianOf(samples, key) {
  return median(samples.map((sample) => sample[key]))
}
