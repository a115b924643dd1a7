/**
 * `npm run release:check`: checks that all files state the same version and that the changelog has an entry.
 */
import { parseArgs } from 'node:util'

import { PlainError, root, runMain, say } from '../lib/shell.mjs'
import { readManifests, repositoryProblems, versionProblems } from './versions.mjs'

const usage = `npm run release:check -- [--tag v1.2.3]

  --tag   the tag of the release: it must match the version, the changelog must have a heading for it, and each package.json
          must name the repository of this workflow`

await runMain(async () => {
  const { values } = parseArgs({
    options: { tag: { type: 'string' }, help: { type: 'boolean', short: 'h' } },
  })
  if (values.help) return console.log(usage)
  const { main, platforms } = readManifests(root)
  const home = process.env.GITHUB_REPOSITORY
  const manifests = [main, ...platforms.values()]
  const repository = repositoryProblems(manifests, home, values.tag !== undefined)
  for (const warning of repository.warnings) say(`warning: ${warning}`)
  const problems = [...versionProblems(root, values.tag), ...repository.problems]
  if (problems.length > 0) throw new PlainError(`not ready for a release:\n  ${problems.join('\n  ')}`)
  say(`version ${main.version} is consistent`)
})
