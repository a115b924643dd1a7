/**
 * All measures, in the order in which they run.
 */
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'

import { measureEventLoop } from './event-loop.mjs'
import { measureInFlight, measureMemory, measureTable } from './growth.mjs'
import { measureGuards } from './guards.mjs'
import { measureHandOver } from './hand-over.mjs'
import { measureProcessor } from './processor.mjs'
import { measureRenewals } from './renewals.mjs'
import { measureStall } from './stall.mjs'
import { measureThroughput, throughput } from './throughput.mjs'

/**
 * @typedef {object} Context
 * @property {import('../lib/runtimes.mjs').Runtime} runtime
 * @property {import('../lib/servers.mjs').Servers} servers
 * @property {string} folder of one measure
 * @property {number} rounds
 * @property {number} seconds of a turn
 */

/**
 * @typedef {object} Results what one runtime reached; a measure that was not asked for is missing
 * @property {Record<string, import('../lib/rounds.mjs').Row[]>} throughput by measure
 * @property {import('./processor.mjs').Processor[]} [processor]
 * @property {import('./stall.mjs').Stall} [stall]
 * @property {import('./event-loop.mjs').EventLoop[]} [eventLoop]
 * @property {{ subjects: import('./hand-over.mjs').HandOver[], commands: import('./hand-over.mjs').Commands }} [handOver]
 * @property {import('./renewals.mjs').Renewals} [renewals]
 * @property {import('./guards.mjs').GuardCost[]} [guards]
 * @property {import('./growth.mjs').Memory[]} [memory]
 * @property {import('./growth.mjs').InFlight[]} [inFlight]
 * @property {import('./growth.mjs').Table} [table]
 */

/** @type {{ id: string, title: string, run: (results: Results, context: Context) => Promise<void> }[]} */
export const measures = [
  ...throughput.map((measure) => ({
    id: measure.id,
    title: measure.title,
    /** @param {Results} results @param {Context} context */
    async run(results, context) {
      results.throughput[measure.id] = await measureThroughput(measure, context)
    },
  })),
  {
    id: 'processor',
    title: 'where the time goes',
    async run(results, context) {
      results.processor = await measureProcessor(context)
    },
  },
  {
    id: 'stall',
    title: 'a healthy replica beside a stopped one',
    async run(results, context) {
      results.stall = await measureStall(context)
    },
  },
  {
    id: 'event-loop',
    title: 'event-loop delay under 5,000 acquires a second',
    async run(results, context) {
      results.eventLoop = await measureEventLoop(context)
    },
  },
  {
    id: 'hand-over',
    title: 'a lock that many wait for',
    async run(results, context) {
      results.handOver = await measureHandOver(context)
    },
  },
  {
    id: 'renewals',
    title: 'ten thousand leases that are kept alive',
    async run(results, context) {
      results.renewals = await measureRenewals(context)
    },
  },
  {
    id: 'guards',
    title: 'guarded writes',
    async run(results, context) {
      results.guards = await measureGuards(context)
    },
  },
  {
    id: 'growth-memory',
    title: 'memory of held locks',
    async run(results, context) {
      results.memory = await measureMemory(context)
    },
  },
  {
    id: 'growth-in-flight',
    title: 'calls in flight',
    async run(results, context) {
      results.inFlight = await measureInFlight(context)
    },
  },
  {
    id: 'growth-table',
    title: 'resources in the table',
    async run(results, context) {
      results.table = await measureTable(context)
    },
  },
]

/** A folder that no other measure has. @param {Context} context @param {string} name @returns {Context} */
export function apart(context, name) {
  const folder = join(context.folder, name)
  mkdirSync(folder, { recursive: true })
  return { ...context, folder }
}
