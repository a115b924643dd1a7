/**
 * Pages for the files of code to which the documents link, so that such a link leads to the code wherever the
 * site is.
 */
import { mkdirSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { dirname, extname, join } from 'node:path'

import { root } from '../scripts/lib/shell.mjs'
import { linkedSources, sourcePage } from './links.mjs'
import { sourcesFolder } from './pages.mjs'

/** Longer files are shown without colours, which would take the build minutes. */
const longest = 60_000

/** Writes the pages. */
export function writeSources() {
  rmSync(join(root, sourcesFolder), { recursive: true, force: true })
  for (const file of linkedSources()) {
    const page = join(root, sourcePage(file))
    mkdirSync(dirname(page), { recursive: true })
    const front = '---\nsearch: false\n---\n\n'
    writeFileSync(
      page,
      front + (statSync(join(root, file)).isDirectory() ? folderPage(file) : filePage(file)),
    )
  }
}

/** @param {string} file */
function filePage(file) {
  return `# ${file}\n\n${code(file)}\n`
}

/** @param {string} folder */
function folderPage(folder) {
  const files = readdirSync(join(root, folder), { withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => entry.name)
  return [`# ${folder}`, ...files.map((name) => `## ${name}\n\n${code(`${folder}/${name}`)}`)].join('\n\n')
}

/** A block that VitePress fills with the file. @param {string} file */
function code(file) {
  const known = new Map([
    ['.mjs', 'js'],
    ['.cjs', 'js'],
    ['.mts', 'ts'],
    ['.rs', 'rust'],
  ])
  const ending = extname(file)
  const language = statSync(join(root, file)).size > longest ? 'txt' : (known.get(ending) ?? ending.slice(1))
  return `<<< @/${file}{${language || 'txt'}}`
}
