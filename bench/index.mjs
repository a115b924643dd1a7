/**
 * `npm run bench`: fencelock side by side with its peers, from a fresh clone. Sets up, starts Redis with two
 * replicas on loopback, lets the subjects take turns on Node and on Bun, and prints the results. A full run
 * also writes results.json, results.svg and the tables in docs/reference.
 */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { parseArgs } from 'node:util'

import { PlainError, runMain, say } from '../scripts/lib/shell.mjs'
import { makeFolder } from '../scripts/servers/processes.mjs'
import { inFolder } from './harness/context.mjs'
import { describeMachine, describeVersions } from './harness/machine.mjs'
import { prepare } from './harness/prepare.mjs'
import { findRuntimes } from './harness/runtimes.mjs'
import { startServers } from './harness/servers.mjs'
import { drawChart } from './report/chart.mjs'
import { writeComparison } from './report/comparison.mjs'
import { writeGuardTable } from './report/guards.mjs'
import { printResults, printThresholds } from './report/terminal.mjs'
import { judge } from './report/thresholds.mjs'
import { scenarios } from './scenarios/index.mjs'

/** @typedef {import('./scenarios/index.mjs').Results} Results */
/** @typedef {import('./harness/runtimes.mjs').Runtime} Runtime */
/** @typedef {import('./report/thresholds.mjs').Verdict} Verdict */

const usage = `npm run bench -- [--node] [--bun] [--only <part of a name>]… [--quick] [--fast] [--with-node <program>]

  --node, --bun   only this runtime
  --only          only the scenarios whose names contain this: ${scenarios.map(({ id }) => id).join(', ')}
  --quick         few and short rounds: shows that it works, but is not fit for comparisons
  --fast          with the addon that the tests use instead of a release build
  --with-node     another Node to run on

Only a full run writes results.json, results.svg and the tables in docs/reference.`

/** A full run takes about twenty minutes; with more rounds the medians would vary less. */
const FULL = { rounds: 5, seconds: 0.35 }
const QUICK = { rounds: 2, seconds: 0.15 }

async function main() {
  const { values } = parseArgs({
    options: {
      node: { type: 'boolean' },
      bun: { type: 'boolean' },
      only: { type: 'string', multiple: true },
      quick: { type: 'boolean', default: false },
      fast: { type: 'boolean', default: false },
      'with-node': { type: 'string' },
      help: { type: 'boolean', short: 'h' },
    },
  })
  if (values.help) return console.log(usage)
  const { only, quick } = values
  const chosen = scenarios.filter(({ id }) => only?.some((part) => id.includes(part)) ?? true)
  if (chosen.length === 0) throw new PlainError(`no scenario has such a name\n\n${usage}`)
  const all = values.node === undefined && values.bun === undefined
  const kinds = /** @type {const} */ (['node', 'bun']).filter((kind) => all || values[kind])

  const { env, redisServer, profile } = await prepare({
    ...values,
    databases: chosen.some(({ id }) => id === 'guards'),
  })
  const { runtimes, missing } = await findRuntimes(kinds, env, values['with-node'])
  for (const { kind, why } of missing) say(`without ${kind}: ${why}`)
  const settings = { profile, ...(quick ? QUICK : FULL) }
  const machine = describeMachine()
  const versions = await describeVersions(redisServer)

  const folder = makeFolder('fencelock-bench-')
  const servers = await startServers(redisServer)
  const measured = []
  let failed = false
  for (const runtime of runtimes) {
    /** @type {Results} */
    const results = { throughput: {}, network: {} }
    for (const { id, title, run } of chosen) {
      say(`${runtime.label}: ${title}`)
      try {
        await run(results, inFolder({ ...settings, runtime, servers, folder }, `${runtime.kind}-${id}`))
      } catch (error) {
        // The other scenarios are still useful.
        failed = true
        say(`${runtime.label}: ${title}: failed: ${error instanceof Error ? error.message : String(error)}`)
      }
    }
    measured.push({ label: runtime.label, results, thresholds: judge(results) })
  }
  await servers.stop()

  for (const { label, results } of measured) printResults(label, results)
  for (const { label, thresholds } of measured) printThresholds(label, thresholds)
  if (failed) throw new PlainError('some scenarios failed, see above')
  if (quick || only || !all) return
  const date = new Date().toISOString()
  write('results.json', toJson({ date, machine, versions, settings, missing, runtimes: measured }))
  const { fencelock, 'redis-server': redis } = versions
  const footer = `fencelock ${fencelock} · Redis ${redis} with two replicas on loopback · ${machine.cpu}, ${machine.cores} cores · ${machine.kernel} · ${date.slice(0, 10)}`
  write('results.svg', drawChart(measured, footer))
  writeGuardTable(measured)
  writeComparison(measured)
  say('written: the tables in docs/reference/benchmarks.md and comparison.md')
}

/** @param {string} name @param {string} text */
function write(name, text) {
  writeFileSync(join(import.meta.dirname, name), text)
  say(`written: bench/${name}`)
}

/** Five significant digits are enough. @param {string} _key @param {unknown} value */
function tidy(_key, value) {
  return typeof value === 'number' && !Number.isInteger(value) ? Number(value.toPrecision(5)) : value
}

/** Readable, and one line for each record. @param {unknown} value */
function toJson(value) {
  const text = JSON.stringify(value, tidy, 2)
  return `${text.replaceAll(/[{[][^{}[\]]*[}\]]/g, (leaf) => leaf.replaceAll(/\s*\n\s*/g, ' '))}\n`
}

await runMain(main)
