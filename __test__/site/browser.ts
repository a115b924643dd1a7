/** A built site, and a browser that looks at it. */
import { mkdirSync, rmSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import { createRequire } from 'node:module'
import { type AddressInfo } from 'node:net'
import { extname, join } from 'node:path'
import { vi } from 'vitest'

import type axe from '../../site/node_modules/axe-core'
import type playwright from '../../site/node_modules/playwright-core'
import { onCleanup } from '../fixtures/cleanup'
import { eventually, root } from '../fixtures/temp'

// On a busy machine a browser takes seconds for a page.
vi.setConfig({ testTimeout: 120_000, hookTimeout: 120_000 })

const requirePackage = createRequire(join(root, 'site/package.json'))

/** Where the pictures of a run are kept. */
export const pictures = join(root, 'target/site-pictures')

export type Scheme = 'light' | 'dark'
export type Page = playwright.Page

/** A phone, and a laptop. */
export const widths = [390, 1280] as const

const types: Record<string, string> = {
  '.css': 'text/css',
  '.html': 'text/html',
  '.js': 'text/javascript',
  '.json': 'application/json',
  '.svg': 'image/svg+xml',
  '.woff2': 'font/woff2',
}

/** Serves a folder as a host of static files does: `guide/fencing` is `guide/fencing.html`. */
export async function serve(folder: string, base: string): Promise<string> {
  const server = createServer((request, response) => {
    const path = decodeURI(new URL(request.url ?? '/', 'http://site').pathname)
    const file = path.endsWith('/') ? `${path}index.html` : extname(path) ? path : `${path}.html`
    const inside = file.startsWith(base) ? file.slice(base.length) : 'none'
    readFile(join(folder, inside)).then(
      (body) => response.writeHead(200, { 'content-type': types[extname(file)] ?? 'text/plain' }).end(body),
      () => response.writeHead(404).end(),
    )
  })
  await new Promise<void>((resolve) => {
    server.listen(0, '127.0.0.1', resolve)
  })
  onCleanup(() => {
    server.closeAllConnections()
    server.close()
  })
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}${base}`
}

/** A browser with one site. */
export class Visitor {
  /** What is wrong on any page: errors, messages in the console, requests to other hosts or that failed. */
  readonly complaints: string[] = []
  readonly #browser: playwright.Browser
  readonly #site: string

  private constructor(browser: playwright.Browser, site: string) {
    this.#browser = browser
    this.#site = site
  }

  static async start(executablePath: string, site: string): Promise<Visitor> {
    const { chromium } = requirePackage('playwright-core') as typeof playwright
    const isRoot = process.getuid?.() === 0
    // Chromium's sandbox refuses root.
    const browser = await chromium.launch({ executablePath, args: isRoot ? ['--no-sandbox'] : [] })
    onCleanup(() => browser.close())
    rmSync(pictures, { recursive: true, force: true })
    mkdirSync(pictures, { recursive: true })
    return new Visitor(browser, site)
  }

  /** Opens a page of the site; a picture of what it shows is kept. */
  async open(path: string, scheme: Scheme = 'light', width: number = widths[1]): Promise<Page> {
    const viewport = { width, height: width < 600 ? 844 : 860 }
    const context = await this.#browser.newContext({ colorScheme: scheme, viewport })
    onCleanup(() => context.close())
    const page = await context.newPage()
    page.on('console', (message) => {
      if (message.type() !== 'log') this.complaints.push(`${path}: ${message.type()}: ${message.text()}`)
    })
    page.on('pageerror', (error) => this.complaints.push(`${path}: ${error.message}`))
    page.on('request', (request) => {
      if (!request.url().startsWith(this.#site)) this.complaints.push(`${path} requested ${request.url()}`)
    })
    page.on('response', (response) => {
      if (response.status() >= 400) this.complaints.push(`${path}: ${response.status()} ${response.url()}`)
    })
    await page.goto(this.#site + path, { waitUntil: 'networkidle' })
    // Until then the page is drawn, and hears no key and no click.
    const mounted = "Boolean(document.querySelector('#app')?.__vue_app__)"
    await eventually('the page reacts', () => page.evaluate<boolean>(mounted))
    await picture(page, `${path.replaceAll('/', '-') || 'front'}-${scheme}-${width}`)
    return page
  }
}

/** Keeps a picture of what the page shows now. */
export async function picture(page: Page, name: string): Promise<void> {
  await page.screenshot({ path: join(pictures, `${name}.png`) })
}

/** The serious and critical violations that axe-core finds, each with where it is. */
export async function violations(page: Page): Promise<string[]> {
  const { source } = requirePackage('axe-core') as typeof axe
  // Evaluated by the debugger, so that the page needs no script element.
  await page.evaluate(source)
  const results = await page.evaluate(() =>
    // Without what passes, of which there is much.
    (globalThis as unknown as { axe: typeof axe }).axe.run({ resultTypes: ['violations'] }),
  )
  return results.violations
    .filter(({ impact }) => impact === 'serious' || impact === 'critical')
    .flatMap(({ id, help, nodes }) => nodes.map(({ target }) => `${id}: ${help}: ${target.join(' ')}`))
}

/** By how much the page is wider than what shows it: then it can be scrolled sideways. */
export function overflow(page: Page): Promise<number> {
  return page.evaluate('document.documentElement.scrollWidth - document.documentElement.clientWidth')
}

/** The colours of text and page. */
export function colors(page: Page): Promise<{ backgroundColor: string; color: string }> {
  return page.evaluate(
    '(({ backgroundColor, color }) => ({ backgroundColor, color }))(getComputedStyle(document.body))',
  )
}

/** The contrast between the text of an element and the page, as WCAG defines it: 1 to 21. */
export function contrast(page: Page, selector: string): Promise<number> {
  return page.evaluate(`(() => {
    const luminance = (color) => {
      const [r, g, b] = color.match(/[\\d.]+/g).slice(0, 3).map((part) => {
        const value = part / 255
        return value <= 0.03928 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4
      })
      return 0.2126 * r + 0.7152 * g + 0.0722 * b
    }
    const text = luminance(getComputedStyle(document.querySelector(${JSON.stringify(selector)})).color)
    const back = luminance(getComputedStyle(document.body).backgroundColor)
    return (Math.max(text, back) + 0.05) / (Math.min(text, back) + 0.05)
  })()`)
}
