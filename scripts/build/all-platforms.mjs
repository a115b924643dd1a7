/**
 * `npm run build:platforms`: builds the binary of every platform that can be built here, copies it into the
 * platform's package and checks it with the gate; for each other platform it prints the reason. Linux builds
 * all platforms except Windows, with nothing but package registries; macOS and Windows build for themselves.
 */
import { join } from 'node:path'
import { parseArgs } from 'node:util'

import { PlainError, root, runMain, say } from '../lib/shell.mjs'
import { gate } from '../release/binary-rules.mjs'
import { copyAtomically } from './copy-atomically.mjs'
import { build, buildNatively, buildWindowsGnu, lint, windowsGnu } from './cross/build.mjs'
import { crossToolchain } from './cross/toolchain.mjs'
import { binaryPath, named, platform } from './platforms.mjs'

/** @typedef {import('./platforms.mjs').Platform} Platform */

const usage = `npm run build:platforms -- [platform…]

Builds npm/<platform>/fencelock.<platform>.node for the named platforms, or for all that can be built here.

  --check          instead: lints the code for macOS and Windows, including tests, and links an addon for Windows with
                   GNU's ABI, target/cross/fencelock.win32-x64-gnu.node, which is never published
  --std <source>   the source of the other platforms' standard library: rustup, or debian (this compiler's library,
                   compiled from Debian's sources); default: rustup, then debian if that fails`

/** Whether this machine builds for other systems, too. */
const crosses = process.platform === 'linux' && process.arch === 'x64'

/** Why a platform cannot be built here, and where it can; undefined if it can. @param {Platform} platform */
function obstacle({ os }) {
  if (!crosses) return os === process.platform ? undefined : 'this machine builds for its own system only'
  if (os !== 'win32') return undefined
  return "Microsoft's libraries are in no package registry; this command builds it on Windows"
}

async function main() {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      check: { type: 'boolean' },
      std: { type: 'string' },
      help: { type: 'boolean', short: 'h' },
    },
  })
  if (values.help) return console.log(usage)
  const source = values.std
  if (source !== undefined && source !== 'rustup' && source !== 'debian') {
    throw new PlainError(`--std is rustup or debian, not ${source}`)
  }
  if (!crosses && (values.check || process.platform === 'linux')) {
    throw new PlainError(
      'this builds for other platforms on Linux x64 only; "npm run build" builds for this one',
    )
  }
  await (values.check ? checkAll(source) : buildAll(named(positionals), source))
}

/** @param {readonly Platform[]} wanted @param {'rustup' | 'debian' | undefined} source */
async function buildAll(wanted, source) {
  const possible = wanted.filter((each) => obstacle(each) === undefined)
  const toolchain =
    possible.length > 0 &&
    (await crossToolchain(
      possible.map(({ target }) => target),
      source,
    ))
  /** @type {string[]} */
  const lines = []
  for (const each of wanted) {
    const why = obstacle(each)
    if (why !== undefined || !toolchain) {
      lines.push(`${each.name}: not built: ${why}`)
      continue
    }
    say(`building ${each.name}`)
    try {
      copyAtomically(await (crosses ? build : buildNatively)(each, toolchain), binaryPath(each))
      const objections = await gate(binaryPath(each), each)
      lines.push(...objections.map((objection) => `${each.name}: refused: ${objection}`))
      if (objections.length === 0) lines.push(`${each.name}: built`)
      else process.exitCode = 1
    } catch (error) {
      if (!(error instanceof PlainError)) throw error
      lines.push(`${each.name}: failed: ${error.message}`)
      process.exitCode = 1
    }
  }
  console.log(`\n${lines.join('\n')}`)
}

/** @param {'rustup' | 'debian' | undefined} source */
async function checkAll(source) {
  const others = ['darwin-arm64', 'win32-x64-msvc', 'win32-arm64-msvc'].map(platform)
  const toolchain = await crossToolchain([...others.map(({ target }) => target), windowsGnu], source)
  for (const each of others) {
    say(`linting for ${each.name}`)
    await lint(each, toolchain)
  }
  say('linking for Windows with GNU’s ABI')
  copyAtomically(await buildWindowsGnu(toolchain), join(root, 'target/cross/fencelock.win32-x64-gnu.node'))
}

await runMain(main)
