/** How the documents are made: examples that run, tables that fit, links that lead somewhere. */
import { existsSync, readFileSync, statSync } from 'node:fs'
import { dirname, join, relative } from 'node:path'
import { describe, expect, it } from 'vitest'

import {
  anchorOf,
  blocksOf,
  documents,
  headingsOf,
  tablesOf,
  type Block,
} from '../fixtures/examples/markdown'
import { isScript } from '../fixtures/examples/snippets'
import { root } from '../fixtures/temp'

/** The first word after `run:`, and the specs that run such blocks. */
const runners: Record<string, string> = {
  local: 'tooling/readme.spec.ts',
  strong: 'tooling/readme.spec.ts',
  quorum: 'tooling/readme.spec.ts',
  sentinel: 'tooling/readme.spec.ts',
  cluster: 'tooling/readme.spec.ts',
  postgres: 'guard/postgres.spec.ts',
  mysql: 'guard/mysql.spec.ts',
  sqlite: 'guard/sqlite.spec.ts',
  redis: 'guard/redis.spec.ts',
  http: 'guard/http-frameworks.spec.ts',
  'redis-keys': 'strong/keys-page.spec.ts',
  'lock-file': 'local/file-page.spec.ts',
  moving: 'moving/examples.spec.ts',
  deploy: 'moving/deploy.spec.ts',
  'prisma-schema': 'guard/postgres.spec.ts',
  shell: 'cli/document.spec.ts',
  channels: 'otel/documents.spec.ts',
  otel: 'otel/documents.spec.ts',
}
/** Those of these whose specs take the block from its page; the others run scripts. */
const ofOtherLanguages = new Set(['redis-keys', 'lock-file', 'prisma-schema', 'shell'])
/** Wider tables, and why that is better. */
const wider = new Map<string, string>()

describe('a block of code in the documents', () => {
  const blocks = documents.flatMap((file) => blocksOf(file)).filter(({ language }) => language !== 'text')

  it('names its language', () => {
    expect(blocks.filter(({ language }) => language === '').map(({ name }) => name)).toEqual([])
  })

  it('runs in a test, or says why not', () => {
    const problem = ({ language, mark }: Block): string | undefined => {
      if (mark === undefined) return 'no comment says what runs it, or why nothing does'
      if (mark.kind === 'not run') return mark.words.split(' ').length < 4 ? 'this is no reason' : undefined
      const [first = ''] = mark.words.split(/[\s,]+/)
      if (isScript(language) === ofOtherLanguages.has(first)) return `"${first}" does not run ${language}`
      return first === 'continue' || first in runners ? undefined : `nothing runs "${first}"`
    }
    const problems = blocks.flatMap((block) => {
      const found = problem(block)
      return found === undefined ? [] : [`${block.name}: ${found}`]
    })
    expect(problems).toEqual([])
  })

  it('runs if it is JavaScript', () => {
    const scripts = blocks.filter(({ language }) => isScript(language))
    expect(scripts.length).toBeGreaterThan(25)
    expect(scripts.filter(({ mark }) => mark?.kind === 'not run').map(({ name }) => name)).toEqual([])
  })

  it.each(Object.entries(runners))('of the kind %s has a spec', (kind, spec) => {
    expect(existsSync(join(root, '__test__', spec))).toBe(true)
    expect(blocks.some(({ mark }) => mark?.kind === 'run' && mark.words.split(/[\s,]+/)[0] === kind)).toBe(
      true,
    )
  })
})

describe('the documents', () => {
  it('have tables that are read without scrolling', () => {
    const tables = documents.flatMap((file) => tablesOf(file))
    expect(tables.length).toBeGreaterThan(20)
    const tooWide = tables.filter(({ name, columns }) => columns > 4 && !wider.has(name.split(':')[0]!))
    expect(tooWide).toEqual([])
  })

  it('have a README that is read in two minutes', () => {
    expect(statSync(join(root, 'README.md')).size).toBeLessThanOrEqual(9 * 1024)
  })

  it('are linked from README', () => {
    const links = linksOf('README.md')
    const pages = documents.filter((file) => file.startsWith('docs/'))
    expect(pages.filter((page) => !links.includes(page))).toEqual([])
  })

  it('have links that lead to a file, and to a heading in it', () => {
    const others = ['ARCHITECTURE.md', 'CONTRIBUTING.md', 'CHANGELOG.md', 'examples/README.md']
    const broken = [...documents, ...others].flatMap((file) =>
      linksOf(file)
        .filter((link) => !/^[a-z]+:/.test(link) && !leads(file, link))
        .map((link) => `${file}: ${link}`),
    )
    expect(broken).toEqual([])
  })
})

function linksOf(file: string): string[] {
  return [...readFileSync(join(root, file), 'utf8').matchAll(/\]\(([^)\s]+)\)/g)].map(([, link]) => link!)
}

/** Whether a relative link of a document leads somewhere. */
function leads(file: string, link: string): boolean {
  const [path = '', heading] = link.split('#')
  const target = path === '' ? file : relative(root, join(root, dirname(file), path))
  if (!existsSync(join(root, target))) return false
  return heading === undefined || headingsOf(target).some((each) => anchorOf(each) === heading)
}
