/**
 * `npm run gate`: checks whether the binaries under npm/ may be published.
 */
import { existsSync, readFileSync, statSync } from 'node:fs'
import { parseArgs } from 'node:util'

import { binaryPath, named } from '../build/platforms.mjs'
import { PlainError, runMain } from '../lib/shell.mjs'
import { gate, packedSize } from './binary-rules.mjs'
import { loadAll } from './smoke.mjs'

const usage = `npm run gate -- [platform…]

Checks npm/<platform>/fencelock.<platform>.node of the named platforms, or of all: file format and processor, the
libraries and the glibc or macOS it needs, what it exports, its version, its size. A missing file is refused.

  --present   only the binaries that exist
  --load      runs those that pass on JavaScript runtimes, on this machine or in an emulator; runtimes and emulators come
              from package registries and are kept below target/`

async function main() {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      present: { type: 'boolean' },
      load: { type: 'boolean' },
      help: { type: 'boolean', short: 'h' },
    },
  })
  if (values.help) return console.log(usage)
  const wanted = named(positionals).filter((each) => !values.present || existsSync(binaryPath(each)))
  if (wanted.length === 0)
    throw new PlainError('there are no binaries under npm/: run npm run build:platforms')
  const passed = []
  for (const each of wanted) {
    const file = binaryPath(each)
    const objections = await gate(file, each)
    if (objections.length === 0) {
      const packed = packedSize(readFileSync(file), each)
      console.log(`${each.name}: passed (${statSync(file).size} bytes, ${packed} packed)`)
      passed.push(each)
    }
    for (const objection of objections) console.log(`${each.name}: refused: ${objection}`)
  }
  if (passed.length < wanted.length) process.exitCode = 1
  if (values.load && !(await loadAll(passed))) process.exitCode = 1
}

await runMain(main)
