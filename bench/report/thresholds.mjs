/**
 * The thresholds that fencelock is meant to meet, and whether it does.
 */

import { ratioOf } from '../harness/rounds.mjs'
import { judgeNetwork } from './network.mjs'

/** @typedef {import('../scenarios/index.mjs').Results} Results */
/** @typedef {import('../harness/rounds.mjs').Row} Row */

/**
 * @typedef {object} Verdict
 * @property {string} text what is compared
 * @property {string} threshold for example `≥ 2.5×`
 * @property {string} value in the same unit
 * @property {boolean} reached
 */

/** @param {number} value */
const times = (value) => `${value.toFixed(2)}×`
/** @param {number} value */
const milliseconds = (value) => `${value.toFixed(2)} ms`

/**
 * @param {Results} results
 * @returns {Verdict[]} without what was not measured
 */
export function judge(results) {
  const { network, deployments, quorum, stall, eventLoop, memory, handoff, renewals, guards } = results
  const delay = eventLoop?.find(({ id }) => id === 'fencelock-strong')
  return [
    ...faster(
      results,
      'strong-512',
      ['ioredis-plain'],
      2.5,
      'strong, 512 at once, against ioredis with WAIT',
    ),
    ...faster(results, 'strong-64', ['ioredis-plain'], 2, 'strong, 64 at once, against ioredis with WAIT'),
    ...sooner(
      results,
      'strong-1',
      'ioredis-plain',
      0.75,
      'strong, one by one, p50 against ioredis with WAIT',
    ),
    ...['redlock', 'redis-semaphore', 'redlock-universal'].flatMap((id) =>
      faster(results, 'strong-512', [id], 1.3, `strong, 512 at once, against ${id} without WAIT`),
    ),
    ...keeps(results, 'telemetry-512', 'fencelock-traced', 0.7, 'strong, 512 at once, with OpenTelemetry'),
    ...faster(results, 'local-64', tuned, 4, 'local, 64 at once, against the best tuned SQLite loop'),
    ...faster(results, 'local-sync', tuned, 1.3, 'local, synchronous, against the best tuned SQLite code'),
    ...faster(results, 'local-sync', naive, 20, 'local, synchronous, against the best naive SQLite code'),
    ...faster(results, 'in-memory-64', ['fencelock-local'], 2, 'in memory, 64 at once, against the file'),
    ...faster(results, 'in-memory-1', ['fencelock-local'], 2, 'in memory, one by one, against the file'),
    ...judgeNetwork(network),
    ...(deployments ?? []).flatMap(onDeployments),
    ...(quorum ? onQuorum(quorum) : []),
    ...(stall ? [below('acks: 1 next to a stopped replica, p99', 10, stall.stalled.p99, milliseconds)] : []),
    ...(delay
      ? [below('event-loop delay added by 5,000 acquires a second, p99', 2, delay.addedMs, milliseconds)]
      : []),
    ...(handoff ? handoffs(handoff) : []),
    ...(renewals
      ? [below('renewal of 10,000 leases of 30 s', 5, renewals.percent, (value) => `${value.toFixed(2)} %`)]
      : []),
    ...(guards ? roundTrips(guards) : []),
    ...(memory ?? []).flatMap(({ strategy, points }) => {
      const last = points.at(-1)
      if (!last) return []
      const text = `memory per held ${strategy} lock, with ${last.held.toLocaleString('en')}`
      const bytes = last.nativeBytes === null ? last.residentBytes : last.heapBytes + last.nativeBytes
      return [below(text, 600, bytes, (value) => `${value.toFixed(0)} bytes`)]
    }),
  ]
}

/**
 * @param {NonNullable<Results['deployments']>[0]} deployment
 * @returns {Verdict[]}
 */
function onDeployments({ id, title, rows }) {
  return rows.slice(1).map(({ label, throughputRatio, p50Ratio }) => {
    const text = `strong, ${title}, on a ${label}, against a standalone primary`
    if (id === 'one') {
      return { text: `${text}, p50`, threshold: '≤ 1.10×', value: times(p50Ratio), reached: p50Ratio <= 1.1 }
    }
    return { text, threshold: '≥ 0.90×', value: times(throughputRatio), reached: throughputRatio >= 0.9 }
  })
}

/**
 * @param {NonNullable<Results['quorum']>} quorum
 * @returns {Verdict[]}
 */
function onQuorum({ latency, contention, roundTrip, throughput }) {
  const within = (/** @type {string} */ text, /** @type {number} */ most, /** @type {number} */ value) => ({
    text: `quorum of 5, ${text}, in round trips`,
    threshold: `≤ ${most}×`,
    value: times(value),
    reached: value <= most,
  })
  const redlock = throughput.find(({ id }) => id === 'redlock-quorum')
  const ratio = redlock?.ratio ?? Number.NaN
  return [
    ...latency.map(({ id, title, ratio: p50 }) =>
      within(`${title}, acquire, p50`, id === 'hung' ? 1.5 : 1.3, p50),
    ),
    ...contention.flatMap(({ clients, first, handoff }) => [
      within(`${clients} clients, first lease, p99`, 5, first.p99 / roundTrip),
      within(`${clients} clients, handoff, p50`, 2.5, handoff.p50 / roundTrip),
      within(`${clients} clients, handoff, p99`, 7, handoff.p99 / roundTrip),
    ]),
    {
      text: 'quorum of 5, 64 at once, against redlock',
      threshold: '≥ 3×',
      value: times(ratio),
      reached: ratio >= 3,
    },
  ]
}

/**
 * @param {NonNullable<Results['handoff']>} handoff
 * @returns {Verdict[]}
 */
function handoffs({ subjects, commands }) {
  const find = (/** @type {string} */ id) => subjects.find((subject) => subject.id === id)
  const [strong, local] = [find('fencelock-strong'), find('fencelock-local')]
  if (!strong || !local) return []
  const ratio = strong.p50 / strong.alone
  const [few, many] = commands
  const growth = few && many ? many.commands / few.commands : Number.NaN
  return [
    {
      text: 'handoff between processes, strong, p50 against an acquire alone',
      threshold: '≤ 2.5×',
      value: times(ratio),
      reached: ratio <= 2.5,
    },
    .../** @type {const} */ ([
      ['redlock', 10],
      ['redlock-universal', 10],
      ['redis-semaphore', 3],
    ]).flatMap(([id, threshold]) => {
      const better = (find(id)?.p99 ?? Number.NaN) / strong.p99
      const text = `handoff between processes, strong, p99 against ${id}`
      return [{ text, threshold: `≥ ${threshold}×`, value: times(better), reached: better >= threshold }]
    }),
    below('handoff between processes, local, p50', 3, local.p50, milliseconds),
    below('handoff between processes, local, p99', 10, local.p99, milliseconds),
    {
      text: 'commands per lease, 200 waiters against 10 in as many processes',
      threshold: '≤ 1.2×',
      value: times(growth),
      reached: growth <= 1.2,
    },
  ]
}

/**
 * @param {NonNullable<Results['guards']>} guards
 * @returns {Verdict[]}
 */
function roundTrips(guards) {
  const counted = guards.flatMap(({ id, trips }) => (trips ? [{ id, more: trips.guarded - trips.own }] : []))
  const most = Math.max(...counted.map(({ more }) => more))
  const which = counted.filter(({ more }) => more === most).map(({ id }) => id)
  return [
    {
      text: `guarded write, of ${counted.length} clients, against the caller's own`,
      threshold: '≤ 1 round trip more',
      value: `${most} (${which.join(', ')})`,
      reached: counted.length > 0 && most <= 1,
    },
  ]
}

const drivers = ['better-sqlite3', 'node:sqlite', 'bun:sqlite']
const tuned = drivers.map((driver) => `${driver}-tuned`)
const naive = drivers.map((driver) => `${driver}-naive`)

/**
 * @param {Results} results
 * @param {string} measure
 * @param {string[]} ids the fastest of these counts
 * @returns {Row | undefined}
 */
function rival(results, measure, ids) {
  return results.throughput[measure]
    ?.filter(({ id, ratio }) => ids.includes(id) && Number.isFinite(ratio))
    .toSorted((a, b) => a.ratio - b.ratio)[0]
}

/**
 * @param {Results} results
 * @param {string} measure
 * @param {string[]} ids
 * @param {number} threshold
 * @param {string} text
 * @returns {Verdict[]}
 */
function faster(results, measure, ids, threshold, text) {
  const row = rival(results, measure, ids)
  if (!row) return []
  const named = ids.length > 1 ? `${text} (${row.label})` : text
  return [
    { text: named, threshold: `≥ ${threshold}×`, value: times(row.ratio), reached: row.ratio >= threshold },
  ]
}

/**
 * How much of the first subject's throughput another one keeps.
 *
 * @param {Results} results
 * @param {string} measure
 * @param {string} id
 * @param {number} threshold
 * @param {string} text
 * @returns {Verdict[]}
 */
function keeps(results, measure, id, threshold, text) {
  const row = rival(results, measure, [id])
  const [first] = results.throughput[measure] ?? []
  if (!row || !first) return []
  const kept = ratioOf(row, first, 'perSecond')
  return [{ text, threshold: `≥ ${threshold}×`, value: times(kept), reached: kept >= threshold }]
}

/**
 * @param {Results} results
 * @param {string} measure
 * @param {string} id
 * @param {number} threshold
 * @param {string} text
 * @returns {Verdict[]}
 */
function sooner(results, measure, id, threshold, text) {
  const row = rival(results, measure, [id])
  if (!row) return []
  return [
    {
      text,
      threshold: `≤ ${threshold}×`,
      value: times(row.latencyRatio),
      reached: row.latencyRatio <= threshold,
    },
  ]
}

/**
 * @param {string} text
 * @param {number} threshold
 * @param {number} value
 * @param {(value: number) => string} show
 * @returns {Verdict}
 */
function below(text, threshold, value, show) {
  return {
    text,
    threshold: `< ${show(threshold).replace('.00', '')}`,
    value: show(value),
    reached: value < threshold,
  }
}
