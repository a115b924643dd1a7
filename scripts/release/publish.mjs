/**
 * `npm run release:publish`: publishes packed tarballs, the platforms first and the package that needs them
 * last, so that it cannot be installed before they exist. Running it again completes an interrupted release.
 */
import { execFile } from 'node:child_process'
import { basename } from 'node:path'
import { pathToFileURL } from 'node:url'
import { parseArgs, promisify } from 'node:util'

import { PlainError, root, run, runMain, say } from '../lib/shell.mjs'
import { checkTarballs, readTarballs } from './tarballs.mjs'
import { distTag, repositoryProblems } from './versions.mjs'

/** @typedef {import('./tarballs.mjs').Tarball} Tarball */

const usage = `npm run release:publish -- --dir <tarballs> [--dry-run] [--no-provenance]

  --dir             the folder that "npm run pack:all" filled
  --dry-run         checks everything and publishes nothing
  --no-provenance   for a first version published by hand, see CONTRIBUTING.md`

/**
 * @param {object} options
 * @param {string} options.dir of the tarballs
 * @param {boolean} [options.dryRun]
 * @param {boolean} [options.provenance]
 * @param {string} [options.source] the project's root
 * @param {NodeJS.ProcessEnv} [options.env] of npm
 */
export async function publish({ dir, dryRun = false, provenance = true, source = root, env = process.env }) {
  const { problems, order } = checkTarballs(source, readTarballs(dir))
  const manifests = order.map(({ manifest }) => manifest)
  const repository = repositoryProblems(manifests, env.GITHUB_REPOSITORY, !dryRun)
  for (const warning of repository.warnings) say(`warning: ${warning}`)
  problems.push(...repository.problems)
  if (problems.length > 0) throw new PlainError(`nothing was published:\n  ${problems.join('\n  ')}`)

  // Check all of them before the first one is published.
  const left = []
  for (const tarball of order) {
    const found = await integrityOf(name(tarball), env)
    if (found === undefined) left.push(tarball)
    else if (found === tarball.integrity) say(`${name(tarball)} is published already`)
    // Between two releases the tree has the version of the last one, which is fine.
    else if (dryRun) say(`${name(tarball)} is published already; a new version is needed`)
    else throw otherContents(tarball, found)
  }
  for (const { file, manifest } of left) {
    const tag = distTag(manifest.version)
    const { ok, why } = await run(
      'npm',
      [
        'publish',
        file,
        '--access=public',
        '--ignore-scripts',
        ...(tag ? [`--tag=${tag}`] : []),
        ...(dryRun ? ['--dry-run'] : provenance ? ['--provenance'] : []),
      ],
      { cwd: dir, env },
    )
    if (!ok) throw new PlainError(`npm publish ${basename(file)} failed: ${why}; run this again to continue`)
    say(`${dryRun ? 'would publish' : 'published'} ${manifest.name}@${manifest.version}`)
  }
}

/** @param {Tarball} tarball */
function name({ manifest }) {
  return `${manifest.name}@${manifest.version}`
}

/** Published packages cannot be replaced. @param {Tarball} tarball @param {string} found */
function otherContents(tarball, found) {
  return new PlainError(
    `nothing was published: the registry has another ${name(tarball)} (${found}, here ${tarball.integrity}). ` +
      'To complete a release, run it with the same tarballs; otherwise use a new version',
  )
}

/**
 * The integrity of a version in the registry; undefined if it is not there.
 *
 * @param {string} spec
 * @param {NodeJS.ProcessEnv} env
 * @returns {Promise<string | undefined>}
 */
async function integrityOf(spec, env) {
  // `--prefer-online`: a version published a minute ago counts.
  const args = ['view', spec, 'dist.integrity', '--json', '--prefer-online']
  const { stdout, failed } = await promisify(execFile)('npm', args, { env }).then(
    (output) => ({ stdout: output.stdout, failed: false }),
    // npm reports errors as JSON, too.
    (/** @type {{ stdout?: string }} */ error) => ({ stdout: error.stdout ?? '', failed: true }),
  )
  const answer = stdout.trim() ? json(stdout) : undefined
  if (!failed && answer !== null) return answer
  if (answer?.error?.code === 'E404') return undefined
  throw new PlainError(`npm view ${spec} failed: ${answer?.error?.summary ?? 'no reply'}`)
}

/** @param {string} text @returns {any} null if it is not JSON: npm may print anything when it fails */
function json(text) {
  try {
    return JSON.parse(text)
  } catch {
    return null
  }
}

if (process.argv[1] && pathToFileURL(process.argv[1]).href === import.meta.url) {
  await runMain(async () => {
    const { values } = parseArgs({
      allowNegative: true,
      options: {
        dir: { type: 'string' },
        'dry-run': { type: 'boolean', default: false },
        provenance: { type: 'boolean', default: true },
        help: { type: 'boolean', short: 'h' },
      },
    })
    if (values.help) return console.log(usage)
    if (!values.dir) throw new PlainError('--dir is missing: the folder with the tarballs')
    await publish({ dir: values.dir, dryRun: values['dry-run'], provenance: values.provenance })
  })
}
