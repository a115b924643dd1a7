/**
 * The results of a test run.
 */

/**
 * @typedef {object} Result
 * @property {string} part
 * @property {number} passed
 * @property {number} failed
 * @property {number} skipped
 * @property {number} seconds
 * @property {string} [note] why it failed although its tests passed, or why it was skipped
 * @property {string[]} [failures] the tests that failed, each with the first line of its error
 */

/**
 * Prints the results as a table, the tests that failed and, on the last line, the sum.
 *
 * @param {Result[]} results
 * @returns {boolean} true when nothing failed
 */
export function report(results) {
  const head = ['part', 'passed', 'failed', 'skipped', 'time', '']
  const rows = results.map(({ part, passed, failed, skipped, seconds, note = '' }) => [
    part,
    String(passed),
    String(failed),
    String(skipped),
    `${seconds.toFixed(0)} s`,
    note,
  ])
  const widths = head.map((_, column) => Math.max(...[head, ...rows].map((row) => row[column]?.length ?? 0)))
  const line = (/** @type {string[]} */ row) =>
    row
      .map((text, column) =>
        column % 5 ? text.padStart(widths[column] ?? 0) : text.padEnd(widths[column] ?? 0),
      )
      .join('  ')
  console.log(`\n${[head, ...rows].map((row) => line(row).trimEnd()).join('\n')}\n`)
  // Once more at the end: the output above is long, and a log may be cut.
  for (const { part, failures = [] } of results) {
    for (const failure of failures) console.log(`FAILED  ${part}: ${failure}`)
  }
  const sum = (/** @type {'passed' | 'failed'} */ key) =>
    results.reduce((total, result) => total + result[key], 0)
  console.log(`${sum('passed')} passed, ${sum('failed')} failed`)
  return sum('failed') === 0
}
