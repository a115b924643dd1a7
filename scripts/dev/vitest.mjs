/**
 * Runs the TypeScript suites on one runtime.
 */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, relative } from 'node:path'

import { root, run, say } from '../lib/shell.mjs'

/** @typedef {import('./results.mjs').Result} Result */
/** @typedef {import('../runtimes/index.mjs').Runtime} Runtime */

/**
 * @param {Pick<Runtime, 'kind' | 'version' | 'path'>} runtime
 * @param {object} options
 * @param {NodeJS.ProcessEnv} options.env
 * @param {string[]} options.filters parts of file names; none means all
 * @param {string[]} options.exclude patterns of file names
 * @param {boolean} options.smoke whether this is the smoke selection
 * @param {boolean} options.mayBeEmpty
 * @returns {Promise<Result>}
 */
export async function runVitest({ kind, version, path }, { env, filters, exclude, smoke, mayBeEmpty }) {
  const part = `${kind === 'bun' ? 'Bun' : 'Node'} ${version}${smoke ? ' (smoke)' : ''}`
  say(`suites on ${part}`)
  const folder = mkdtempSync(join(tmpdir(), 'fencelock-report-'))
  const file = join(folder, 'report.json')
  const begin = performance.now()
  // vitest.config.mts reads it.
  const excluded = { FENCELOCK_EXCLUDED_SPECS: exclude.join('\n') }
  const { ok, why } = await run(
    path,
    [
      // Otherwise vitest would start its test processes with Node.
      ...(kind === 'bun' ? ['--bun'] : []),
      join(root, 'node_modules/vitest/vitest.mjs'),
      'run',
      '--reporter=default',
      '--reporter=json',
      `--outputFile.json=${file}`,
      ...(mayBeEmpty ? ['--passWithNoTests'] : []),
      ...filters,
    ],
    // A spec compares this with the actual runtime.
    { env: { ...env, ...excluded, FENCELOCK_EXPECTED_RUNTIME: `${kind} ${version}` }, limitMs: 25 * 60_000 },
  )
  const counts = readReport(file)
  rmSync(folder, { recursive: true, force: true })
  const seconds = (performance.now() - begin) / 1000
  if (ok || counts.failed > 0) return { part, ...counts, seconds }
  // An unhandled rejection, a crash, a leaked worker or a missing report is a failure, even if all tests
  // passed.
  return { part, ...counts, failed: 1, seconds, note: why }
}

/**
 * @typedef {object} FileReport
 * @property {string} name the path of the spec file
 * @property {string} status
 * @property {string} message why it could not be loaded
 * @property {{ fullName: string, status: string, failureMessages: string[] }[]} assertionResults
 */

/** @param {string} file */
function readReport(file) {
  try {
    const report = JSON.parse(readFileSync(file, 'utf8'))
    const failures = report.testResults.flatMap(failuresOf)
    return {
      passed: report.numPassedTests,
      failed: failures.length,
      skipped: report.numPendingTests + report.numTodoTests,
      failures,
    }
  } catch {
    return { passed: 0, failed: 0, skipped: 0 }
  }
}

/** @param {FileReport} report */
function failuresOf({ name, status, message, assertionResults }) {
  const line = (/** @type {string} */ what, /** @type {string} */ why) =>
    `${relative(root, name)}: ${what}: ${why.split('\n')[0]}`
  const failed = assertionResults.filter((test) => test.status === 'failed')
  // A file that could not be loaded has no failed tests.
  if (status === 'failed' && failed.length === 0) return [line('the file', message)]
  return failed.map((test) => line(test.fullName, test.failureMessages[0] ?? ''))
}
