/**
 * Numbers and tables as text.
 */

/** @param {number} value */
export const count = (value) => (Number.isFinite(value) ? Math.round(value).toLocaleString('en') : '–')
/** @param {number} value @param {number} [digits] */
export const fixed = (value, digits = 3) => (Number.isFinite(value) ? value.toFixed(digits) : '–')
/** @param {number} value */
export const times = (value) => (Number.isFinite(value) ? `${value.toFixed(2)}×` : '–')

/**
 * Prints a table: the first column left-aligned, numbers right-aligned, the last column as it is.
 *
 * @param {string} title
 * @param {string[]} head
 * @param {string[][]} rows
 */
export function table(title, head, rows) {
  const all = [head, ...rows]
  const widths = head.map((_, column) => Math.max(...all.map((row) => row[column]?.length ?? 0)))
  console.log(`\n${title}`)
  for (const row of all) {
    const cells = row.map((text, column) => {
      if (column === 0) return text.padEnd(widths[0] ?? 0)
      return column === head.length - 1 ? text : text.padStart(widths[column] ?? 0)
    })
    console.log(`  ${cells.join('  ').trimEnd()}`)
  }
}
