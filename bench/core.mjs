/**
 * `npm run bench:core`: counts the instructions of the hot paths of the Rust core, without Node. Unlike times
 * they hardly differ from run to run, so small regressions show on a busy machine, too.
 *
 * Each path runs twice under Valgrind, with different numbers of operations: one-time costs cancel out.
 */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { parseArgs } from 'node:util'

import { capture, PlainError, root, run, runMain, say, which } from '../scripts/lib/shell.mjs'

/** Far above the random variation: half a percent with sockets and files, none without. */
const TOLERANCE = 0.05

const usage = `npm run bench:core -- [--only <part of a name>]… [--save]

  --only   only the hot paths whose names contain this
  --save   later runs are compared with this one

Fails if a path takes over ${TOLERANCE * 100} % more instructions than bench/core.json says.`

/** Rounds of the two runs. */
const ROUNDS = /** @type {const} */ ([1, 3])
const LIMIT_MS = 10 * 60_000

const saved = join(import.meta.dirname, 'core.json')
const profiles = join(root, 'target/bench-core')

/**
 * @typedef {object} Saved
 * @property {string} platform other platforms have other instructions
 * @property {string} rustc
 * @property {Record<string, number>} instructions for one operation of each hot path
 */

async function main() {
  const { values } = parseArgs({
    options: {
      only: { type: 'string', multiple: true },
      save: { type: 'boolean', default: false },
      help: { type: 'boolean', short: 'h' },
    },
  })
  if (values.help) return console.log(usage)
  const program = await build()
  const all = (await capture(program, ['--list']))?.split('\n') ?? []
  const names = all.filter((name) => values.only?.some((part) => name.includes(part)) ?? true)
  if (names.length === 0) throw new PlainError(`no hot path has such a name: ${all.join('; ')}\n\n${usage}`)
  const valgrind = which('valgrind')
  if (!valgrind) {
    say('valgrind is missing (apt install valgrind), so these are times, and nothing is compared')
    await run(program, names)
    return
  }
  mkdirSync(profiles, { recursive: true })
  const before = read()
  const platform = `${process.platform} ${process.arch}`
  const rustc = (await capture('rustc', ['--version'])) ?? 'unknown'
  const comparable = before?.platform === platform
  /** @type {Record<string, number>} */
  const instructions = {}
  print('hot path', 'instructions', 'saved', 'change')
  for (const name of names) {
    const now = await count(valgrind, program, name)
    instructions[name] = now
    const then = comparable ? before.instructions[name] : undefined
    print(name, digits(now), then ? digits(then) : '–', then ? percent(now / then - 1) : '–')
  }
  if (values.save) {
    // In the program's order, and without paths that no longer exist.
    const known = all.flatMap((name) => {
      const value = instructions[name] ?? (comparable ? before.instructions[name] : undefined)
      return value === undefined ? [] : [[name, value]]
    })
    const text = JSON.stringify({ platform, rustc, instructions: Object.fromEntries(known) }, null, 2)
    writeFileSync(saved, `${text}\n`)
    say('written: bench/core.json')
  } else if (comparable) {
    compare(before, instructions, rustc)
  } else {
    say(
      before ? `bench/core.json is of ${before.platform}, this is ${platform}` : 'bench/core.json is missing',
    )
  }
}

/** @returns {Promise<string>} the program that runs the hot paths */
async function build() {
  const args = [
    'bench',
    '--locked',
    '-p',
    'fencelock-core',
    '--features',
    'bench',
    '--bench',
    'core',
    '--no-run',
    '--quiet',
  ]
  say('building the core')
  const { ok, why } = await run('cargo', args)
  if (!ok) throw new PlainError(`cargo ${args.join(' ')} failed: ${why}`)
  // Again, only to learn the path of the program.
  const messages = (await capture('cargo', [...args, '--message-format=json'])) ?? ''
  for (const line of messages.split('\n').filter(Boolean)) {
    const { target, executable } = JSON.parse(line)
    if (target?.name === 'core' && executable) return executable
  }
  throw new PlainError('cargo built no benchmark')
}

/**
 * @param {string} valgrind
 * @param {string} program
 * @param {string} name
 * @returns {Promise<number>} instructions for one operation
 */
async function count(valgrind, program, name) {
  const totals = []
  for (const rounds of ROUNDS) {
    const file = profile(name)
    const args = ['--tool=callgrind', `--callgrind-out-file=${file}`, program, '--run', name, String(rounds)]
    // Without an environment: its size moves the stack, which changes the number of steps for copying.
    const operations = await capture(valgrind, args, { env: {}, limitMs: LIMIT_MS })
    if (operations === null) throw new PlainError(`this fails: ${valgrind} ${args.join(' ')}`)
    const total = /^totals: (\d+)$/m.exec(readFileSync(file, 'utf8'))?.[1]
    totals.push({ total: Number(total), operations: Number(operations) })
  }
  const [few, many] = /** @type {[typeof totals[0], typeof totals[0]]} */ (totals)
  const each = (many.total - few.total) / (many.operations - few.operations)
  return each < 1000 ? Math.round(each * 10) / 10 : Math.round(each)
}

/**
 * @param {Saved} before
 * @param {Record<string, number>} instructions
 * @param {string} rustc
 */
function compare(before, instructions, rustc) {
  const changes = Object.entries(instructions).map(([name, now]) => {
    const then = before.instructions[name]
    return { name, change: then ? now / then - 1 : 0 }
  })
  const better = changes.filter(({ change }) => change < -TOLERANCE)
  if (better.length > 0) say(`faster than before; keep this with --save: ${list(better)}`)
  const worse = changes.filter(({ change }) => change > TOLERANCE)
  if (worse.length === 0) return say(`none takes over ${TOLERANCE * 100} % more than before`)
  for (const { name } of worse) say(`where they go: callgrind_annotate '${profile(name)}'`)
  const other = before.rustc === rustc ? '' : ` (saved with ${before.rustc}, this is ${rustc})`
  throw new PlainError(`more instructions than before: ${list(worse)}${other}`)
}

/** @param {{ name: string, change: number }[]} changes */
function list(changes) {
  return changes.map(({ name, change }) => `${name} ${percent(change)}`).join('; ')
}

/** The file that Valgrind writes for a hot path. @param {string} name */
function profile(name) {
  return join(profiles, `${name.replaceAll(/\W+/g, '-')}.callgrind`)
}

/** @returns {Saved | null} */
function read() {
  try {
    return JSON.parse(readFileSync(saved, 'utf8'))
  } catch {
    return null
  }
}

/** @param {string} name @param {string[]} cells */
function print(name, ...cells) {
  console.log(`  ${name.padEnd(32)}${cells.map((cell) => cell.padStart(14)).join('')}`)
}

/** @param {number} value */
function digits(value) {
  return value.toLocaleString('en')
}

/** @param {number} ratio */
function percent(ratio) {
  const text = (Math.abs(ratio) * 100).toFixed(1)
  if (text === '0.0') return '0.0 %'
  return `${ratio > 0 ? '+' : '−'}${text} %`
}

await runMain(main)
