/**
 * The results at the distances of networks: tables, and the thresholds.
 */
import { median, quantile } from '../harness/stats.mjs'
import { count, fixed, table, times } from './text.mjs'

/** @typedef {import('../scenarios/network/measure.mjs').Network} Network */
/** @typedef {import('../scenarios/network/measure.mjs').NetworkRow} NetworkRow */
/** @typedef {import('./thresholds.mjs').Verdict} Verdict */

/** By how much a PING may differ from the round trip that was wanted. */
const TOLERANCE = 0.15

const HEAD = [
  '',
  'p50 ms',
  'p99 ms',
  'pairs/s',
  'µs of CPU',
  'JS thread',
  'waits',
  'our p50',
  'our pairs/s',
  'our CPU',
  '',
]

/** @param {number} roundTrip */
const place = (roundTrip) => (roundTrip === 0 ? 'loopback' : `${roundTrip} ms`)

/** @param {Network} network */
export function printNetwork({ title, realTime, distances }) {
  table(
    `network, ${title}: round trips of the connections, measured before the subjects`,
    ['', 'PING p50 ms', 'PING p99', 'SET, WAIT p50', 'p99', 'delay ms', ''],
    distances.map(({ accuracy: { roundTrip, ping, wait, delay } }) => [
      place(roundTrip),
      ...[ping.p50, ping.p99, wait.p50, wait.p99].map((ms) => fixed(ms)),
      roundTrip === 0 ? '–' : fixed(delay),
      describe(roundTrip, ping.p50, realTime),
    ]),
  )
  for (const { accuracy, rows, late } of distances) {
    const lateness = late && `; the proxy was late by ${fixed(late.p50)} ms, p99 ${fixed(late.p99)}`
    table(
      `network, ${place(accuracy.roundTrip)}, ${title}: acquire and release${lateness ?? ''}`,
      HEAD,
      rows.map(toCells),
    )
  }
}

/** @param {number} roundTrip @param {number} ping @param {boolean} realTime */
function describe(roundTrip, ping, realTime) {
  if (roundTrip === 0) return 'no proxy'
  const priority = realTime ? '' : ', without real-time priority'
  const far = Math.abs(ping - roundTrip) > roundTrip * TOLERANCE
  return `one way${priority}${far ? '; NOT THAT FAR: the machine has too much other work' : ''}`
}

/** @param {NetworkRow} row */
function toCells({
  label,
  how,
  unavailable,
  p50,
  p99,
  perSecond,
  processor,
  main,
  waits,
  ratios,
  refused,
  error,
}) {
  if (unavailable !== undefined)
    return [label, ...Array.from({ length: 9 }, () => '–'), `not here: ${unavailable}`]
  return [
    label,
    fixed(p50),
    fixed(p99),
    count(perSecond),
    fixed(processor, 1),
    fixed(main, 1),
    fixed(waits, 1),
    times(median(ratios.p50)),
    times(median(ratios.perSecond)),
    times(median(ratios.processor)),
    refused > 0 ? `${how}; ${refused} failed: ${error}` : how,
  ]
}

/**
 * What ours may take of another subject's.
 *
 * @type {{ roundTrip: number, id: string, key: 'p50' | 'processor', most: number }[]}
 */
const limits = [
  { roundTrip: 0, id: 'ioredis-own-scripts', key: 'p50', most: 1.12 },
  { roundTrip: 0, id: 'ioredis-one-ack', key: 'p50', most: 0.92 },
  { roundTrip: 0.5, id: 'ioredis-own-scripts', key: 'p50', most: 0.97 },
  { roundTrip: 0.5, id: 'ioredis-one-ack', key: 'p50', most: 0.78 },
  { roundTrip: 0, id: 'ioredis-one-ack', key: 'processor', most: 1 },
  { roundTrip: 0.5, id: 'ioredis-one-ack', key: 'processor', most: 0.6 },
  { roundTrip: 0, id: 'redlock', key: 'p50', most: 1.2 },
]

/** @param {Record<string, Network>} networks @returns {Verdict[]} */
export function judgeNetwork({ 'network-1': alone }) {
  return limits.flatMap(({ roundTrip, id, key, most }) => {
    const rows = alone?.distances.find(({ accuracy }) => accuracy.roundTrip === roundTrip)?.rows
    const row = rows?.find((each) => each.id === id)
    if (!row) return []
    const ratios = row.ratios[key].toSorted((a, b) => a - b)
    const ratio = median(ratios)
    const [low, high] = [quantile(ratios, 0.25), quantile(ratios, 0.75)]
    const acks = id === 'redlock' ? 'acks: 0' : 'acks: 1'
    const what = key === 'p50' ? 'p50' : 'processor time of the client'
    return [
      {
        text: `network, ${place(roundTrip)}, one by one, ${acks}, ${what} against ${row.label}`,
        threshold: `≤ ${most.toFixed(2)}×`,
        value: `${times(ratio)} (half of the rounds: ${times(low)} to ${times(high)})`,
        reached: ratio <= most,
      },
    ]
  })
}
