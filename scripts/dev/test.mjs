/**
 * `npm test`: everything from a fresh clone. Sets up, finds or installs the servers and the runtimes, runs
 * the Rust tests and then the suites on Node and on Bun; ends with a table and the line `N passed, N failed`.
 */
import { readFileSync } from 'node:fs'
import { parseArgs } from 'node:util'

import { capture, PlainError, runMain } from '../lib/shell.mjs'
import { need } from '../lib/tools.mjs'
import { runtimesOfThisPlatform } from '../runtimes/index.mjs'
import { findRedis6 } from '../servers/redis-6.mjs'
import { findValkey } from '../servers/valkey.mjs'
import { installTools } from './install-tools.mjs'
import { report } from './results.mjs'
import { runRust } from './rust.mjs'
import { installPackages, setUp } from './setup.mjs'
import { runVitest } from './vitest.mjs'

/** @typedef {import('./results.mjs').Result} Result */

const usage = `npm test -- [--rust] [--node] [--bun] [--only <part of a name>] [--all-runtimes]

  --rust, --node, --bun   only these parts
  --only                  only spec files whose paths, or Rust tests whose names, contain this
  --all-runtimes          all suites on every runtime, not a smoke selection on the oldest and newest ones
  --rows <file>           results of other checks to include: lines of "name<TAB>passed|failed<TAB>seconds"`

/** The smoke selection: what a new or an old runtime could break. These are parts of file names. */
const smoke = [
  '__test__/tooling/runtime.',
  // Without the variants that differ from these in nothing that a runtime could break.
  ...['strong', 'quorum-of-3', 'local', 'in-memory'].map((name) => `__test__/contract/${name}.`),
  '__test__/strong/replicas/acknowledgements.',
  '__test__/strong/keys.',
  '__test__/local/file.',
  '__test__/local/foreign-database.',
  '__test__/local/synchronous.',
  '__test__/manager/lifecycle.',
  '__test__/manager/describe.',
  '__test__/cli/run.',
  '__test__/cli/signals.',
  '__test__/cli/terminal.',
  // Each runtime has its own SQLite drivers, and Node 20 has none.
  '__test__/guard/sqlite.',
]

/** The specs about the project's own scripts and test servers, which one runtime runs. */
const ownTools = [
  '__test__/fixtures/**',
  ...['gate', 'imports', 'release', 'servers', 'tools', 'workflows'].map(
    (name) => `__test__/tooling/${name}.spec.ts`,
  ),
]

/**
 * The specs of the web site, which have a part of their own: building it takes all processors for a while,
 * and many other tests measure time.
 */
const site = ['pages', 'site'].map((name) => `__test__/site/${name}.spec.ts`)

/** The specs that need no server. Windows, for which there is no Redis, runs only these. */
const withoutServers = [
  '__test__/tooling/runtime.',
  '__test__/tooling/gate.',
  '__test__/contract/',
  '__test__/manager/options.',
  '__test__/local/file.',
  '__test__/local/foreign-database.',
  '__test__/local/memory.',
  '__test__/local/synchronous.',
  '__test__/native/loading.',
  '__test__/native/load-errors.',
  '__test__/guard/guard.',
  '__test__/guard/sqlite.',
]
const onWindows = process.platform === 'win32'

const currentNode = {
  kind: /** @type {const} */ ('node'),
  version: process.versions.node,
  path: process.execPath,
}

async function main() {
  const { values } = parseArgs({
    options: {
      rust: { type: 'boolean' },
      node: { type: 'boolean' },
      bun: { type: 'boolean' },
      only: { type: 'string' },
      'all-runtimes': { type: 'boolean' },
      rows: { type: 'string' },
      help: { type: 'boolean', short: 'h' },
    },
  })
  if (values.help) return console.log(usage)
  /** @type {Result[]} */
  const results = []
  try {
    await runParts(results, values)
  } catch (error) {
    if (!(error instanceof PlainError)) throw error
    results.push({ part: 'set-up', passed: 0, failed: 1, skipped: 0, seconds: 0, note: error.message })
  }
  if (results.every(({ passed, failed }) => passed + failed === 0)) {
    results.push({ part: 'all', passed: 0, failed: 1, skipped: 0, seconds: 0, note: 'no test was run' })
  }
  const others = values.rows ? readRows(values.rows) : []
  if (!report([...others, ...results])) process.exitCode = 1
}

/**
 * @param {Result[]} results each part adds its own
 * @param {{ only?: string, rust?: boolean, node?: boolean, bun?: boolean, 'all-runtimes'?: boolean }} options
 */
async function runParts(results, { only, rust, node, bun, 'all-runtimes': everywhere = false }) {
  const all = rust === undefined && node === undefined && bun === undefined
  const problems = await installTools()
  if (problems.length > 0) throw new PlainError(problems.join('; '))
  await setUp()
  const env = { ...process.env, ...(onWindows ? {} : await findServers()) }

  if (all || rust) results.push(await runRust(env, only))
  if (all || node || bun) {
    await installPackages('scripts/runtimes')
    await installPackages('__test__/projects/redis-clients')
    await installPackages('__test__/projects/otel')
    await installPackages('__test__/projects/prisma')
    await installPackages('__test__/projects/test-runners')
    await installPackages('examples')
    for (const { full, ...runtime } of await plan(everywhere)) {
      if (!(all || (runtime.kind === 'bun' ? bun : node))) continue
      const filters = only ? [only] : onWindows ? withoutServers : full ? [] : smoke
      const options = {
        env,
        filters,
        smoke: !full && !only,
        exclude: [...site, ...(runtime.path === process.execPath ? [] : ownTools)],
        mayBeEmpty: only !== undefined,
      }
      results.push(await runVitest(runtime, options))
    }
    if ((all || node) && !onWindows) results.push(...(await runSite(env, only)))
  }
}

/**
 * Builds the site and looks at it in a browser.
 *
 * @param {NodeJS.ProcessEnv} env
 * @param {string | undefined} only
 */
async function runSite(env, only) {
  const filters = site.filter((file) => !only || file.includes(only))
  if (filters.length === 0) return []
  await installPackages('site')
  const options = { env, filters, exclude: [], smoke: false, mayBeEmpty: false }
  const result = await runVitest(currentNode, options)
  return [{ ...result, part: 'site' }]
}

/** The environment in which the tests find the servers that are not where they look themselves. */
async function findServers() {
  const valkey = await findValkey()
  const redis6 = await findRedis6()
  const redis = await need('redis-server', 'FENCELOCK_REDIS_SERVER')
  return {
    FENCELOCK_REDIS_SERVER: redis,
    ...(valkey && { FENCELOCK_VALKEY_SERVER: valkey }),
    ...(redis6 && { FENCELOCK_REDIS_6_SERVER: redis6 }),
  }
}

/**
 * What runs on which runtime: everything on the current Node and on the newest Bun, the smoke selection on
 * the oldest and the newest ones.
 *
 * @param {boolean} everywhere
 */
async function plan(everywhere) {
  const others = runtimesOfThisPlatform()
  const missing = []
  for (const { name, path } of others) {
    if (!(await capture(path, ['--version']))) missing.push(name)
  }
  if (missing.length > 0) throw new PlainError(`these test runtimes do not start: ${missing.join(', ')}`)
  return [
    { ...currentNode, full: true },
    ...others
      .filter(({ name }) => everywhere || /-(oldest|newest)$/.test(name))
      .map((runtime) => Object.assign(runtime, { full: everywhere || runtime.name === 'bun-newest' }))
      // The full runs first: they find the most.
      .toSorted((a, b) => Number(b.full) - Number(a.full)),
  ]
}

/** @param {string} file @returns {Result[]} */
function readRows(file) {
  return readFileSync(file, 'utf8')
    .split('\n')
    .filter(Boolean)
    .map((line) => {
      const [part = '', outcome, seconds] = line.split('\t')
      const passed = outcome === 'passed' ? 1 : 0
      return { part, passed, failed: 1 - passed, skipped: 0, seconds: Number(seconds) }
    })
}

await runMain(main)
