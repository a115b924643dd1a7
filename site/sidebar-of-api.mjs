/**
 * The sidebar of the API reference, from the files that typedoc wrote.
 */
import { existsSync, readdirSync } from 'node:fs'
import { join } from 'node:path'

import { root } from '../scripts/lib/shell.mjs'
import { entryPoints, moduleFolder } from './entry-points.mjs'
import { apiFolder, link } from './pages.mjs'

/** The folders of a module, by what is in them. */
const kinds = new Map([
  ['classes', 'Classes'],
  ['functions', 'Functions'],
  ['interfaces', 'Interfaces'],
  ['type-aliases', 'Types'],
])

/** A group for each entry point. */
export function apiSidebar() {
  return [...entryPoints().keys()].map((name) => {
    const folder = `${apiFolder}/${moduleFolder(name)}`
    return {
      text: name,
      link: link(`${folder}/index.md`),
      items: [...kinds].flatMap(([kind, text]) => {
        const items = names(`${folder}/${kind}`).map((page) => ({
          text: page,
          link: link(`${folder}/${kind}/${page}.md`),
        }))
        return items.length > 0
          ? [{ text, items, collapsed: kind !== 'classes' && kind !== 'functions' }]
          : []
      }),
    }
  })
}

/** @param {string} folder */
function names(folder) {
  if (!existsSync(join(root, folder))) return []
  return readdirSync(join(root, folder)).map((file) => file.replace(/\.md$/, ''))
}
