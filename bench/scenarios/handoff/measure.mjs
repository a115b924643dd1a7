/**
 * How long a handoff takes, from a release in one process to the grant in another, while many wait for the
 * lock; and how many commands it costs.
 */

import { inFolder } from '../../harness/context.mjs'
import { startRemote } from '../../harness/remote.mjs'
import { quantile } from '../../harness/stats.mjs'
import { findSubject } from '../../subjects/index.mjs'

/** @typedef {import('../../harness/context.mjs').Context} Context */
/** @typedef {import('./worker.mjs').Held} Held */
/** @typedef {import('../../harness/remote.mjs').Remote} Remote */

/**
 * @typedef {object} Handoff of all rounds together, in milliseconds
 * @property {string} id
 * @property {string} label
 * @property {number} alone p50 of an acquire without contention
 * @property {number} p50 from a release to the grant in another process
 * @property {number} p99
 * @property {number} count
 * @property {number} perSecond leases, including those that stayed in a process
 */

/** @typedef {{ waiters: number, commands: number }[]} Commands of the server, for each lease */

const worker = import.meta.resolve('./worker.mjs')
const PROCESSES = 5
const WAITERS = [10, 200]
const ids = ['fencelock-strong', 'redlock', 'redis-semaphore', 'redlock-universal', 'fencelock-local']

/** @param {Context} context @returns {Promise<{ subjects: Handoff[], commands: Commands }>} */
export async function measureHandoff(context) {
  const subjects = []
  /** @type {Commands} */
  const commands = []
  for (const id of ids) {
    const remotes = Array.from({ length: PROCESSES }, () => startRemote(context.runtime, worker))
    try {
      const place = { url: context.servers.url, folder: inFolder(context, id).folder, atOnce: 512 }
      await Promise.all(remotes.map((remote) => remote.call('open', id, place)))
      subjects.push(await measureSubject(context, id, remotes))
      if (id === 'fencelock-strong') {
        for (const waiters of WAITERS) {
          commands.push({ waiters, commands: await countCommands(context, remotes, waiters) })
        }
      }
      await Promise.all(remotes.map((remote) => remote.call('close')))
    } finally {
      await Promise.all(remotes.map((remote) => remote.end()))
    }
  }
  return { subjects, commands }
}

/**
 * @param {Context} context
 * @param {string} id
 * @param {Remote[]} remotes
 * @returns {Promise<Handoff>}
 */
async function measureSubject({ rounds, seconds }, id, remotes) {
  const [first] = remotes
  /** @type {number[]} */
  const alone = []
  /** @type {number[]} */
  const between = []
  let [leases, time] = [0, 0]
  await contend(remotes, 'handoff', WAITERS[0] ?? 0, seconds)
  for (let round = 0; round < rounds; round++) {
    alone.push(...(await first?.call('alone', { resource: 'alone', seconds: seconds / 2 })))
    const held = await contend(remotes, 'handoff', WAITERS[0] ?? 0, 2 * seconds)
    between.push(...latencies(held))
    leases += held.length
    time += (held.at(-1)?.until ?? 0) - (held[0]?.since ?? 0)
  }
  const sorted = Float64Array.from(between).toSorted()
  return {
    id,
    label: findSubject(id).label,
    alone: quantile(Float64Array.from(alone).toSorted(), 0.5),
    p50: quantile(sorted, 0.5),
    p99: quantile(sorted, 0.99),
    count: sorted.length,
    perSecond: (leases / time) * 1000,
  }
}

/**
 * @param {Remote[]} remotes
 * @param {string} resource
 * @param {number} waiters in all
 * @param {number} seconds
 * @returns {Promise<(Held & { process: number })[]>} in the order in which they held it
 */
async function contend(remotes, resource, waiters, seconds) {
  const load = { resource, waiters: waiters / remotes.length, seconds }
  const held = await Promise.all(
    remotes.map(async (remote, process) => {
      /** @type {Held[]} */
      const own = await remote.call('run', load)
      return own.map(({ since, until }) => ({ since, until, process }))
    }),
  )
  const all = held.flat().toSorted((a, b) => a.since - b.since)
  // Without mutual exclusion all figures would be meaningless.
  if (all.some((one, at) => at > 0 && one.since < (all[at - 1]?.until ?? 0)))
    throw new Error('the lock was held twice at the same time')
  return all
}

/** @param {(Held & { process: number })[]} held */
function latencies(held) {
  return held.flatMap((one, at) => {
    const before = held[at - 1]
    return before && before.process !== one.process ? [one.since - before.until] : []
  })
}

/**
 * @param {Context} context
 * @param {Remote[]} remotes
 * @param {number} waiters
 */
async function countCommands({ servers, seconds }, remotes, waiters) {
  const before = await servers.commands()
  const held = await contend(remotes, `commands-${waiters}`, waiters, 3 * seconds)
  return ((await servers.commands()) - before) / held.length
}
