/**
 * The tables of results in the documents, each between two comments that are not rendered:
 * `<!-- bench: name -->` and `<!-- /bench -->`.
 */
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

import { root } from '../../scripts/lib/shell.mjs'

/**
 * Replaces the table of this name.
 *
 * @param {string} document relative to the project's root
 * @param {string} name
 * @param {string[][]} rows the first one is the head
 */
export function writeTable(document, name, rows) {
  const region = new RegExp(`(<!-- bench: ${name} -->\n\n).*?(\n\n<!-- /bench -->)`, 's')
  const file = join(root, document)
  const text = readFileSync(file, 'utf8')
  if (!region.test(text)) throw new Error(`${document} has no table with the name ${name}`)
  writeFileSync(
    file,
    text.replace(region, (_, before, after) => `${before}${toTable(rows)}${after}`),
  )
}

/** As the project's formatter writes it. @param {string[][]} rows */
export function toTable(rows) {
  const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)))
  const [head = '', ...lines] = rows.map(
    (row) => `| ${row.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join(' | ')} |`,
  )
  return [head, `| ${widths.map((width) => '-'.repeat(width)).join(' | ')} |`, ...lines].join('\n')
}
