/**
 * `npm run build`: builds the addon for this machine as it is published, but for what only `build:platforms` does: that it
 * runs on older systems, too.
 */
import { join, resolve } from 'node:path'
import { parseArgs } from 'node:util'

import { PlainError, root, run, runMain } from '../lib/shell.mjs'
import { copyAtomically } from './copy-atomically.mjs'
import { binaryName, hostName } from './platforms.mjs'
import { asPublished, library, smaller } from './release-flags.mjs'

const usage = `npm run build -- [--output-dir <folder>]

Builds fencelock.<platform>.node in this folder; by default in the root, where it is what the package loads.`

async function main() {
  const { values } = parseArgs({
    options: { 'output-dir': { type: 'string', default: root }, help: { type: 'boolean', short: 'h' } },
  })
  if (values.help) return console.log(usage)
  // Also where there is no package: then this is how to get an addon.
  const result = join(resolve(values['output-dir']), binaryName({ name: hostName() }))
  const target = join(root, 'target')
  const { ok, why } = await run('cargo', ['rustc', ...asPublished, '--locked', ...smaller], {
    env: { ...process.env, CARGO_TARGET_DIR: target },
    limitMs: 60 * 60_000,
  })
  if (!ok) throw new PlainError(`cargo failed: ${why}`)
  copyAtomically(join(target, 'release', library({ os: process.platform })), result)
}

await runMain(main)
