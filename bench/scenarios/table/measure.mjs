/**
 * How the throughput of local locks changes with the number of resources in the table.
 */
import { startRemote } from '../../harness/remote.mjs'

/** @typedef {import('../../harness/context.mjs').Context} Context */
/** @typedef {import('./worker.mjs').TablePoint[]} Table */

const worker = import.meta.resolve('./worker.mjs')
const RESOURCES = [10, 10_000, 1_000_000]

/** @param {Context} context @returns {Promise<Table>} */
export async function measureTable({ runtime, folder, rounds, seconds }) {
  const remote = startRemote(runtime, worker)
  try {
    return await remote.call('measure', folder, RESOURCES, { rounds: Math.min(rounds, 3), seconds })
  } finally {
    await remote.end()
  }
}
