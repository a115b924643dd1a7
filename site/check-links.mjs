/**
 * Checks the links of the built site. VitePress checks only whether a page exists, and not the headings.
 */
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'

/**
 * Throws an error with the links that lead nowhere.
 *
 * @param {string} folder the built site
 * @param {string} base where it is on its host
 */
export async function checkLinks(folder, base) {
  const files = readdirSync(folder, { recursive: true, encoding: 'utf8' }).map((file) =>
    file.replaceAll('\\', '/'),
  )
  const pages = new Map(
    files
      .filter((file) => file.endsWith('.html'))
      .map((file) => [`/${file}`, readFileSync(join(folder, file), 'utf8')]),
  )
  const ids = new Map([...pages].map(([file, html]) => [file, idsOf(html)]))
  const broken = []
  for (const [file, html] of pages) {
    for (const [, href = ''] of html.matchAll(/<a\b[^>]*\shref="([^"]*)"/g)) {
      const { origin, pathname, hash } = new URL(
        href.replaceAll('&amp;', '&'),
        `http://site${base}${file.slice(1)}`,
      )
      if (origin !== 'http://site') continue
      const path = decodeURI(pathname)
      const page = path.startsWith(base) ? pageOf(`/${path.slice(base.length)}`, pages) : undefined
      const id = decodeURIComponent(hash.slice(1))
      const isFile = page === undefined && existsSync(join(folder, path.slice(base.length)))
      const leads = page === undefined ? isFile : !id || ids.get(page)?.has(id)
      if (!leads) broken.push(`${file}: ${href}`)
    }
  }
  if (broken.length > 0) throw new Error(`links that lead nowhere:\n${[...new Set(broken)].join('\n')}`)
}

/** @param {string} html */
function idsOf(html) {
  return new Set([...html.matchAll(/\sid="([^"]*)"/g)].map(([, id]) => id))
}

/**
 * The file that a server returns for an address.
 *
 * @param {string} path
 * @param {Map<string, string>} pages
 */
function pageOf(path, pages) {
  const candidates = path.endsWith('/') ? [`${path}index.html`] : [path, `${path}.html`]
  return candidates.find((file) => pages.has(file))
}
