/** The table of the guards in docs/reference/benchmarks.md. */
import { writeTable } from './tables.mjs'

/** @typedef {import('../scenarios/guards/measure.mjs').GuardCost} GuardCost */
/** @typedef {{ label: string, results: import('../scenarios/index.mjs').Results }} RuntimeResults */

/** How the table calls each client. */
const names = /** @type {Record<string, string>} */ ({
  pg: '`pg`, Pool',
  'pg.Client': '`pg`, Client',
  postgres: '`postgres`',
  'Bun.sql': '`Bun.sql`, PostgreSQL',
  mysql2: '`mysql2`, pool',
  'mysql2 connection': '`mysql2`, connection',
  mariadb: '`mariadb`, pool',
  'mariadb connection': '`mariadb`, connection',
  'Bun.sql (MySQL)': '`Bun.sql`, MariaDB',
  'better-sqlite3': 'better-sqlite3',
  'node:sqlite': '`node:sqlite`',
  'bun:sqlite': '`bun:sqlite`',
  ioredis: '`ioredis`: `SET`',
  redis: '`redis`: `SET`',
  HTTP: 'a request behind the HTTP fence, in Redis',
})

/** @param {RuntimeResults[]} runtimes in the order of the table's columns: Node.js, Bun */
export function writeGuardTable(runtimes) {
  const costs = runtimes.map(({ results }) => results.guards ?? [])
  const ids = [...new Set(costs.flat().map(({ id }) => id))]
  const rows = ids.map((id) => {
    const found = costs.map((all) => all.find((cost) => cost.id === id && cost.unavailable === undefined))
    const trips = found.find((cost) => cost?.trips)?.trips
    return [names[id] ?? id, trips ? String(trips.guarded - trips.own) : 'none: no server'].concat(
      found.map(share),
    )
  })
  const head = ['a guarded write', 'round trips more', ...runtimes.map(({ label }) => label)]
  writeTable('docs/reference/benchmarks.md', 'guards', [head, ...rows])
}

/** @param {GuardCost | undefined} cost */
function share(cost) {
  return cost ? `${cost.ratio.toFixed(1)}× (${cost.own.toFixed(2)} → ${cost.guarded.toFixed(2)} ms)` : '–'
}
