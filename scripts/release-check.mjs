/**
 * `npm run release:check`: whether what states the version agrees, and whether the changelog has an entry.
 */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { parseArgs } from 'node:util'

import { repositoryProblems, versionProblems } from './lib/release.mjs'
import { PlainError, root, runMain, say } from './lib/shell.mjs'

const usage = `npm run release:check -- [--tag v1.2.3]

  --tag   that of the release: it must be the version, and the changelog must have a heading for it`

await runMain(async () => {
  const { values } = parseArgs({
    options: { tag: { type: 'string' }, help: { type: 'boolean', short: 'h' } },
  })
  if (values.help) return console.log(usage)
  const manifest = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'))
  const problems = [
    ...versionProblems(root, values.tag),
    ...repositoryProblems(manifest, process.env.GITHUB_REPOSITORY),
  ]
  if (problems.length > 0) throw new PlainError(`this is no release:\n  ${problems.join('\n  ')}`)
  say(`version ${manifest.version}: everything agrees`)
})
