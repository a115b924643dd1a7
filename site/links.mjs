/**
 * Links that work on GitHub and on the site: a relative path to a file becomes the address of its page.
 */
import { existsSync, readFileSync } from 'node:fs'
import { join, posix } from 'node:path'

import { root } from '../scripts/lib/shell.mjs'
import { entryPoints, moduleFolder } from './entry-points.mjs'
import { apiFolder, documents, firstPage, link, sourcesFolder } from './pages.mjs'

const pages = new Set(documents())

/**
 * Where a relative link of a document leads.
 *
 * @param {string} file the document
 * @param {string} href such as `../reference/errors.md#held`
 * @returns {{ file: string, hash: string } | undefined} undefined for one that is not a path
 */
function target(file, href) {
  if (/^(?:[a-z][a-z\d+.-]*:|\/|#)/i.test(href)) return undefined
  const [path = '', hash = ''] = href.split(/(?=#)/)
  return { file: posix.join(posix.dirname(file), decodeURI(path)).replace(/\/$/, ''), hash }
}

/**
 * A link of a document as the site has it.
 *
 * @param {string} file
 * @param {string} href
 */
export function siteLink(file, href) {
  const found = target(file, href)
  if (!found) return href
  return pageFor(found.file) + found.hash
}

/** @param {string} file a file or folder of this project */
function pageFor(file) {
  if (pages.has(file) || file.startsWith('site/generated/')) return link(file)
  const readme = posix.join(file, 'README.md')
  if (pages.has(readme)) return link(readme)
  const first = firstPage(file)
  if (first) return link(first)
  for (const [name, declarations] of entryPoints()) {
    if (declarations === file) return link(`${apiFolder}/${moduleFolder(name)}/index.md`)
  }
  return link(sourcePage(file))
}

/**
 * The page of a file or folder of code. Its address has no ending, which servers would take for the type,
 * and no brackets, which VitePress would take for a parameter.
 *
 * @param {string} file
 */
export function sourcePage(file) {
  return `${sourcesFolder}/${file.replaceAll(/[.[\]]/g, '-')}.md`
}

/**
 * The files and folders to which documents link, and which are not documents.
 *
 * @returns {string[]}
 */
export function linkedSources() {
  const found = new Set()
  for (const file of pages) {
    const text = readFileSync(join(root, file), 'utf8')
    for (const [, href = ''] of text.matchAll(/(?<!!\[[^\]]*)\]\(([^)\s]+)\)/g)) {
      const linked = target(file, href)
      if (linked && pageFor(linked.file) === link(sourcePage(linked.file))) found.add(linked.file)
    }
  }
  return [...found].filter((file) => existsSync(join(root, file)))
}

/**
 * The plugin for markdown-it.
 *
 * @param {import('vitepress').MarkdownRenderer} md
 */
export function repositoryLinks(md) {
  md.core.ruler.push('repository-links', (state) => {
    const file = sourceOf(state.env)
    // Titles are parsed by themselves.
    if (file === undefined) return
    for (const { children } of state.tokens) {
      for (const token of children ?? []) {
        const href = token.type === 'link_open' ? token.attrGet('href') : null
        if (href) token.attrSet('href', siteLink(file, href))
      }
    }
  })
}

/** The document that is rendered. @param {{ realPath?: string, path?: string }} env */
function sourceOf({ realPath, path }) {
  const file = realPath ?? path
  return file && posix.relative(root.replaceAll('\\', '/'), file)
}
