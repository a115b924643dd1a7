/** The tables of other lock libraries in docs/reference/comparison.md. */
import { writeTable } from './tables.mjs'

/** @typedef {import('../harness/rounds.mjs').Row} Row */
/** @typedef {{ label: string, results: import('../scenarios/index.mjs').Results }} RuntimeResults */

/** How the tables call each subject. */
const onRedis = /** @type {const} */ ([
  ['fencelock-strong', 'fencelock, strong: 2 acknowledgements, token'],
  ['redlock', 'redlock 5'],
  ['redlock-universal', 'redlock-universal'],
  ['redis-semaphore', 'redis-semaphore'],
])
const onFiles = /** @type {const} */ ([
  ['fencelock-local', 'fencelock, local: token'],
  ['proper-lockfile', 'proper-lockfile'],
])

/** @param {RuntimeResults[]} runtimes Node.js and Bun */
export function writeComparison(runtimes) {
  for (const [name, rows] of Object.entries(comparisonTables(runtimes)))
    writeTable('docs/reference/comparison.md', name, rows)
}

/** @param {RuntimeResults[]} runtimes Node.js and Bun */
export function comparisonTables(runtimes) {
  /** @param {string} scenario @param {string} id @param {(row: Row) => string} show */
  const both = (scenario, id, show) =>
    runtimes
      .map(({ results }) => results.throughput[scenario]?.find((row) => row.id === id))
      .map((row) => (row ? show(row) : '–'))
      .join(' / ')
  const runtime = `(${runtimes.map(({ label }) => label).join(' / ')})`
  return {
    redis: [
      [`on Redis ${runtime}`, 'one at a time, median', '64 at once, a second', '512 at once, a second'],
      ...onRedis.map(([id, name]) => [
        name,
        both('strong-1', id, ({ p50 }) => `${p50.toFixed(2)} ms`),
        both('strong-64', id, thousands),
        both('strong-512', id, thousands),
      ]),
    ],
    files: [
      [`on files ${runtime}`, '64 at once, a second', 'synchronous, one at a time, a second'],
      ...onFiles.map(([id, name]) => [
        name,
        both('local-64', id, thousands),
        both('local-sync', id, thousands),
      ]),
    ],
  }
}

/** @param {Row} row */
function thousands({ perSecond }) {
  return `${(perSecond / 1000).toFixed(1)} k`
}
