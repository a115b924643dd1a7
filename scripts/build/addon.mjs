/**
 * `npm run build`: builds the addon for this machine as it is published. Unlike that of `build:platforms`, it
 * may not run on older systems.
 */
import { join, resolve } from 'node:path'
import { parseArgs } from 'node:util'

import { PlainError, root, run, runMain } from '../lib/shell.mjs'
import { copyAtomically } from './copy-atomically.mjs'
import { binaryName, hostName } from './platforms.mjs'
import { asPublished, library, rustFlags } from './release-flags.mjs'

const usage = `npm run build -- [--output-dir <folder>]

Builds fencelock.<platform>.node in this folder; by default in the root, from which the package loads it.`

async function main() {
  const { values } = parseArgs({
    options: { 'output-dir': { type: 'string', default: root }, help: { type: 'boolean', short: 'h' } },
  })
  if (values.help) return console.log(usage)
  // Works on platforms without a package, too: this is how to get an addon there.
  const result = join(resolve(values['output-dir']), binaryName({ name: hostName() }))
  const target = join(root, 'target')
  // These replace the flags of .cargo/config.toml, so its flag for Windows stands here, too.
  const flags = [...rustFlags, ...(process.platform === 'win32' ? ['-Ctarget-feature=+crt-static'] : [])]
  const { ok, why } = await run('cargo', ['build', ...asPublished, '--locked'], {
    env: { ...process.env, CARGO_TARGET_DIR: target, CARGO_ENCODED_RUSTFLAGS: flags.join('\u001F') },
    limitMs: 60 * 60_000,
  })
  if (!ok) throw new PlainError(`cargo failed: ${why}`)
  copyAtomically(join(target, 'release', library({ os: process.platform })), result)
}

await runMain(main)
