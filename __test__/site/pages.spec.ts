/** What the build of the site refuses, and how links of documents become links of the site. */
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it, vi } from 'vitest'

import { writeApi } from '../../site/api.mjs'
import { checkLinks } from '../../site/check-links.mjs'
import { siteLink } from '../../site/links.mjs'
import { anchor } from '../../site/markdown.mjs'
import { tempDir } from '../fixtures/temp'

describe('a link of a document', () => {
  it.each([
    ['docs/guide/fencing.md', '../reference/errors.md#codes', '/reference/errors#codes'],
    ['docs/guide/fencing.md', '#redis', '#redis'],
    ['README.md', 'docs/guide/fencing.md', '/guide/fencing'],
    ['docs/guide/fencing.md', '../../README.md', '/'],
    ['README.md', 'docs/internals', '/internals/glossary'],
    ['README.md', 'CONTRIBUTING.md', '/internals/contributing'],
    ['guard/README.md', 'index.d.ts', '/api/guard/'],
    ['docs/reference/options.md', '../../index.d.ts', '/api/fencelock/'],
    ['docs/internals/quorum.md', '../../core/src/lib.rs', '/source/core/src/lib-rs'],
    ['CHANGELOG.md', 'https://semver.org', 'https://semver.org'],
  ])('in %s: %s', (file, href, expected) => {
    expect(siteLink(file, href)).toBe(expected)
  })
})

it('a heading has the anchor that GitHub gives it', () => {
  expect(anchor('Who may be late? `minHoldMs`, and TTLs')).toBe('who-may-be-late-minholdms-and-ttls')
  expect(anchor('Lock.release()')).toBe('lockrelease')
})

describe('the check of the built site', () => {
  const site = (pages: Record<string, string>) => {
    const folder = tempDir()
    mkdirSync(join(folder, 'guide'))
    for (const [name, html] of Object.entries(pages)) writeFileSync(join(folder, name), html)
    return folder
  }

  it('passes where every link leads to a page and a heading', async () => {
    const folder = site({
      'index.html': '<a class="x" href="/docs/guide/a#one">a</a> <a href="https://other.example/x#y">b</a>',
      'guide/a.html': '<h2 id="one">One</h2> <a href="#one">c</a> <a href="/docs/">d</a> <a href="./a">e</a>',
    })
    await checkLinks(folder, '/docs/')
  })

  it.each([
    ['a page that does not exist', '<a href="/docs/guide/b">b</a>'],
    ['a heading that does not exist', '<a href="/docs/guide/a#two">b</a>'],
    ['an address outside of the site', '<a href="/guide/a">b</a>'],
  ])('refuses %s', async (_, html) => {
    const folder = site({ 'index.html': html, 'guide/a.html': '<h2 id="one">One</h2>' })
    await expect(checkLinks(folder, '/docs/')).rejects.toThrow(/lead nowhere:\n\/index\.html: \//)
  })
})

describe('the API reference', () => {
  it.each([
    [
      'a link to what does not exist',
      '/** See {@link Missing}. */\nexport declare const a: number\n',
      'Missing',
    ],
    [
      'a type that is not exported',
      'interface Hidden { b: 1 }\nexport declare const a: Hidden\nexport {}\n',
      'Hidden',
    ],
  ])('refuses %s', { timeout: 60_000 }, async (_, declarations, named) => {
    const folder = tempDir()
    writeFileSync(join(folder, 'index.d.ts'), declarations)
    const settings = { compilerOptions: { target: 'es2023', module: 'preserve' }, files: ['index.d.ts'] }
    // typedoc reports only types of this package.
    writeFileSync(join(folder, 'package.json'), JSON.stringify({ name: 'wrong' }))
    writeFileSync(join(folder, 'tsconfig.json'), JSON.stringify(settings))
    const warned = vi.spyOn(console, 'warn').mockReturnValue(undefined)
    const entries = new Map([['wrong', join(folder, 'index.d.ts')]])
    const written = writeApi(entries, join(folder, 'api'), join(folder, 'tsconfig.json'))
    await expect(written).rejects.toThrow('mistakes in the declarations')
    expect(warned.mock.calls.flat().join('\n')).toContain(named)
  })
})
