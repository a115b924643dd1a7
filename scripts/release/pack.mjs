/**
 * `npm run pack:all`: makes the tarballs to publish, one for each platform that has an addon, and the root's.
 * Only in the packed package.json of the root are the platforms optional dependencies: in a clone, `npm ci`
 * would look for packages that are not published yet.
 */
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { pathToFileURL } from 'node:url'
import { parseArgs } from 'node:util'

import { binaryName, packageFolder, packageName, platforms } from '../build/platforms.mjs'
import { capture, npm, npmCall, PlainError, root, runMain, say } from '../lib/shell.mjs'
import { gate } from './binary-rules.mjs'

/** @typedef {import('../build/platforms.mjs').Platform} Platform */

const usage = `npm run pack:all -- --out <folder> [--from <folder>]

Packs nothing if "npm run gate" would refuse one of the addons.

  --out   where the tarballs go
  --from  where the addons are: <platform>/fencelock.<platform>.node; default: npm/`

/** @param {string} file @returns {Record<string, any>} */
function readJson(file) {
  return JSON.parse(readFileSync(file, 'utf8'))
}

/** @param {string} file @param {object} value */
function writeJson(file, value) {
  writeFileSync(file, `${JSON.stringify(value, undefined, 2)}\n`)
}

/** @param {string} from @param {Platform} platform */
function addonOf(from, platform) {
  return join(from, platform.name, binaryName(platform))
}

/**
 * The files of the root's package, as npm selects them.
 *
 * @returns {Promise<string[]>}
 */
export async function packedFiles() {
  const { command, args, shell } = npmCall(['pack', '--dry-run', '--json', '--ignore-scripts'])
  const output = await capture(command, args, { shell })
  if (output === null) throw new PlainError('npm pack --dry-run failed')
  const [{ files }] = JSON.parse(output)
  return files.map((/** @type {{ path: string }} */ { path }) => path)
}

/** The platforms that have an addon. @param {string} from */
function present(from) {
  return platforms.filter((platform) => existsSync(addonOf(from, platform)))
}

/** @param {{ out: string, from: string }} options */
export async function packAll({ out, from }) {
  const manifest = readJson(join(root, 'package.json'))
  const stage = mkdtempSync(join(tmpdir(), 'fencelock-pack-'))
  try {
    const folders = [await stageRoot(stage, manifest)]
    for (const platform of present(from))
      folders.push(stagePlatform(stage, platform, addonOf(from, platform)))
    await tryOut(stage)
    mkdirSync(out, { recursive: true })
    for (const folder of folders) {
      await npm(['pack', folder, '--pack-destination', out, '--ignore-scripts', '--silent'])
    }
  } finally {
    rmSync(stage, { recursive: true, force: true })
  }
}

/**
 * Only what users need, nothing about development.
 *
 * @param {string} stage
 * @param {Record<string, any>} manifest
 */
async function stageRoot(stage, manifest) {
  const folder = join(stage, 'node_modules', 'fencelock')
  for (const name of await packedFiles()) cpSync(join(root, name), join(folder, name))
  const ours = new Set(['devDependencies', 'napi', 'overrides', 'scripts'])
  const published = Object.fromEntries(Object.entries(manifest).filter(([key]) => !ours.has(key)))
  const optionalDependencies = Object.fromEntries(
    platforms.map((platform) => [packageName(platform), manifest.version]),
  )
  writeJson(join(folder, 'package.json'), { ...published, optionalDependencies })
  return folder
}

/** @param {string} stage @param {Platform} platform @param {string} addon */
function stagePlatform(stage, platform, addon) {
  const folder = join(stage, 'node_modules', packageName(platform))
  const source = packageFolder(platform)
  cpSync(join(source, 'README.md'), join(folder, 'README.md'))
  cpSync(join(root, 'LICENSE'), join(folder, 'LICENSE'))
  cpSync(addon, join(folder, binaryName(platform)))
  const manifest = readJson(join(source, 'package.json'))
  writeJson(join(folder, 'package.json'), { ...manifest, type: 'commonjs' })
  return folder
}

/**
 * Loads what will be packed, if this machine can: addon and facade must have the same version.
 *
 * @param {string} stage
 */
async function tryOut(stage) {
  const code = `try { require(${JSON.stringify(join(stage, 'node_modules/fencelock'))}); console.log('loads') } catch (error) {
    console.log(/^ADDON_(NOT_FOUND|WRONG_PLATFORM)$/.test(error.code) ? 'no addon for this machine' : error.message) }`
  const env = { ...process.env, FENCELOCK_NATIVE_PATH: '' }
  const said = await capture(process.execPath, ['-e', code], { env })
  if (said === 'no addon for this machine') say(`${said}: the packages were not tested`)
  else if (said !== 'loads')
    throw new PlainError(`the packages do not load: ${said ?? 'the process crashed'}`)
}

/** Throws if one of the addons may not be published. @param {string} from */
async function gateAll(from) {
  const objections = []
  for (const platform of present(from)) {
    for (const objection of await gate(addonOf(from, platform), platform)) {
      objections.push(`${platform.name}: ${objection}`)
    }
  }
  if (objections.length > 0) throw new PlainError(`nothing was packed:\n  ${objections.join('\n  ')}`)
}

async function main() {
  const { values } = parseArgs({
    options: {
      out: { type: 'string' },
      from: { type: 'string', default: join(root, 'npm') },
      help: { type: 'boolean', short: 'h' },
    },
  })
  if (values.help || !values.out) return console.log(usage)
  const from = resolve(values.from)
  await gateAll(from)
  await packAll({ out: resolve(values.out), from })
  const packed = present(from)
  const missing = platforms.filter((platform) => !packed.includes(platform)).map(({ name }) => name)
  if (missing.length > 0) say(`no addon, so no package, for ${missing.join(', ')}`)
}

if (process.argv[1] && pathToFileURL(process.argv[1]).href === import.meta.url) await runMain(main)
