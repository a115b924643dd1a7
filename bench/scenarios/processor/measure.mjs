/**
 * Where the time goes: processor time of every process that takes part in a pair of acquire and release, how
 * often client threads wait, and system calls of the synchronous ones. It shows how far a ratio of
 * throughputs can rise.
 */

import { inFolder } from '../../harness/context.mjs'
import { startRemote } from '../../harness/remote.mjs'
import { loadWorker } from '../../harness/rounds.mjs'
import { median } from '../../harness/stats.mjs'
import { findSubject } from '../../subjects/index.mjs'
import { countCalls, usage } from './usage.mjs'

/** @typedef {import('../../harness/context.mjs').Context} Context */
/** @typedef {import('./usage.mjs').Usage} Usage */

/**
 * @typedef {object} Processor medians of the rounds, for a pair
 * @property {string} title
 * @property {string} label
 * @property {number} pairsPerSecond
 * @property {number} main microseconds of JavaScript's thread
 * @property {number} others of the other threads of its process
 * @property {number} primary of the Redis primary; 0 for local locks
 * @property {number} replicas of both replicas together
 * @property {number} waits how often threads of the client have waited
 * @property {Record<string, number>} [calls] system calls; the rare ones are left out
 */

/** @typedef {{ perSecond: number } & ReturnType<typeof share>} Sample */

/** @type {{ title: string, ids: string[], atOnce: number, sync?: boolean }[]} */
const loads = [
  { title: 'strong, 512 at once', ids: ['fencelock-strong', 'ioredis-plain'], atOnce: 512 },
  { title: 'strong, 64 at once', ids: ['fencelock-strong', 'ioredis-plain'], atOnce: 64 },
  { title: 'strong, one by one', ids: ['fencelock-strong', 'ioredis-plain'], atOnce: 1 },
  {
    title: 'local, 64 at once',
    ids: ['fencelock-local'],
    atOnce: 64,
  },
  {
    title: 'local, synchronous',
    ids: ['fencelock-local', 'better-sqlite3-tuned', 'node:sqlite-tuned', 'bun:sqlite-tuned'],
    atOnce: 1,
    sync: true,
  },
]

/** @param {Context} context @returns {Promise<Processor[]>} */
export async function measureProcessor(context) {
  if (process.platform !== 'linux') return []
  const rows = []
  for (const [index, { title, ids, ...load }] of loads.entries()) {
    for (const id of ids) {
      const row = await measure(inFolder(context, `${index}-${id.replace(':', '-')}`), id, load)
      if (row) rows.push({ title, label: findSubject(id).label, ...row })
    }
  }
  return rows
}

/**
 * @param {Context} context
 * @param {string} id
 * @param {{ atOnce: number, sync?: boolean }} load
 */
async function measure({ runtime, servers, folder, rounds, seconds }, id, load) {
  const remote = startRemote(runtime, loadWorker)
  try {
    try {
      await remote.call('open', id, { url: servers.url, folder, atOnce: load.atOnce })
    } catch {
      return undefined // A driver of the other runtime.
    }
    const pids = [remote.pid, ...servers.pids]
    /** @type {Sample[]} */
    const samples = []
    for (let round = -1; round < rounds; round++) {
      const before = pids.map(usage)
      const { pairs, perSecond } = await remote.call('load', { ...load, seconds })
      const after = pids.map(usage)
      if (round >= 0) samples.push({ perSecond, ...share(remote.pid, before, after, pairs) })
    }
    const of = (/** @type {keyof Sample} */ key) => median(samples.map((sample) => sample[key]))
    const traced = load.sync
      ? await countCalls(remote.pid, () => remote.call('load', { ...load, seconds }))
      : undefined
    return {
      pairsPerSecond: of('perSecond'),
      main: of('main'),
      others: of('others'),
      primary: of('primary'),
      replicas: of('replicas'),
      waits: of('waits'),
      ...(traced && { calls: perPair(traced.calls, traced.done.pairs) }),
    }
  } finally {
    await remote.end()
  }
}

/**
 * @param {number} pid of the client
 * @param {Usage[]} before of the client and the servers
 * @param {Usage[]} after
 * @param {number} pairs
 */
function share(pid, before, after, pairs) {
  const used = after.map((threads, process) => {
    const since = before[process]
    return [...threads].map(([thread, { micros, waits }]) => ({
      thread,
      micros: (micros - (since?.get(thread)?.micros ?? 0)) / pairs,
      waits: (waits - (since?.get(thread)?.waits ?? 0)) / pairs,
    }))
  })
  const [client = [], primary = [], ...replicas] = used
  const main = client.filter(({ thread }) => thread === String(pid))
  return {
    main: sum(main),
    others: sum(client) - sum(main),
    primary: sum(primary),
    replicas: sum(replicas.flat()),
    waits: client.reduce((total, { waits }) => total + waits, 0),
  }
}

/** @param {{ micros: number }[]} threads */
function sum(threads) {
  return threads.reduce((total, { micros }) => total + micros, 0)
}

/** @param {Record<string, number>} calls @param {number} pairs */
function perPair(calls, pairs) {
  const each = Object.entries(calls).map(([name, count]) => /** @type {const} */ ([name, count / pairs]))
  return Object.fromEntries(each.filter(([, count]) => count >= 0.1).toSorted(([, a], [, b]) => b - a))
}
