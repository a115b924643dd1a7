/**
 * The results as tables in the terminal.
 */
import { throughput } from '../scenarios/throughput/measure.mjs'
import { printNetwork } from './network.mjs'
import { count, fixed, table, times } from './text.mjs'

/** @typedef {import('../scenarios/index.mjs').Results} Results */
/** @typedef {import('./thresholds.mjs').Verdict} Verdict */

/**
 * @param {string} runtime
 * @param {Results} results
 */
export function printResults(runtime, results) {
  console.log(`\n━━ ${runtime} ━━`)
  for (const scenario of throughput) printThroughput(scenario, results.throughput[scenario.id])
  printProcessor(results)
  const { network, deployments, quorum, stall, eventLoop, handoff, renewals } = results
  for (const each of Object.values(network)) printNetwork(each)
  if (deployments) printDeployments(deployments)
  if (quorum) printQuorum(quorum)
  if (stall) printStall(stall)
  if (eventLoop) printEventLoop(eventLoop)
  if (handoff) printHandoff(handoff)
  if (renewals) printRenewals(renewals)
  printGuards(results)
  printGrowth(results)
}

/**
 * @param {{ title: string, note?: string }} scenario
 * @param {import('../harness/rounds.mjs').Row[] | undefined} rows
 */
function printThroughput({ title, note }, rows) {
  if (!rows) return
  table(
    `${title}: acquire and release${note ? ` (${note})` : ''}`,
    ['', 'pairs/s', 'p50 ms', 'p99 ms', 'our pairs/s', 'our p50', ''],
    rows.map(({ label, how, unavailable, perSecond, p50, p99, ratio, latencyRatio, refused }) =>
      unavailable === undefined
        ? [
            label,
            count(perSecond),
            fixed(p50),
            fixed(p99),
            times(ratio),
            times(latencyRatio),
            refused > 0 ? `${how}; ${refused} failed` : how,
          ]
        : [label, '–', '–', '–', '–', '–', `not here: ${unavailable}`],
    ),
  )
}

/** @param {Results} results */
function printProcessor({ processor }) {
  if (!processor || processor.length === 0) return
  table(
    'where the time goes: processor time in µs per pair; system calls of the synchronous ones',
    ['', 'JS thread', 'others', 'primary', 'replicas', 'sum', 'waits', 'busy cores', ''],
    processor.map(({ title, label, pairsPerSecond, main, others, primary, replicas, waits, calls }) => {
      const sum = main + others + primary + replicas
      return [
        `${title}: ${label}`,
        ...[main, others, primary, replicas, sum].map((micros) => fixed(micros, 1)),
        fixed(waits, 2),
        fixed((sum * pairsPerSecond) / 1e6, 2),
        Object.entries(calls ?? {})
          .map(([name, each]) => `${fixed(each, 1)} ${name}`)
          .join(', '),
      ]
    }),
  )
}

/** @param {NonNullable<Results['deployments']>} deployments */
function printDeployments(deployments) {
  for (const { title, rows } of deployments) {
    table(
      `strong, ${title}: deployments compared with a standalone primary`,
      ['', 'pairs/s', 'p50 ms', 'p99 ms', 'of its pairs/s', 'of its p50', ''],
      rows.map(({ id, label, how, unavailable, perSecond, p50, p99, throughputRatio, p50Ratio, refused }) => {
        const name = id === 'fencelock-strong' ? 'standalone primary' : label
        if (unavailable !== undefined) return [name, '–', '–', '–', '–', '–', `not here: ${unavailable}`]
        const note = refused > 0 ? `${how}; ${refused} failed` : how
        const [pairs, p50Times] = [times(throughputRatio), times(p50Ratio)]
        return [name, count(perSecond), fixed(p50), fixed(p99), pairs, p50Times, note]
      }),
    )
  }
}

/** @param {NonNullable<Results['quorum']>} quorum */
function printQuorum({ latency, contention, roundTrip, load, throughput: rows }) {
  table(
    `quorum of 5 at a distance of 5 ms: an acquire without contention (load ${fixed(load, 1)})`,
    ['', 'PING p50 ms', 'PING p99', 'p50 ms', 'p99 ms', 'p50 of PING', ''],
    latency.map((each) => [
      each.title,
      ...[each.roundTrip, each.roundTripP99, each.p50, each.p99].map((ms) => fixed(ms)),
      times(each.ratio),
      'PING of all nodes, until a majority has answered',
    ]),
  )
  const ofRoundTrip = (/** @type {number} */ ms) => fixed(ms / roundTrip, 2)
  table(
    'the same, several clients at the same moment: p50, p99 and longest, in PINGs',
    ['', 'first lease', 'p99', 'max', 'handoff', 'p99', 'max', ''],
    contention.map(({ clients, races, first, handoff }) => [
      `${clients} clients`,
      ...[first.p50, first.p99, first.max, handoff.p50, handoff.p99, handoff.max].map(ofRoundTrip),
      `${races} times`,
    ]),
  )
  printThroughput({ title: 'quorum of 5, 64 at once' }, rows)
}

/** @param {NonNullable<Results['stall']>} stall */
function printStall({ calm, stalled, batches, batchMs }) {
  table(
    'acquires with acks: 1 while the other replica is stopped',
    ['', 'p50 ms', 'p99 ms', 'max ms', ''],
    [
      ['both replicas healthy', fixed(calm.p50), fixed(calm.p99), '–', ''],
      [
        'one stopped, other batches stall',
        fixed(stalled.p50),
        fixed(stalled.p99),
        fixed(stalled.max),
        `${batches} batches with acks: 2, ${fixed(batchMs, 0)} ms each`,
      ],
    ],
  )
}

/** @param {NonNullable<Results['eventLoop']>} delays */
function printEventLoop(delays) {
  table(
    'event-loop delay, p99',
    ['', 'idle ms', 'loaded ms', 'added ms', 'acquires/s', ''],
    delays.map(({ label, idleMs, loadedMs, addedMs, perSecond }) => [
      label,
      fixed(idleMs),
      fixed(loadedMs),
      fixed(addedMs),
      count(perSecond),
      '',
    ]),
  )
}

/** @param {NonNullable<Results['handoff']>} handoff */
function printHandoff({ subjects, commands }) {
  table(
    'from a release in one process to the grant in another, 10 waiters in 5 processes',
    ['', 'p50 ms', 'p99 ms', 'alone p50', 'leases/s', ''],
    subjects.map(({ label, id, p50, p99, alone, perSecond, count: handoffs }) => [
      id === 'fencelock-local' ? `${label}, local` : label,
      fixed(p50),
      fixed(p99),
      fixed(alone),
      count(perSecond),
      `${count(handoffs)} handoffs`,
    ]),
  )
  table(
    'server commands per lease',
    ['waiters', 'commands', ''],
    commands.map(({ waiters, commands: sent }) => [count(waiters), fixed(sent, 2), '']),
  )
}

/** @param {NonNullable<Results['renewals']>} renewals */
function printRenewals({ held, perSecond, commandsPerSecond, percent, idlePercent }) {
  const cells = [
    count(held),
    fixed(percent, 2),
    fixed(idlePercent, 2),
    count(perSecond),
    fixed(commandsPerSecond, 1),
  ]
  table(
    'renewed leases of 30 s',
    ['held', '% of a core', 'idle %', 'renewals/s', 'commands/s', ''],
    [[...cells, '']],
  )
}

/** @param {Results} results */
function printGuards({ guards }) {
  if (!guards) return
  table(
    'guarded writes: p50, compared with the caller’s own write',
    ['', 'own ms', 'guarded ms', 'of own', 'of by hand', 'trips', ''],
    guards.map(({ id, write, unavailable, own, guarded, ratio, byHandRatio, trips }) =>
      unavailable === undefined
        ? [
            id,
            fixed(own),
            fixed(guarded),
            times(ratio),
            times(byHandRatio ?? Number.NaN),
            trips ? `${trips.own} → ${trips.guarded}` : '–',
            write,
          ]
        : [id, '–', '–', '–', '–', '–', `not here: ${unavailable}`],
    ),
  )
}

/** @param {Results} results */
function printGrowth({ memory, inFlight, table: sizes }) {
  for (const { strategy, points } of memory ?? []) {
    table(
      `held ${strategy} locks: bytes per lock`,
      ['', 'JS heap', 'native', 'sum', 'resident', 'ms/acquire', ''],
      points.map(({ held, heapBytes, nativeBytes, residentBytes, acquireMs }) => [
        count(held),
        count(heapBytes),
        count(nativeBytes ?? Number.NaN),
        count(heapBytes + (nativeBytes ?? Number.NaN)),
        count(residentBytes),
        fixed(acquireMs),
        // A page of memory is 4 KiB, so only many locks show what one costs.
        held < 1_000 ? 'too few to tell' : '',
      ]),
    )
  }
  for (const { strategy, points } of inFlight ?? []) {
    table(
      `${strategy} calls in flight`,
      ['', 'pairs/s', 'p50 ms', 'p99 ms', ''],
      points.map(({ atOnce, perSecond, p50, p99, acquiresPerWait }) => [
        count(atOnce),
        count(perSecond),
        fixed(p50),
        fixed(p99),
        acquiresPerWait === null ? '' : `${fixed(acquiresPerWait, 1)} acquires share a WAIT`,
      ]),
    )
  }
  if (sizes) {
    table(
      'resources in the table of local locks',
      ['', '64 at once', 'synchronous', ''],
      sizes.map(({ resources, asyncPerSecond, syncPerSecond }) => [
        count(resources),
        count(asyncPerSecond),
        count(syncPerSecond),
        'pairs/s',
      ]),
    )
  }
}

/**
 * @param {string} runtime
 * @param {Verdict[]} verdicts
 */
export function printThresholds(runtime, verdicts) {
  table(
    `thresholds on ${runtime}`,
    ['', 'threshold', 'measured', ''],
    verdicts.map(({ text, threshold, value, reached }) => [
      text,
      threshold,
      value,
      reached ? 'met' : 'MISSED',
    ]),
  )
}
