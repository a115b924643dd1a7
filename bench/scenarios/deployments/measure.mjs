/**
 * Strong locks on a cluster and on servers with Sentinels, compared with a standalone primary. All have two
 * replicas for each primary, and take turns.
 */
import { startRedisCluster } from '../../../scripts/servers/deployments/cluster.mjs'
import { startSentinel } from '../../../scripts/servers/deployments/sentinel.mjs'
import { inFolder } from '../../harness/context.mjs'
import { inTurns, ratioOf } from '../../harness/rounds.mjs'
import { REPLICAS } from '../../subjects/conditions.mjs'

/** @typedef {import('../../harness/context.mjs').Context} Context */
/** @typedef {import('../../harness/rounds.mjs').Row} Row */

/**
 * @typedef {object} DeploymentLoad
 * @property {'one' | 'many'} id
 * @property {string} title
 * @property {(Row & { throughputRatio: number, p50Ratio: number })[]} rows the ratios are by the standalone
 *   primary: medians of those of each round
 */

const PRIMARIES = 3
/** A round is short, and its p50 varies more than the ratios that are looked for. */
const ROUNDS = 3

const ids = ['fencelock-strong', 'fencelock-cluster', 'fencelock-sentinel']

const loads = /** @type {const} */ ([
  { id: 'one', title: 'one by one, all in one shard', atOnce: 1 },
  { id: 'many', title: '512 at once, in all shards', atOnce: 512 },
])

/** @param {Context} context @returns {Promise<DeploymentLoad[]>} */
export async function measureDeployments(context) {
  const { runtime, servers, rounds, seconds } = context
  const { program, url } = servers
  const cluster = await startRedisCluster({ program, primaries: PRIMARIES, replicas: PRIMARIES * REPLICAS })
  try {
    const sentinel = await startSentinel({ program, replicas: REPLICAS })
    try {
      const { name, sentinelUrls: sentinels } = sentinel
      const deployments = { cluster: { cluster: cluster.urls }, sentinel: { sentinels, name } }
      const measured = []
      for (const { id, title, atOnce } of loads) {
        const { folder } = inFolder(context, id)
        const load = { atOnce, seconds }
        const rows = await inTurns({ runtime, ids, load, rounds: rounds * ROUNDS, url, deployments, folder })
        measured.push({ id, title, rows: rows.map((row) => compare(row, rows[0])) })
      }
      return measured
    } finally {
      await sentinel.stop()
    }
  } finally {
    await cluster.stop()
  }
}

/** @param {Row} row @param {Row | undefined} standalone */
function compare(row, standalone) {
  const ratio = (/** @type {'perSecond' | 'p50'} */ key) =>
    standalone && row.unavailable === undefined ? ratioOf(row, standalone, key) : Number.NaN
  return { ...row, throughputRatio: ratio('perSecond'), p50Ratio: ratio('p50') }
}
