/**
 * The site: the same Markdown files as on GitHub, from where they are.
 */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { defineConfig } from 'vitepress'

import { root } from '../../scripts/lib/shell.mjs'
import { checkLinks } from '../check-links.mjs'
import { repositoryLinks } from '../links.mjs'
import { anchor, braces, descriptions, fenceFigure, frontPage, tables } from '../markdown.mjs'
import { address, excluded, firstPage, internalsSidebar, link, sidebar } from '../pages.mjs'
import { apiSidebar } from '../sidebar-of-api.mjs'

const manifest = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'))

/** Where the site is on its host, such as `/fencelock/`. */
const base = process.env.DOCS_BASE ?? '/'

/** The web address of the sources, if there is one. */
const repository =
  process.env.DOCS_REPOSITORY ?? manifest.repository?.url?.replace(/^git\+/, '').replace(/\.git$/, '')

/** The first page of a section. @param {string} folder */
const start = (folder) => link(firstPage(folder) ?? 'README.md')

const sections = [
  { text: 'Guide', link: start('docs/guide'), activeMatch: '^/(guide|moving|examples)/' },
  { text: 'Reference', link: start('docs/reference'), activeMatch: '^/reference/' },
  { text: 'API', link: '/api/', activeMatch: '^/api/' },
  { text: 'Internals', link: '/internals/architecture', activeMatch: '^/(internals/|changelog)' },
]

export default defineConfig({
  title: manifest.name,
  description: manifest.description,
  lang: 'en',
  base,
  srcDir: root,
  srcExclude: excluded(),
  outDir: join(root, 'target/site'),
  cacheDir: join(root, 'target/site-cache'),
  cleanUrls: true,
  rewrites: address,
  head: [
    ['link', { rel: 'icon', type: 'image/svg+xml', href: `${base}logo.svg` }],
    ['meta', { name: 'theme-color', content: '#0b6e5c' }],
  ],
  vite: {
    publicDir: join(root, 'site/public'),
    // The index of the search is one chunk.
    build: { chunkSizeWarningLimit: 2000 },
    css: { postcss: {} },
    plugins: [
      {
        name: 'packages-of-the-site',
        configResolved(config) {
          // VitePress lists packages to prepare for the development server, and Vite would look for them
          // from the project's root. Without the list it finds them where they are imported.
          config.optimizeDeps.include = []
        },
      },
    ],
  },
  markdown: {
    theme: { light: 'github-light-high-contrast', dark: 'github-dark-default' },
    anchor: { slugify: anchor },
    config(md) {
      md.use(repositoryLinks).use(descriptions).use(frontPage).use(fenceFigure).use(tables).use(braces)
    },
  },
  transformPageData(page) {
    // Generated pages have no source of their own.
    if (page.filePath.startsWith('site/generated/')) page.frontmatter.editLink = false
    if (page.relativePath.startsWith('source/'))
      Object.assign(page.frontmatter, { aside: false, prev: false, next: false })
    if (page.frontmatter.hero) {
      page.frontmatter.hero.actions = [
        { text: 'Choose a strategy', link: start('docs/guide') },
        { text: 'API', link: '/api/', theme: 'alt' },
      ]
    }
  },
  buildEnd: ({ outDir, site }) => checkLinks(outDir, site.base),
  themeConfig: {
    logo: '/logo.svg',
    nav: sections,
    sidebar: {
      '/': sidebar('guide', 'reference'),
      '/api/': apiSidebar(),
      '/internals/': internalsSidebar(),
      '/changelog': internalsSidebar(),
    },
    outline: { level: [2, 3], label: 'On this page' },
    search: {
      provider: 'local',
      options: {
        detailedView: true,
        miniSearch: {
          searchOptions: {
            fuzzy: 0.2,
            prefix: true,
            boost: { title: 4, text: 2, titles: 1 },
            // A search for a term leads to its guide first.
            boostDocument: (id) => (/\/(api|internals)\/|\/changelog/.test(id) ? 0.5 : 1),
          },
        },
      },
    },
    ...(repository && {
      editLink: { pattern: `${repository}/edit/main/:path`, text: 'Edit this page' },
      socialLinks: [{ icon: 'github', link: repository }],
    }),
    footer: { message: `Version ${manifest.version}. MIT licensed.` },
  },
})
