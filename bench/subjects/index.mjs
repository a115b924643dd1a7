/**
 * The subjects of the benchmark. Each module exports `open(options)`, which returns a {@link Subject}, or
 * throws the reason why it cannot run here.
 *
 * Every subject checks its results: a pair that was not granted, not acknowledged or not released throws. So
 * no subject wins by failing.
 */

/**
 * @typedef {object} Subject
 * @property {(resource: string, worker: number) => Promise<void>} [pair] acquires and releases
 * @property {(resource: string) => void} [pairSync] the same on the calling thread
 * @property {(resource: string) => Promise<() => Promise<unknown>>} [hold] waits as long as it takes; returns
 *   its release
 * @property {() => unknown} close
 */

/**
 * @typedef {object} Place where a subject works
 * @property {string} url of the Redis primary
 * @property {{ cluster: { cluster: string[] }, sentinel: { sentinels: string[], name: string } }}
 *   [deployments] how the others are reached, if they run
 * @property {string[]} [nodes] the URLs of independent servers, if they run
 * @property {string} folder of its own
 * @property {number} atOnce the most pairs at once
 */

/**
 * @typedef {object} Description
 * @property {string} id
 * @property {string} label
 * @property {string} module
 * @property {Record<string, unknown>} [options] for its `open`
 * @property {string} [package] its version is reported
 * @property {'ours' | 'peer' | 'lesser'} kind `lesser`: it does not wait for replicas, so it promises less
 * @property {string} how what it does, in a few words
 */

/** @type {Description[]} */
export const subjects = [
  {
    id: 'fencelock-strong',
    label: 'fencelock',
    module: 'fencelock-strong.mjs',
    kind: 'ours',
    how: '2 acks, fencing token',
  },
  {
    id: 'fencelock-cluster',
    label: 'cluster of 3 primaries',
    module: 'fencelock-strong.mjs',
    options: { deployment: 'cluster' },
    kind: 'ours',
    how: 'the same, 2 replicas a primary',
  },
  {
    id: 'fencelock-sentinel',
    label: 'primary with 3 Sentinels',
    module: 'fencelock-strong.mjs',
    options: { deployment: 'sentinel' },
    kind: 'ours',
    how: 'the same',
  },
  ...[
    { id: 'metrics', label: 'metrics', traced: 0 },
    { id: 'sampled', label: 'metrics, a tenth of traces', traced: 0.1 },
    { id: 'traced', label: 'metrics, all traces', traced: 1 },
  ].map(({ id, label, traced }) => ({
    id: `fencelock-${id}`,
    label,
    module: 'fencelock-strong.mjs',
    options: { traced },
    kind: /** @type {const} */ ('ours'),
    how: "the same, with OpenTelemetry's SDK",
  })),
  {
    id: 'fencelock-quorum',
    label: 'fencelock',
    module: 'fencelock-quorum.mjs',
    kind: 'ours',
    how: 'a majority, fencing token',
  },
  {
    id: 'redlock-quorum',
    label: 'redlock',
    module: 'redlock.mjs',
    package: 'redlock',
    kind: 'peer',
    how: 'a majority, no token, ioredis with auto-pipelining',
  },
  {
    id: 'majority-ping',
    label: 'PING',
    module: 'majority-ping.mjs',
    kind: 'lesser',
    how: 'no lock: a round trip to a majority',
  },
  {
    id: 'ioredis-plain',
    label: 'ioredis, plain',
    module: 'ioredis.mjs',
    package: 'ioredis',
    kind: 'peer',
    how: 'SET NX PX and WAIT 2, no token',
  },
  {
    id: 'ioredis-tuned',
    label: 'ioredis, tuned',
    module: 'ioredis.mjs',
    options: { tuned: true },
    package: 'ioredis',
    kind: 'peer',
    how: 'the same, auto-pipelined, releases on a connection of their own',
  },
  {
    id: 'node-redis-plain',
    label: 'node-redis, plain',
    module: 'node-redis.mjs',
    package: 'redis',
    kind: 'peer',
    how: 'SET NX PX and WAIT 2, no token',
  },
  {
    id: 'node-redis-tuned',
    label: 'node-redis, tuned',
    module: 'node-redis.mjs',
    options: { tuned: true },
    package: 'redis',
    kind: 'peer',
    how: 'the same, releases on a connection of their own',
  },
  {
    id: 'fencelock-one-ack',
    label: 'fencelock',
    module: 'fencelock-strong.mjs',
    options: { acks: 1 },
    kind: 'ours',
    how: '1 ack, fencing token',
  },
  {
    id: 'ioredis-own-scripts',
    label: 'ioredis, our scripts',
    module: 'ioredis-own-scripts.mjs',
    package: 'ioredis',
    kind: 'peer',
    how: 'the floor: EVALSHA and WAIT 1 in one go, token',
  },
  {
    id: 'ioredis-one-ack',
    label: 'ioredis, plain',
    module: 'ioredis-one-ack.mjs',
    package: 'ioredis',
    kind: 'peer',
    how: 'SET NX PX, then WAIT 1, no token',
  },
  {
    id: 'ioredis-one-ack-pipelined',
    label: 'ioredis, pipelined',
    module: 'ioredis-one-ack.mjs',
    options: { pipelined: true },
    package: 'ioredis',
    kind: 'peer',
    how: 'SET NX PX and WAIT 1 in one go, no token',
  },
  {
    id: 'fencelock-no-acks',
    label: 'fencelock, acks: 0',
    module: 'fencelock-strong.mjs',
    options: { acks: 0 },
    kind: 'ours',
    how: 'no WAIT, fencing token',
  },
  {
    id: 'redlock',
    label: 'redlock',
    module: 'redlock.mjs',
    package: 'redlock',
    kind: 'lesser',
    how: 'no WAIT, no token',
  },
  {
    id: 'redis-semaphore',
    label: 'redis-semaphore',
    module: 'redis-semaphore.mjs',
    package: 'redis-semaphore',
    kind: 'lesser',
    how: 'no WAIT, no token',
  },
  {
    id: 'redlock-universal',
    label: 'redlock-universal',
    module: 'redlock-universal.mjs',
    package: 'redlock-universal',
    kind: 'lesser',
    how: 'no WAIT, no token',
  },
  {
    id: 'fencelock-local',
    label: 'fencelock',
    module: 'fencelock-local.mjs',
    kind: 'ours',
    how: 'fencing token, WAL, NORMAL',
  },
  {
    id: 'fencelock-memory',
    label: 'fencelock, in memory',
    module: 'fencelock-local.mjs',
    options: { inMemory: true },
    kind: 'ours',
    how: 'fencing token, no file',
  },
  ...['better-sqlite3', 'node:sqlite', 'bun:sqlite'].flatMap((driver) => [
    {
      id: `${driver}-tuned`,
      label: `${driver}, tuned`,
      module: 'sqlite-tuned.mjs',
      options: { driver },
      ...(driver === 'better-sqlite3' && { package: driver }),
      kind: /** @type {const} */ ('peer'),
      how: 'one cached upsert, WAL, NORMAL, no token',
    },
    {
      id: `${driver}-naive`,
      label: `${driver}, naive`,
      module: 'sqlite-naive.mjs',
      options: { driver },
      ...(driver === 'better-sqlite3' && { package: driver }),
      kind: /** @type {const} */ ('peer'),
      how: 'read, then write, default journal, no token',
    },
  ]),
  {
    id: 'proper-lockfile',
    label: 'proper-lockfile',
    module: 'proper-lockfile.mjs',
    package: 'proper-lockfile',
    kind: 'peer',
    how: 'a directory per lock, no token',
  },
]

/** @param {string} id */
export function findSubject(id) {
  const found = subjects.find((subject) => subject.id === id)
  if (!found) throw new Error(`there is no subject ${id}`)
  return found
}

/** @param {string} id @param {Place} place @returns {Promise<Subject>} */
export async function openSubject(id, place) {
  const { module, options } = findSubject(id)
  const { open } = await import(`./${module}`)
  return open({ ...place, ...options })
}
