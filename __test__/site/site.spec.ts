/** The site: builds without a warning, and a browser finds nothing wrong with it. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { stripVTControlCharacters } from 'node:util'
import { beforeAll, describe, expect, it } from 'vitest'

import { find } from '../../scripts/lib/tools.mjs'
import { startScript, type Ending } from '../fixtures/processes/processes'
import { eventually, root, tempDir } from '../fixtures/temp'
import { colors, contrast, overflow, picture, pictures, serve, violations, Visitor, widths } from './browser'

/** Not the host's root, so that an address without it is noticed. */
const base = '/docs/'
const browser = process.env.FENCELOCK_CHROMIUM ?? (await find('chromium'))
const schemes = ['light', 'dark'] as const

let folder: string
let build: Ending

beforeAll(async () => {
  folder = tempDir()
  build = await startScript(join(root, 'site/index.mjs'), {
    args: ['build', '--out', folder],
    env: { DOCS_BASE: base, DOCS_REPOSITORY: '' },
    limitMs: 240_000,
  }).ended
}, 250_000)

describe('the build', () => {
  it('has no warning', () => {
    const steps =
      /^[-✓»] (building|rendering|the site is in|installing packages).*$|^build complete in .*$|^added \d+ packages in .*$/
    const lines = stripVTControlCharacters(`${build.stdout}\n${build.stderr}`).split('\n').filter(Boolean)
    expect(lines.filter((line) => !steps.test(line))).toEqual([])
    expect(build.code).toBe(0)
  })

  it('has a page for each document, and for what users can import', () => {
    const text = (page: string) => readFileSync(join(folder, page), 'utf8')
    expect(text('guide/fencing.html')).toContain('<title>Fencing | fencelock</title>')
    expect(text('internals/architecture.html')).toContain('id="the-folders"')
    expect(text('api/fencelock/classes/LockManager.html')).toContain('id="acquirestrong"')
    expect(text('api/guard/index.html')).toContain('<title>fencelock/guard | fencelock</title>')
    expect(text('api/testing/functions/lose.html')).toContain('lose')
  })

  it('describes each page by its first sentences', () => {
    expect(readFileSync(join(folder, 'guide/fencing.html'), 'utf8')).toContain(
      '<meta name="description" content="A process can be paused',
    )
  })
})

describe.skipIf(!browser)('in a browser', () => {
  let visitor: Visitor

  beforeAll(async () => {
    visitor = await Visitor.start(browser!, await serve(folder, base))
  })

  it('says at one glance what it is', async () => {
    const page = await visitor.open('')
    expect(await page.textContent('h1')).toMatch(/fencelock\s*Locks for Node\.js and Bun/)
    const [intro = ''] = readFileSync(join(root, 'README.md'), 'utf8').split('```')
    const reasons = intro.match(/^- \*\*/gm)
    expect(await page.locator('.VPFeature').count()).toBe(reasons?.length)
    expect(await page.isVisible('.VPHero .fence-figure')).toBe(true)
    expect(await page.textContent('.vp-doc .language-sh')).toContain('npm install fencelock')
    // The README's links, which lead to files, lead to pages.
    await page.click('.vp-doc a:text-is("leaders")')
    await page.waitForURL(`**${base}guide/leaders`)
    await page.waitForSelector('h1:has-text("Leaders")')
  })

  it('leads through the guide', async () => {
    const page = await visitor.open('guide/choosing-a-strategy')
    expect(await page.textContent('.VPSidebar')).toMatch(/Fencing.*Jobs that run once.*Options.*Errors/s)
    await page.click('.pager-link.next')
    await page.waitForURL(`**${base}guide/waiting`)
    await page.getByRole('navigation').getByRole('link', { name: 'API', exact: true }).click()
    await page.waitForURL(`**${base}api/`)
    await page.click('.vp-doc a:has-text("fencelock/guard")')
    await page.waitForURL(`**${base}api/guard/`)
  })

  it('finds the guide to fencing', async () => {
    const page = await visitor.open('reference/options')
    await page.keyboard.press('Control+k')
    await page.fill('#localsearch-input', 'fencing')
    const first = page.locator('.VPLocalSearchBox .result').first()
    await first.waitFor()
    await picture(page, 'search-light-1280')
    expect(await first.getAttribute('href')).toMatch(new RegExp(`^${base}guide/fencing(#|$)`))
    await page.keyboard.press('Enter')
    await page.waitForURL(`**${base}guide/fencing*`)
    // The address changes before the page does.
    await page.locator('h1', { hasText: 'Fencing' }).waitFor()
  })

  it.each([
    ['the front page', '', '.language-js'],
    ['a wide table', 'reference/guarantees', '.table'],
    ['much code', 'guide/fencing', '.language-js pre'],
    ['a drawing made of text', 'internals/architecture', '.language-text pre'],
    ['the API', 'api/fencelock/classes/LockManager', '.language-ts pre'],
  ])('is as wide as a phone: %s', async (_, path, scrolling) => {
    const page = await visitor.open(path, 'light', 390)
    expect(await overflow(page)).toBe(0)
    // What is too wide is there, and scrolls by itself.
    const wider = await page
      .locator(`.vp-doc ${scrolling}`)
      .evaluateAll((elements) =>
        elements.some(({ scrollWidth, clientWidth }) => scrollWidth > clientWidth + 20),
      )
    expect(wider).toBe(path !== '')
  })

  it('is dark where the system is, or the reader wants it', async () => {
    const light = await visitor.open('guide/waiting', 'light')
    const dark = await visitor.open('guide/waiting', 'dark')
    const [ofLight, ofDark] = [await colors(light), await colors(dark)]
    expect(ofDark.backgroundColor).not.toBe(ofLight.backgroundColor)
    expect(ofDark.color).not.toBe(ofLight.color)
    for (const page of [light, dark]) {
      expect(await contrast(page, '.vp-doc p')).toBeGreaterThan(7)
      expect(await contrast(page, '.vp-doc p a')).toBeGreaterThan(4.5)
      expect(await contrast(page, '.VPSidebarItem .text')).toBeGreaterThan(4.5)
    }
    await light.click('.VPNavBar .VPSwitchAppearance')
    await eventually(
      'the page is dark',
      async () => (await colors(light)).backgroundColor === ofDark.backgroundColor,
    )
    expect(await colors(light)).toEqual(ofDark)
  })

  const pages = ['', 'guide/choosing-a-strategy', 'api/guard/functions/sqliteGuard']
  const views = pages.flatMap((path) =>
    widths.map((width) => [path || 'the front page', width, path] as const),
  )
  it.each(views)('is accessible: %s, %d px wide', async (_, width, path) => {
    for (const scheme of schemes) {
      const page = await visitor.open(path, scheme, width)
      expect({ scheme, found: await violations(page) }).toEqual({ scheme, found: [] })
    }
  })

  // The last one: what the pages above requested and wrote to the console.
  it('needs no other host, and has no error', () => {
    expect(visitor.complaints).toEqual([])
    console.log(`pictures of the site: ${pictures}`)
  })
})
