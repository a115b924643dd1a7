/**
 * Quorum locks on five nodes: latency at a distance, contention, and throughput next to Redlock.
 */
import os from 'node:os'

import { startNodes } from '../../harness/nodes.mjs'
import { startRemote } from '../../harness/remote.mjs'
import { inTurns } from '../../harness/rounds.mjs'
import { median } from '../../harness/stats.mjs'
import { Races } from './contention.mjs'
import { Turns } from './latency.mjs'

/** @typedef {import('../../harness/context.mjs').Context} Context */
/** @typedef {import('../../harness/nodes.mjs').Nodes} Nodes */
/** @typedef {import('../../harness/rounds.mjs').Row} Row */

/**
 * @typedef {object} QuorumCost
 * @property {import('./latency.mjs').Latency[]} latency
 * @property {import('./contention.mjs').Contention[]} contention
 * @property {number} roundTrip by which contention is judged: the median of the rounds, in milliseconds
 * @property {number} load how many processes wanted a core in the last minute of this
 * @property {Row[]} throughput on the nodes themselves: through proxies it would be theirs
 */

const NODES = 5
const CLIENTS = [3, 10]
/** Of each number of clients, for each second that a round takes. */
const RACES_PER_SECOND = 120
const AT_ONCE = 64

const worker = import.meta.resolve('./worker.mjs')

/** @param {Context} context @returns {Promise<QuorumCost>} */
export async function measureQuorum(context) {
  const nodes = await startNodes(context.servers.program, NODES)
  try {
    const atDistance = await measureAtDistance(context, nodes)
    // Clients that reach the nodes by other addresses count as clients of another quorum.
    await Promise.all(nodes.servers.map((server) => server.cmd('FLUSHALL')))
    const { runtime, servers, folder, rounds, seconds } = context
    const throughput = await inTurns({
      runtime,
      ids: ['fencelock-quorum', 'redlock-quorum'],
      load: { atOnce: AT_ONCE, seconds },
      rounds,
      url: servers.url,
      nodes: nodes.near,
      folder,
    })
    return { ...atDistance, throughput }
  } finally {
    await nodes.stop()
  }
}

/**
 * @param {Context} context
 * @param {Nodes} nodes
 * @returns {Promise<Omit<QuorumCost, 'throughput'>>} the load is without that of the throughput
 */
async function measureAtDistance({ runtime, folder, rounds, seconds, servers }, { far, servers: hosts }) {
  const open = async (/** @type {string} */ id) => {
    const remote = startRemote(runtime, worker)
    remotes.push(remote)
    await remote.call('open', id, { url: servers.url, nodes: far, folder, atOnce: 1 })
    return remote
  }
  /** @type {import('../../harness/remote.mjs').Remote[]} */
  const remotes = []
  try {
    const ping = await open('majority-ping')
    const clients = await Promise.all(
      Array.from({ length: Math.max(...CLIENTS) }, () => open('fencelock-quorum')),
    )
    const [first = ping] = clients
    const turns = { all: new Turns('all', ping, first), hung: new Turns('hung', ping, first) }
    const races = CLIENTS.map((count) => new Races(clients.slice(0, count)))
    const roundTrips = []
    for (let round = 0; round < rounds; round++) {
      const roundTrip = await turns.all.run(round, seconds)
      roundTrips.push(roundTrip)
      const hung = hosts[round % hosts.length]
      hung?.pause()
      await turns.hung.run(round, seconds)
      hung?.resume()
      for (const each of races) await each.run(Math.ceil(RACES_PER_SECOND * seconds), 2 * roundTrip)
    }
    await Promise.all(remotes.map((remote) => remote.call('close')))
    return {
      latency: [turns.all.result(), turns.hung.result()],
      contention: races.map((each) => each.result()),
      roundTrip: median(roundTrips),
      load: os.loadavg()[0] ?? 0,
    }
  } finally {
    await Promise.all(remotes.map((remote) => remote.end()))
  }
}
