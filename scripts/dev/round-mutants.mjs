/**
 * `npm run models:mutants`: takes one rule at a time out of the quorum's `Round`, in a copy of the project,
 * and runs a row of the models with it. Each must break an invariant, or the models do not notice the rule.
 */
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import { PlainError, root, run, runMain } from '../lib/shell.mjs'

const file = 'core/src/backend/quorum/round.rs'
const parts = ['Cargo.toml', 'Cargo.lock', 'build.rs', 'src', 'core', 'models']

/** @type {{ rule: string, row: string, breaks: string, before: string, after: string }[]} */
const mutants = [
  {
    rule: 'more than half of the nodes must grant',
    row: 'q01b',
    breaks: 'R+',
    before: 'nodes / 2 + 1',
    after: 'nodes / 2',
  },
  {
    rule: 'a majority after the deadline is too late',
    row: 'q01b',
    breaks: 'R+',
    before: 'now < limits.deadline;',
    after: 'true;',
  },
  {
    rule: 'grants of the round before are worth nothing',
    row: 'k02',
    breaks: 'R+',
    before: '            *answer = Answer::Asked;\n',
    after: '            let _ = answer;\n',
  },
  {
    rule: 'answers to an earlier proposal only tell a token',
    row: 'k02',
    breaks: 'R+',
    before: 'token == self.token && self.answers',
    after: 'self.answers',
  },
  {
    rule: 'it decides once answers cannot matter any more',
    row: 'k01',
    breaks: 'W',
    before: 'granted + asked >= self.need && !limits',
    after: '!limits',
  },
]

await runMain(async () => {
  const copy = mkdtempSync(join(tmpdir(), 'fencelock-mutants-'))
  try {
    for (const part of parts) cpSync(join(root, part), join(copy, part), { recursive: true })
    const text = readFileSync(join(copy, file), 'utf8')
    console.log('| rule | row | breaks | states |\n| --- | --- | --- | --- |')
    const unexpected = []
    for (const { rule, row, breaks, before, after } of mutants) {
      if (text.split(before).length !== 2) throw new PlainError(`"${before}" is not once in ${file}`)
      writeFileSync(join(copy, file), text.replace(before, after))
      const { broken, states } = await explore(copy, row)
      console.log(`| ${rule} | ${row} | ${broken ?? 'nothing'} | ${states} |`)
      if (broken !== breaks)
        unexpected.push(`without "${rule}", ${row} breaks ${broken ?? 'nothing'}, not ${breaks}`)
    }
    if (unexpected.length > 0) throw new PlainError(unexpected.join('\n'))
  } finally {
    rmSync(copy, { recursive: true, force: true })
  }
})

/**
 * The result of a row, from its line in the table.
 *
 * @param {string} folder
 * @param {string} row
 */
async function explore(folder, row) {
  let output = ''
  // Dependencies are built once; what is in the copy has names of its own there.
  const env = { ...process.env, CARGO_INCREMENTAL: '0', CARGO_TARGET_DIR: join(root, 'target') }
  const args = ['run', '--quiet', '--locked', '-p', 'fencelock-models', '--', `quorum/${row}`]
  /** @param {string} data */
  const onOutput = (data) => void (output += data)
  // It fails, because the row has another result than without the change.
  const { why } = await run('cargo', args, { cwd: folder, env, onOutput, quiet: true, limitMs: 20 * 60_000 })
  const line = output.split('\n').find((text) => text.startsWith(`| ${row} |`))
  if (!line) throw new PlainError(`${row} has no result (${why}): ${output.slice(-2000)}`)
  const [, broken] = /\*\*fails\*\* ([^ :]+)/.exec(line) ?? []
  const states = line.split('|')[4]?.trim()
  return { broken, states }
}
