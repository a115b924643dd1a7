/**
 * `npm run pack:all`: the tarballs to publish. One for each platform whose addon is there, and the root's, which names all
 * platforms as optional dependencies. Only the packed package.json does: in a clone, `npm ci` would look for packages that
 * are not published yet.
 */
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { pathToFileURL } from 'node:url'
import { parseArgs } from 'node:util'

import { capture, npm, PlainError, root, runMain, say } from './lib/shell.mjs'

const usage = `npm run pack:all -- --out <folder> [--version <version>] [--from <folder>]

  --out      where the tarballs go
  --version  must be the one that the addons were built as; default: that of package.json
  --from     where the addons are: <platform>/fencelock.<platform>.node; default: npm/`

/** @param {string} file @returns {Record<string, any>} */
function readJson(file) {
  return JSON.parse(readFileSync(file, 'utf8'))
}

/** @param {string} file @param {object} value */
function writeJson(file, value) {
  writeFileSync(file, `${JSON.stringify(value, undefined, 2)}\n`)
}

/** The platforms there are packages for. */
export function platforms() {
  return readdirSync(join(root, 'npm')).toSorted()
}

/** @param {string} platform */
function packageName(platform) {
  return `@fencelock/binding-${platform}`
}

/** @param {string} from @param {string} platform */
function addonOf(from, platform) {
  return join(from, platform, `fencelock.${platform}.node`)
}

/**
 * @param {{ out: string, version?: string, from?: string }} options
 * @returns {Promise<{ packed: string[], missing: string[] }>} platforms that were packed, and those without an addon
 */
export async function packAll({ out, version, from = join(root, 'npm') }) {
  const manifest = readJson(join(root, 'package.json'))
  version ??= /** @type {string} */ (manifest.version)
  const stage = mkdtempSync(join(tmpdir(), 'fencelock-pack-'))
  try {
    const withAddon = (/** @type {string} */ platform) => existsSync(addonOf(from, platform))
    const packed = platforms().filter(withAddon)
    const folders = [stageRoot(stage, manifest, version)]
    for (const platform of packed)
      folders.push(stagePlatform(stage, platform, addonOf(from, platform), version))
    await tryOut(stage)
    mkdirSync(out, { recursive: true })
    for (const folder of folders) {
      await npm(['pack', folder, '--pack-destination', out, '--ignore-scripts', '--silent'])
    }
    return { packed, missing: platforms().filter((platform) => !packed.includes(platform)) }
  } finally {
    rmSync(stage, { recursive: true, force: true })
  }
}

/**
 * What users need, and nothing of how it is made.
 *
 * @param {string} stage
 * @param {Record<string, any>} manifest
 * @param {string} version
 */
function stageRoot(stage, manifest, version) {
  const folder = join(stage, 'node_modules', 'fencelock')
  for (const name of [...manifest.files, 'README.md', 'LICENSE']) {
    cpSync(join(root, name), join(folder, name), { recursive: true })
  }
  const ours = new Set(['devDependencies', 'napi', 'overrides', 'scripts'])
  const published = Object.fromEntries(Object.entries(manifest).filter(([key]) => !ours.has(key)))
  const optionalDependencies = Object.fromEntries(
    platforms().map((platform) => [packageName(platform), version]),
  )
  writeJson(join(folder, 'package.json'), { ...published, version, optionalDependencies })
  return folder
}

/** @param {string} stage @param {string} platform @param {string} addon @param {string} version */
function stagePlatform(stage, platform, addon, version) {
  const folder = join(stage, 'node_modules', packageName(platform))
  const source = join(root, 'npm', platform)
  cpSync(join(source, 'README.md'), join(folder, 'README.md'))
  cpSync(join(root, 'LICENSE'), join(folder, 'LICENSE'))
  cpSync(addon, join(folder, `fencelock.${platform}.node`))
  const manifest = readJson(join(source, 'package.json'))
  writeJson(join(folder, 'package.json'), { ...manifest, version, type: 'commonjs' })
  return folder
}

/** Loads what will be packed, if this machine can: whether addon and facade are of one version. @param {string} stage */
async function tryOut(stage) {
  const code = `try { require(${JSON.stringify(join(stage, 'node_modules/fencelock'))}); console.log('loads') } catch (error) {
    console.log(/^ADDON_(NOT_FOUND|WRONG_PLATFORM)$/.test(error.code) ? 'no addon for this machine' : error.message) }`
  const env = { ...process.env, FENCELOCK_NATIVE_PATH: '' }
  const said = await capture(process.execPath, ['-e', code], { env })
  if (said === 'no addon for this machine') say(`${said}: the packages were not tried out`)
  else if (said !== 'loads')
    throw new PlainError(`the packages do not load: ${said ?? 'the process crashed'}`)
}

async function main() {
  const { values } = parseArgs({
    options: {
      out: { type: 'string' },
      version: { type: 'string' },
      from: { type: 'string' },
      help: { type: 'boolean', short: 'h' },
    },
  })
  if (values.help || !values.out) return console.log(usage)
  const { version, from } = values
  const { missing } = await packAll({
    out: resolve(values.out),
    ...(version && { version }),
    ...(from && { from: resolve(from) }),
  })
  if (missing.length > 0) say(`no addon, so no package for ${missing.join(', ')}`)
}

if (process.argv[1] && pathToFileURL(process.argv[1]).href === import.meta.url) await runMain(main)
