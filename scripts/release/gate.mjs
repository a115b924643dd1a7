/**
 * `npm run gate`: whether the binaries under npm/ may be published.
 */
import { existsSync, readFileSync, statSync } from 'node:fs'
import { parseArgs } from 'node:util'

import { binaryPath, named } from '../build/platforms.mjs'
import { PlainError, runMain } from '../lib/shell.mjs'
import { gate, packedSize } from './binary-rules.mjs'
import { loadAll } from './smoke.mjs'

const usage = `npm run gate -- [platform…]

Holds npm/<platform>/fencelock.<platform>.node of the platforms named, or of all, against what must hold of what is
published: file format and processor, the libraries and the glibc or macOS it needs, what it exports, its version, its
size. A missing one is refused.

  --present   only those that are there
  --load      tries those that pass on a runtime, where this machine or an emulator can run one; what that needs comes
              from package registries and lies below target/`

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
  if (wanted.length === 0) throw new PlainError('there is no binary under npm/: npm run build:platforms')
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
