/**
 * Which Markdown files are pages of the site, under which address, and in which order the sidebar has them.
 * All paths are relative to the project's root, as links on GitHub are.
 */
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'

import { root } from '../scripts/lib/shell.mjs'

/** Where the API reference is written before every build. */
export const apiFolder = 'site/generated/api'

/** Where pages are written for the files of code to which the documents link. */
export const sourcesFolder = 'site/generated/source'

/**
 * The groups of the sidebar: pages are in this order, and the others of the folder follow.
 *
 * @type {{ title: string, folder: string, first: string[], rest?: boolean, section: Section }[]}
 */
const groups = [
  {
    title: 'Guide',
    folder: 'docs/guide',
    first: ['choosing-a-strategy', 'waiting', 'renewal-and-loss', 'fencing'],
    section: 'guide',
  },
  {
    title: 'Redis',
    folder: 'docs/guide',
    first: ['redis-deployments', 'quorum', 'managed-services', 'permissions'],
    section: 'guide',
  },
  {
    title: 'In practice',
    folder: 'docs/guide',
    first: [
      'jobs',
      'leaders',
      'idempotent-handlers',
      'hand-over',
      'command-line',
      'production',
      'testing',
      'diagnostics-channels',
      'opentelemetry',
    ],
    rest: true,
    section: 'guide',
  },
  { title: 'Migrating to fencelock', folder: 'docs/moving', first: ['README'], rest: true, section: 'guide' },
  { title: 'Examples', folder: 'examples', first: ['README'], rest: true, section: 'guide' },
  {
    title: 'Reference',
    folder: 'docs/reference',
    first: ['options', 'errors', 'guarantees', 'installing', 'troubleshooting', 'benchmarks'],
    rest: true,
    section: 'reference',
  },
  { title: 'Guards', folder: 'guard', first: ['README'], section: 'reference' },
  {
    title: 'Internals',
    folder: 'docs/internals',
    first: ['glossary', 'lifecycle', 'calls', 'guards', 'redis', 'quorum', 'sqlite'],
    rest: true,
    section: 'internals',
  },
]

/** The pages in the project's root, and where they are on the site. */
const single = new Map([
  ['README.md', 'index.md'],
  ['guard/README.md', 'reference/guard.md'],
  ['ARCHITECTURE.md', 'internals/architecture.md'],
  ['CONTRIBUTING.md', 'internals/contributing.md'],
  ['CHANGELOG.md', 'changelog.md'],
])

/** @typedef {'guide' | 'reference' | 'internals'} Section */

/**
 * The path of a page on the site, such as `guide/fencing.md`; the same path if it is not one.
 *
 * @param {string} file
 */
export function address(file) {
  const known = single.get(file)
  if (known) return known
  return file
    .replace(/^docs\//, '')
    .replace(/^site\/generated\//, '')
    .replace(/^(examples\/.+)\/README\.md$/, '$1.md')
    .replace(/(^|\/)README\.md$/, '$1index.md')
}

/** The address of a page as links have it, such as `/guide/fencing`. @param {string} file */
export function link(file) {
  return `/${address(file)
    .replace(/\.md$/, '')
    .replace(/(^|\/)index$/, '$1')}`
}

/** The Markdown files of a folder, without the ending. @param {string} folder */
function names(folder) {
  if (!existsSync(join(root, folder))) return []
  const files = readdirSync(join(root, folder), { withFileTypes: true })
  const readmes = files
    .filter((file) => file.isDirectory() && existsSync(join(root, folder, file.name, 'README.md')))
    .map((file) => `${file.name}/README`)
  const pages = files.filter((file) => file.name.endsWith('.md')).map((file) => file.name.slice(0, -3))
  return [...pages, ...readmes].toSorted()
}

/** The files of a group, in order. @param {(typeof groups)[number]} group */
function filesOf({ folder, first, rest }) {
  const all = names(folder)
  const placed = new Set(groups.filter((group) => group.folder === folder).flatMap((group) => group.first))
  const others = rest ? all.filter((name) => !placed.has(name)) : []
  return [...first.filter((name) => all.includes(name)), ...others].map((name) => `${folder}/${name}.md`)
}

/** The title of a page: its first heading. @param {string} file */
export function title(file) {
  const heading = /^# (.+)$/m.exec(readFileSync(join(root, file), 'utf8'))?.[1]
  if (!heading) throw new Error(`${file} has no heading of the first level`)
  return heading.replaceAll(/[`\\]/g, '')
}

/** @param {string} file @param {string} [text] */
const item = (file, text = title(file)) => ({ text, link: link(file) })

/**
 * The groups of one section, or of several, as VitePress has them.
 *
 * @param {Section[]} sections
 */
export function sidebar(...sections) {
  return groups
    .filter((group) => sections.includes(group.section))
    .map((group) => ({ text: group.title, items: filesOf(group).map((file) => item(file)) }))
    .filter(({ items }) => items.length > 0)
}

/** What is for contributors. */
export function internalsSidebar() {
  const project = ['ARCHITECTURE.md', 'CONTRIBUTING.md', 'CHANGELOG.md']
  return [{ text: 'Project', items: project.map((file) => item(file)) }, ...sidebar('internals')]
}

/** All files that are pages, but for the generated ones. */
export function documents() {
  return [...new Set([...single.keys(), ...groups.flatMap((group) => filesOf(group))])]
}

/**
 * The page that stands for a folder: the first one in it.
 *
 * @param {string} folder
 * @returns {string | undefined}
 */
export function firstPage(folder) {
  const group = groups.find((candidate) => candidate.folder === folder)
  return group && filesOf(group)[0]
}

/** What below the root is not a page, as patterns for VitePress. */
export function excluded() {
  const pages = new Set([...documents(), 'site'].map((file) => file.split('/')[0]))
  const others = readdirSync(root, { withFileTypes: true })
    .filter((entry) => !pages.has(entry.name) && (entry.isDirectory() || entry.name.endsWith('.md')))
    .map((entry) => (entry.isDirectory() ? `${entry.name}/**` : entry.name))
  return [...others, '**/.*/**']
}
