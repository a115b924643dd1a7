/**
 * All scenarios, in the order in which they run.
 */
import { measureDeployments } from './deployments/measure.mjs'
import { measureEventLoop } from './event-loop/measure.mjs'
import { measureGuards } from './guards/measure.mjs'
import { measureHandoff } from './handoff/measure.mjs'
import { measureInFlight } from './in-flight/measure.mjs'
import { measureMemory } from './memory/measure.mjs'
import { measureNetwork, networks } from './network/measure.mjs'
import { measureProcessor } from './processor/measure.mjs'
import { measureQuorum } from './quorum/measure.mjs'
import { measureRenewals } from './renewals/measure.mjs'
import { measureStall } from './stall/measure.mjs'
import { measureTable } from './table/measure.mjs'
import { measureThroughput, throughput } from './throughput/measure.mjs'

/** @typedef {import('../harness/context.mjs').Context} Context */

/**
 * @typedef {object} Results of one runtime; a scenario that was not asked for is missing
 * @property {Record<string, import('../harness/rounds.mjs').Row[]>} throughput by scenario
 * @property {Record<string, import('./network/measure.mjs').Network>} network by scenario
 * @property {import('./processor/measure.mjs').Processor[]} [processor]
 * @property {import('./deployments/measure.mjs').DeploymentLoad[]} [deployments]
 * @property {import('./quorum/measure.mjs').QuorumCost} [quorum]
 * @property {import('./stall/measure.mjs').Stall} [stall]
 * @property {import('./event-loop/measure.mjs').EventLoop[]} [eventLoop]
 * @property {{ subjects: import('./handoff/measure.mjs').Handoff[], commands:
 *   import('./handoff/measure.mjs').Commands }} [handoff]
 * @property {import('./renewals/measure.mjs').Renewals} [renewals]
 * @property {import('./guards/measure.mjs').GuardCost[]} [guards]
 * @property {import('./memory/measure.mjs').Memory[]} [memory]
 * @property {import('./in-flight/measure.mjs').InFlight[]} [inFlight]
 * @property {import('./table/measure.mjs').Table} [table]
 */

/**
 * @typedef {{ id: string, title: string, run: (results: Results, context: Context) => Promise<void> }}
 *   Scenario
 */

/**
 * A scenario that has a result of its own.
 *
 * @template {Exclude<keyof Results, 'throughput' | 'network'>} K
 * @param {string} id
 * @param {string} title
 * @param {K} key of the result
 * @param {(context: Context) => Promise<Results[K]>} measure
 * @returns {Scenario}
 */
function scenario(id, title, key, measure) {
  return {
    id,
    title,
    async run(results, context) {
      results[key] = await measure(context)
    },
  }
}

/** @type {Scenario[]} */
export const scenarios = [
  ...throughput.map((each) => ({
    id: each.id,
    title: each.title,
    /** @param {Results} results @param {Context} context */
    async run(results, context) {
      results.throughput[each.id] = await measureThroughput(each, context)
    },
  })),
  scenario('processor', 'where the time goes', 'processor', measureProcessor),
  ...networks.map((each) => ({
    id: each.id,
    title: `round trips of 0 to 1 ms, ${each.title}`,
    /** @param {Results} results @param {Context} context */
    async run(results, context) {
      results.network[each.id] = await measureNetwork(each, context)
    },
  })),
  scenario('deployments', 'a cluster, and Sentinels', 'deployments', measureDeployments),
  scenario('quorum', 'a quorum of five nodes', 'quorum', measureQuorum),
  scenario('stall', 'a healthy replica next to a stopped one', 'stall', measureStall),
  scenario('event-loop', 'event-loop delay under 5,000 acquires a second', 'eventLoop', measureEventLoop),
  scenario('handoff', 'a contended lock', 'handoff', measureHandoff),
  scenario('renewals', 'ten thousand renewed leases', 'renewals', measureRenewals),
  scenario('guards', 'guarded writes', 'guards', measureGuards),
  scenario('growth-memory', 'memory of held locks', 'memory', measureMemory),
  scenario('growth-in-flight', 'calls in flight', 'inFlight', measureInFlight),
  scenario('growth-table', 'resources in the table', 'table', measureTable),
]
