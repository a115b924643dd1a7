/**
 * Building the site, and showing it.
 */
import { build as buildPages, createServer } from 'vitepress'

import { writeApi } from './api.mjs'
import { writeSources } from './sources.mjs'

/** Writes the pages that are generated. */
async function generate() {
  await writeApi()
  writeSources()
}

/** Builds the site into a folder, which is emptied before. @param {string} outDir absolute */
export async function build(outDir) {
  await generate()
  // Otherwise Vue's checks for development would be part of it, as when a test builds the site.
  process.env.NODE_ENV = 'production'
  await buildPages(import.meta.dirname, { outDir })
}

/** Shows the site on loopback. @param {number} port */
export async function serve(port) {
  await generate()
  const server = await createServer(import.meta.dirname, { port, host: '127.0.0.1' })
  await server.listen()
  server.printUrls()
}
