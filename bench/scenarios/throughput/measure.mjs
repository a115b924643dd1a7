/**
 * Acquire and release, compared with the peers.
 */
import { inTurns } from '../../harness/rounds.mjs'

/** @typedef {import('../../harness/context.mjs').Context} Context */
/** @typedef {import('../../harness/rounds.mjs').Row} Row */

/**
 * @typedef {object} Throughput
 * @property {string} id
 * @property {string} title
 * @property {'perSecond' | 'p50'} by what it is judged by
 * @property {string} [note]
 * @property {string[]} ids of the subjects; the first one is ours
 * @property {Omit<import('../../harness/load-worker.mjs').Load, 'seconds'>} load
 */

const strong = [
  'fencelock-strong',
  'ioredis-plain',
  'ioredis-tuned',
  'node-redis-plain',
  'node-redis-tuned',
  'redlock',
  'redis-semaphore',
  'redlock-universal',
]

const local = [
  'fencelock-local',
  'better-sqlite3-tuned',
  'node:sqlite-tuned',
  'bun:sqlite-tuned',
  'better-sqlite3-naive',
  'node:sqlite-naive',
  'bun:sqlite-naive',
  'proper-lockfile',
]

const observed = ['fencelock-strong', 'fencelock-metrics', 'fencelock-sampled', 'fencelock-traced']

const inMemory = ['fencelock-memory', 'fencelock-local']

/** @type {Throughput[]} */
export const throughput = [
  { id: 'strong-512', title: 'strong, 512 at once', by: 'perSecond', ids: strong, load: { atOnce: 512 } },
  { id: 'strong-64', title: 'strong, 64 at once', by: 'perSecond', ids: strong, load: { atOnce: 64 } },
  { id: 'strong-1', title: 'strong, one by one', by: 'p50', ids: strong, load: { atOnce: 1 } },
  {
    id: 'telemetry-512',
    title: 'strong with OpenTelemetry, 512 at once',
    by: 'perSecond',
    note: 'in batches, to exporters that drop them',
    ids: observed,
    load: { atOnce: 512 },
  },
  {
    id: 'local-64',
    title: 'local, 64 at once',
    by: 'perSecond',
    note: 'the SQLite drivers are synchronous, so they run in a loop, one call at a time',
    ids: local,
    load: { atOnce: 64 },
  },
  {
    id: 'local-sync',
    title: 'local, synchronous, one by one',
    by: 'perSecond',
    ids: local,
    load: { atOnce: 1, sync: true },
  },
  {
    id: 'in-memory-64',
    title: 'local, in memory, 64 at once',
    by: 'perSecond',
    ids: inMemory,
    load: { atOnce: 64 },
  },
  {
    id: 'in-memory-1',
    title: 'local, in memory, one by one',
    by: 'perSecond',
    ids: inMemory,
    load: { atOnce: 1 },
  },
]

/**
 * @param {Throughput} measure
 * @param {Context} context
 * @returns {Promise<Row[]>}
 */
export function measureThroughput({ ids, load }, { runtime, servers, folder, rounds, seconds }) {
  return inTurns({ runtime, ids, load: { ...load, seconds }, rounds, url: servers.url, folder })
}
