/**
 * `npm run docs` shows the site while the documents are edited; `npm run docs:build` builds it.
 */
import { resolve } from 'node:path'
import { parseArgs } from 'node:util'

import { installPackages } from '../scripts/dev/setup.mjs'
import { PlainError, root, runMain, say } from '../scripts/lib/shell.mjs'

const usage = `npm run docs -- [--port <port>]          shows the site, and every change of a document
npm run docs:build -- [--out <folder>]   builds it, into target/site if no folder is given

  DOCS_BASE         where the site is on its host, such as /fencelock/ (default: /)
  DOCS_REPOSITORY   the web address of the repository, for links to it (default: that of package.json)`

await runMain(async () => {
  const { positionals, values } = parseArgs({
    allowPositionals: true,
    options: {
      port: { type: 'string', default: '5173' },
      out: { type: 'string', default: 'target/site' },
      help: { type: 'boolean', short: 'h' },
    },
  })
  if (values.help) return console.log(usage)
  await installPackages('site')
  // It imports the packages.
  const { build, serve } = await import('./build.mjs')
  if (positionals[0] === 'build') {
    await build(resolve(root, values.out))
    say(`the site is in ${values.out}`)
  } else if (positionals[0] === 'serve') {
    await serve(Number(values.port))
  } else {
    throw new PlainError(usage)
  }
})
