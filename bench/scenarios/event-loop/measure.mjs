/**
 * How much later timers fire because of the locks.
 */

import { inFolder } from '../../harness/context.mjs'
import { startRemote } from '../../harness/remote.mjs'
import { median } from '../../harness/stats.mjs'
import { findSubject } from '../../subjects/index.mjs'

/** @typedef {import('../../harness/context.mjs').Context} Context */
/** @typedef {import('./worker.mjs').DelaySample} DelaySample */

/**
 * @typedef {object} EventLoop medians of the rounds
 * @property {string} id
 * @property {string} label
 * @property {number} idleMs p99 of the delay with no locks
 * @property {number} loadedMs p99 with them
 * @property {number} addedMs the difference in each round
 * @property {number} perSecond acquires reached
 */

const worker = import.meta.resolve('./worker.mjs')
export const ACQUIRES_PER_SECOND = 5_000
const ids = ['fencelock-strong', 'ioredis-plain']

/** @param {Context} context @returns {Promise<EventLoop[]>} */
export async function measureEventLoop(context) {
  const { runtime, rounds, seconds } = context
  const entries = ids.map((id) => ({
    id,
    remote: startRemote(runtime, worker),
    /** @type {{ idle: DelaySample, loaded: DelaySample }[]} */
    samples: [],
  }))
  const load = { perSecond: ACQUIRES_PER_SECOND, seconds: 2 * seconds }
  try {
    for (const { id, remote } of entries) {
      await remote.call('open', id, {
        url: context.servers.url,
        folder: inFolder(context, id).folder,
        atOnce: 512,
      })
      await remote.call('run', load)
    }
    for (let round = 0; round < rounds; round++) {
      for (const { remote, samples } of entries) {
        const idle = await remote.call('run', { ...load, perSecond: 0 })
        samples.push({ idle, loaded: await remote.call('run', load) })
      }
    }
  } finally {
    await Promise.all(entries.map(({ remote }) => remote.end()))
  }
  return entries.map(({ id, samples }) => ({
    id,
    label: findSubject(id).label,
    idleMs: median(samples.map(({ idle }) => idle.p99)),
    loadedMs: median(samples.map(({ loaded }) => loaded.p99)),
    addedMs: median(samples.map(({ idle, loaded }) => loaded.p99 - idle.p99)),
    perSecond: median(samples.map(({ loaded }) => loaded.perSecond)),
  }))
}
