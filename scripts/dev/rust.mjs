/**
 * Runs the tests of the Rust core.
 */
import { run, say, which } from '../lib/shell.mjs'

/** @typedef {import('./results.mjs').Result} Result */

/**
 * @param {NodeJS.ProcessEnv} env
 * @param {string | undefined} only a part of the tests' names
 * @returns {Promise<Result>}
 */
export async function runRust(env, only) {
  // nextest is faster and runs each test in a process of its own; it does not run doc tests.
  const nextest = which('cargo-nextest') !== null
  say(`Rust tests, with ${nextest ? 'cargo nextest' : 'cargo test'}`)
  const args = nextest
    ? ['nextest', 'run', '--workspace', '--no-fail-fast', '--no-tests=pass']
    : ['test', '--workspace', '--no-fail-fast']
  const begin = performance.now()
  let output = ''
  const { ok, why } = await run('cargo', [...args, '--locked', ...(only ? [only] : [])], {
    env,
    limitMs: 15 * 60_000,
    onOutput: (text) => (output += text),
  })
  // eslint-disable-next-line no-control-regex -- terminal colours
  output = output.replaceAll(/\u001B\[[\d;]*m/g, '')
  const counts = { ...count(output), failures: failures(output) }
  const seconds = (performance.now() - begin) / 1000
  if (ok || counts.failed > 0) return { part: 'Rust', ...counts, seconds }
  return { part: 'Rust', ...counts, failed: 1, seconds, note: why }
}

/**
 * Adds up the summaries of the runner: nextest prints one, `cargo test` one per test program.
 *
 * @param {string} output
 */
function count(output) {
  const number = (/** @type {RegExp} */ pattern) =>
    [...output.matchAll(pattern)].reduce((sum, match) => sum + Number(match[1]), 0)
  const [passed, failed, timedOut, skipped] = [
    number(/^(?: *Summary .*tests? run|test result):.*?(\d+) passed/gm),
    number(/^(?: *Summary .*tests? run|test result):.*?(\d+) failed/gm),
    number(/^ *Summary .*tests? run:.*?(\d+) timed out/gm),
    number(/^(?: *Summary .*tests? run|test result):.*?(\d+) (?:skipped|ignored)/gm),
  ]
  return { passed, failed: failed + timedOut, skipped }
}

/**
 * The names of the tests that failed, as either runner tells them.
 *
 * @param {string} output
 */
function failures(output) {
  const names = [
    ...output.matchAll(/^ *(?:FAIL|TIMEOUT|SIG[A-Z]+) \[[^\]]*\] (?:\([^)]*\) )?(.+)$/gm),
    ...output.matchAll(/^test (.+) \.\.\. FAILED$/gm),
  ]
  // nextest lists them again in its summary.
  return [...new Set(names.map(([, name]) => String(name).trim()))]
}
