/**
 * `npm run models`: explores the models of the protocols and prints a table of the results; `-- --help` lists
 * the options. The short rows are also tests of the Rust workspace.
 */
import { PlainError, run, runMain } from '../lib/shell.mjs'

/** All rows take some ten minutes on an idle core. */
const LIMIT_MS = 3 * 60 * 60_000

await runMain(async () => {
  const args = ['run', '--quiet', '--locked', '-p', 'fencelock-models', '--', ...process.argv.slice(2)]
  // Incremental builds are split into parts that are not inlined into each other.
  const env = { ...process.env, CARGO_INCREMENTAL: '0' }
  const { ok, why } = await run('cargo', args, { env, limitMs: LIMIT_MS })
  if (!ok) throw new PlainError(why ?? 'a row has another result than expected')
})
