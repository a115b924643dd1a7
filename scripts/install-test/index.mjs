/**
 * `npm run test:install`: packs, publishes to a temporary registry on loopback, and installs from it into new
 * projects, as users do. In each project a program acquires a lock and must then exit on its own.
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
import { parseArgs } from 'node:util'

import { binaryName, hostName, platforms } from '../build/platforms.mjs'
import { report } from '../dev/results.mjs'
import { installPackages, setUp } from '../dev/setup.mjs'
import { PlainError, root, runMain, say } from '../lib/shell.mjs'
import { packAll } from '../release/pack.mjs'
import { installedRuntimes } from '../runtimes/index.mjs'
import { cases } from './cases.mjs'
import { LeftOut, Project } from './project.mjs'
import { publish, startRegistry } from './registry.mjs'

const usage = `npm run test:install -- [--long] [--only <part of a name>] [--from <folder> | --tarballs <folder>] [--keep]

  --long      every package manager, runtime and bundler, not only what is quick enough for everyday checks
  --only      only the cases whose names contain this
  --from      addons as they are published, <platform>/fencelock.<platform>.node: checks their sizes, too;
              default: the one that npm run build:fast created
  --tarballs  installs these, which "npm run pack:all" created, instead of packing
  --keep      does not remove the projects`

await runMain(async () => {
  const { values } = parseArgs({
    options: {
      long: { type: 'boolean', default: false },
      only: { type: 'string' },
      from: { type: 'string' },
      tarballs: { type: 'string' },
      keep: { type: 'boolean', default: false },
      help: { type: 'boolean', short: 'h' },
    },
  })
  if (values.help) return console.log(usage)
  const { long, only = '', from, tarballs, keep } = values
  // With tarballs no addon has to be built.
  await (tarballs ? installPackages('.') : setUp())
  await installPackages('scripts/runtimes')
  await installPackages('scripts/install-test')
  const chosen = cases.filter((item) => (long || only || !item.long) && item.name.includes(only))
  if (chosen.some((item) => item.long)) await installPackages('scripts/install-test/long')
  const folder = mkdtempSync(join(tmpdir(), 'fencelock-install-'))
  try {
    if (!(await runCases(folder, chosen, { from, given: tarballs }))) process.exitCode = 1
  } finally {
    if (keep) say(`kept: ${folder}`)
    else rmSync(folder, { recursive: true, force: true, maxRetries: 3 })
  }
})

/**
 * @param {string} folder
 * @param {import('./context.mjs').Case[]} chosen
 * @param {{ from: string | undefined, given: string | undefined }} packages the folders of addons or tarballs
 */
async function runCases(folder, chosen, { from, given }) {
  const host = hostName()
  const manifest = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'))
  const tarballs = join(folder, 'tarballs')
  if (given) copyTarballs(resolve(given), tarballs)
  else await packAll({ out: tarballs, from: stageAddons(join(folder, 'addons'), host, from) })
  const env = userEnvironment(join(folder, 'home'))
  const runtimes = new Map([['node', process.execPath], ...installedRuntimes().map(nameAndPath)])
  const registry = await startRegistry(folder, runtimes.get('node-newest') ?? process.execPath)
  try {
    await publish(registry.url, tarballs, env)
    const context = {
      registry: registry.url,
      tools: join(root, 'scripts/install-test/long/node_modules'),
      runtimes,
      tarballs,
      host,
      version: manifest.version,
      released: (from ?? given) !== undefined,
      fresh: (/** @type {string} */ name) => new Project(join(folder, 'projects', name), registry.url, env),
      versionOf: (/** @type {string} */ name) => manifest.devDependencies[name],
    }
    const results = []
    for (const { name, test } of chosen) {
      say(name)
      const begin = performance.now()
      let [passed, failed, skipped] = [1, 0, 0]
      let note = ''
      try {
        await test(context)
      } catch (error) {
        if (!(error instanceof PlainError)) throw error
        passed = 0
        if (error instanceof LeftOut) [skipped, note] = [1, error.message]
        else failed = 1
        console.error(error.message)
      }
      const seconds = (performance.now() - begin) / 1000
      results.push({ part: name, passed, failed, skipped, seconds, note })
    }
    return report(results)
  } finally {
    await registry.stop()
  }
}

/** @param {import('../runtimes/index.mjs').Runtime} runtime @returns {[string, string]} */
function nameAndPath({ name, path }) {
  return [name, path]
}

/**
 * Copies the tarballs, because a file with the registry's address is written next to them.
 *
 * @param {string} from
 * @param {string} to
 */
function copyTarballs(from, to) {
  const names = existsSync(from) ? readdirSync(from).filter((name) => name.endsWith('.tgz')) : []
  if (names.length === 0) throw new PlainError(`there are no tarballs in ${from}`)
  for (const name of names) cpSync(join(from, name), join(to, name))
}

/**
 * An addon for each platform, so that all packages can be published: package managers read them all and
 * install one. Platforms without an addon get a placeholder.
 *
 * @param {string} folder @param {string} host @param {string | undefined} from
 */
function stageAddons(folder, host, from) {
  for (const platform of platforms) {
    const binary = binaryName(platform)
    const found = [
      ...(from ? [join(resolve(from), platform.name, binary)] : []),
      ...(platform.name === host ? [join(root, binary)] : []),
    ]
    const addon = found.find((file) => existsSync(file))
    mkdirSync(join(folder, platform.name), { recursive: true })
    if (addon) cpSync(addon, join(folder, platform.name, binary))
    else writeFileSync(join(folder, platform.name, binary), 'a placeholder')
  }
  return folder
}

/**
 * The environment of a user with an empty home folder and empty caches, outside of npm.
 *
 * @param {string} home
 */
function userEnvironment(home) {
  mkdirSync(home)
  const env = Object.entries(process.env).filter(
    ([name]) =>
      !/^(npm_|XDG_|BUN_|PNPM_|YARN_|DENO_|FENCELOCK_|NODE_OPTIONS$|INIT_CWD$|FORCE_COLOR$)/i.test(name),
  )
  return {
    ...Object.fromEntries(env),
    HOME: home,
    USERPROFILE: home,
    LOCALAPPDATA: home,
    APPDATA: home,
    NO_COLOR: '1',
  }
}
