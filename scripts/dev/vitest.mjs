/**
 * Runs the TypeScript suites on one runtime.
 */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import { root, run, say } from '../lib/shell.mjs'

/** @typedef {import('./results.mjs').Result} Result */
/** @typedef {import('../runtimes/index.mjs').Runtime} Runtime */

/**
 * @param {Pick<Runtime, 'kind' | 'version' | 'path'>} runtime
 * @param {{ env: NodeJS.ProcessEnv, filters: string[], smoke: boolean, mayBeEmpty: boolean }} options
 *   `filters` are parts of file names, none means all; `smoke`: they are the smoke selection
 * @returns {Promise<Result>}
 */
export async function runVitest({ kind, version, path }, { env, filters, smoke, mayBeEmpty }) {
  const part = `${kind === 'bun' ? 'Bun' : 'Node'} ${version}${smoke ? ' (smoke)' : ''}`
  say(`suites on ${part}`)
  const folder = mkdtempSync(join(tmpdir(), 'fencelock-report-'))
  const file = join(folder, 'report.json')
  const begin = performance.now()
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
    { env: { ...env, FENCELOCK_EXPECTED_RUNTIME: `${kind} ${version}` }, limitMs: 15 * 60_000 },
  )
  const counts = readReport(file)
  rmSync(folder, { recursive: true, force: true })
  const seconds = (performance.now() - begin) / 1000
  if (ok || counts.failed > 0) return { part, ...counts, seconds }
  // An unhandled rejection, a crash, a leaked worker or a missing report is a failure, even if all tests
  // passed.
  return { part, ...counts, failed: 1, seconds, note: why }
}

/** @param {string} file */
function readReport(file) {
  try {
    const report = JSON.parse(readFileSync(file, 'utf8'))
    // A file that could not be loaded has no failed tests.
    const broken = report.testResults.filter(
      (
        /** @type {{ status: string, assertionResults: { status: string }[] }} */ {
          status,
          assertionResults,
        },
      ) => status === 'failed' && !assertionResults.some((test) => test.status === 'failed'),
    )
    return {
      passed: report.numPassedTests,
      failed: report.numFailedTests + broken.length,
      skipped: report.numPendingTests + report.numTodoTests,
    }
  } catch {
    return { passed: 0, failed: 0, skipped: 0 }
  }
}
