/**
 * `npm run models:mutants`: takes one rule at a time out of the quorum's `Round`, in a copy of the project,
 * and runs a row of the models with it. A rule of safety must break an invariant, or the models do not notice
 * it; the other rules are about progress, and must not.
 */
import { cpSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

import { PlainError, root, run, runMain } from '../lib/shell.mjs'

const file = 'core/src/backend/quorum/round/mod.rs'
const parts = ['Cargo.toml', 'Cargo.lock', 'build.rs', 'src', 'core', 'models']
/** Its builds stay for the next run, apart from those of the project. */
const folder = join(root, 'target', 'mutants')
const copy = join(folder, 'project')

/** @type {{ rule: string, row: string, breaks?: string, before: string, after: string }[]} */
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
  {
    rule: 'nothing is sent to less than a majority',
    row: 'k03',
    before: '(asked >= need).then_some',
    after: '(asked <= need || asked > need).then_some',
  },
  {
    rule: 'refusals teach the next token',
    row: 'k02',
    before: 'self.known = self.known.max(token);',
    after: 'let _ = token;',
  },
  {
    rule: 'a token is corrected a few times only',
    row: 'k02',
    before: ' && self.corrections < MAX_CORRECTIONS',
    after: '',
  },
  {
    rule: 'a split vote is repeated a few times only',
    row: 'k02',
    before: 'self.keeps < MAX_KEEPS && ',
    after: '',
  },
  {
    rule: 'it is repeated only by the owner that has the home node',
    row: 'k02',
    before: 'Answer::Granted => return Decision::Keep,',
    after: '_ if true => return Decision::Keep,',
  },
  {
    rule: 'it is not repeated against a lease',
    row: 'k02',
    before: ' && !self.is_leased()',
    after: '',
  },
  {
    rule: 'contenders wait for the answer of the home node',
    row: 'k02',
    before: 'Answer::Asked if !limits.out_of_patience =>',
    after: 'Answer::Asked if false =>',
  },
]

await runMain(async () => {
  rmSync(copy, { recursive: true, force: true })
  for (const part of parts) cpSync(join(root, part), join(copy, part), { recursive: true })
  const text = readFileSync(join(copy, file), 'utf8')
  console.log('| rule | row | without it | states |\n| --- | --- | --- | --- |')
  const unexpected = []
  for (const { rule, row, breaks, before, after } of mutants) {
    if (text.split(before).length !== 2) throw new PlainError(`"${before}" is not once in ${file}`)
    writeFileSync(join(copy, file), text.replace(before, after))
    const { broken, states } = await explore(row)
    console.log(`| ${rule} | ${row} | ${broken ? `**fails** ${broken}` : 'holds'} | ${states} |`)
    if (broken !== breaks)
      unexpected.push(`without "${rule}", ${row} breaks ${broken ?? 'nothing'}, not ${breaks ?? 'nothing'}`)
  }
  if (unexpected.length > 0) throw new PlainError(unexpected.join('\n'))
})

/**
 * The result of a row, from its line in the table.
 *
 * @param {string} row
 */
async function explore(row) {
  let output = ''
  const env = { ...process.env, CARGO_INCREMENTAL: '0', CARGO_TARGET_DIR: folder }
  const args = ['run', '--quiet', '--locked', '-p', 'fencelock-models', '--', `quorum/${row}`]
  /** @param {string} data */
  const onOutput = (data) => void (output += data)
  // It fails if the row has another result than without the change.
  const { why } = await run('cargo', args, { cwd: copy, env, onOutput, quiet: true, limitMs: 20 * 60_000 })
  const line = output.split('\n').find((text) => text.startsWith(`| ${row} |`))
  if (!line) throw new PlainError(`${row} has no result (${why}): ${output.slice(-2000)}`)
  const [, broken] = /\*\*fails\*\* ([^ :]+)/.exec(line) ?? []
  const states = line.split('|')[4]?.trim()
  return { broken, states }
}
