/**
 * The cases: how the package is installed, and what must work afterwards.
 */
import { existsSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'

import { root, say } from '../lib/shell.mjs'
import { check, npmProject, runtime, withPackages } from './context.mjs'
import { packageCases } from './packages.mjs'
import { LeftOut, took } from './project.mjs'

/** @typedef {import('./context.mjs').Context} Context */
/** @typedef {import('./context.mjs').Case} Case */

/** @type {Case[]} */
export const cases = [
  ...packageCases,
  {
    name: 'npm',
    async test(context) {
      const project = await npmProject(context)
      const manifest = JSON.parse(
        readFileSync(join(project.folder, 'node_modules/fencelock/package.json'), 'utf8'),
      )
      check(
        !manifest.scripts && !manifest.devDependencies && !manifest.dependencies,
        'scripts or dependencies in package.json',
      )
      check(
        Object.values(manifest.optionalDependencies).every((wanted) => wanted === context.version),
        'the platforms are not named with the exact version',
      )
      const installed = readdirSync(join(project.folder, 'node_modules/@fencelock'))
      check(
        installed.join() === `binding-${context.host}`,
        `installed for this platform: ${installed.join(', ')}`,
      )
      await project.take(process.execPath, ['use.mjs'], ['use.cjs'])
      await project.take(runtime(context, 'bun-newest'), ['use.mjs'], ['use.cjs'])
      await callProgram(project, context.version, 'npm', ['exec', '--no', '--'])
    },
  },
  {
    name: 'README, from an empty folder',
    async test(context) {
      const project = context.fresh('readme')
      for (const name of readdirSync(project.folder)) {
        if (name !== '.npmrc') rmSync(join(project.folder, name))
      }
      const readme = readFileSync(join(root, 'README.md'), 'utf8')
      const code = /^```js\n(.*?)^```$/ms.exec(readme)?.[1] ?? ''
      const [install = ''] = /^npm install .*$/m.exec(readme) ?? []
      project.write({ 'lock.mjs': code })
      check(readme.includes('`node lock.mjs`'), 'README.md does not say how its first example is run')
      await project.exec('npm', install.split(' ').slice(1))
      const output = await project.exec(process.execPath, ['lock.mjs'], { limitMs: 30_000 })
      check(/^working with token \d{16}$/m.test(output), `no lock\n${output}`)
    },
  },
  {
    name: 'bun install',
    async test(context) {
      const project = context.fresh('bun')
      const bun = runtime(context, 'bun-newest')
      await project.exec(bun, ['add', 'fencelock'])
      await project.take(bun, ['use.mjs'], ['use.cjs'])
      await project.take(process.execPath, ['use.mjs'], ['use.cjs'])
      // As bunx does.
      await callProgram(project, context.version, bun, ['x', '--bun', '--no-install'])
    },
  },
  {
    name: 'without optional dependencies',
    async test(context) {
      const project = context.fresh('omit')
      await project.exec('npm', ['install', '--omit=optional', 'fencelock'])
      for (const program of [process.execPath, runtime(context, 'bun-newest')]) {
        for (const file of ['use.mjs', 'use.cjs']) {
          const output = await project.exec(program, [file], { fails: true })
          const said = output.includes(`the package @fencelock/binding-${context.host} was looked for from `)
          check(said && output.includes('ADDON_NOT_FOUND'), `not the loader's error\n${output}`)
        }
      }
      await project.exec('npm', ['install', '--include=optional'])
      await project.take(process.execPath, ['use.mjs'])
    },
  },
  {
    name: 'every runtime',
    long: true,
    async test(context) {
      const project = await npmProject(context, 'runtimes')
      for (const path of context.runtimes.values()) await project.take(path, ['use.mjs'], ['use.cjs'])
    },
  },
  {
    name: 'pnpm',
    long: true,
    async test(context) {
      const project = context.fresh('pnpm')
      // It needs a newer Node.js than fencelock does.
      const node = runtime(context, 'node-newest')
      await project.exec(node, [join(context.tools, 'pnpm/bin/pnpm.mjs'), 'add', 'fencelock'])
      await project.take(process.execPath, ['use.mjs'], ['use.cjs'])
      await project.take(runtime(context, 'bun-newest'), ['use.mjs'])
    },
  },
  {
    name: 'yarn, node_modules',
    long: true,
    async test(context) {
      const project = context.fresh('yarn')
      await yarn(context, project, 'node-modules')
      await project.take(process.execPath, ['use.mjs'], ['use.cjs'])
    },
  },
  {
    name: 'yarn, Plug’n’Play',
    long: true,
    async test(context) {
      const project = context.fresh('pnp')
      const call = await yarn(context, project, 'pnp')
      await project.take(process.execPath, [...call, 'node', 'use.mjs'], [...call, 'node', 'use.cjs'])
    },
  },
  {
    name: 'worker threads',
    long: true,
    async test(context) {
      const project = await npmProject(context, 'workers')
      project.write({
        'main.mjs': `import { Worker } from 'node:worker_threads'
import './use.mjs'
for (const file of ['./use.mjs', './use.cjs']) new Worker(new URL(file, import.meta.url))
`,
      })
      for (const name of ['node', 'node-newest', 'bun-newest']) {
        const output = await project.exec(runtime(context, name), ['main.mjs'], { limitMs: 30_000 })
        check(
          [...output.matchAll(new RegExp(took, 'gm'))].length === 3,
          `${name}: not three locks\n${output}`,
        )
      }
    },
  },
  {
    name: 'vitest, threads and forks',
    long: true,
    async test(context) {
      const project = await withPackages(context, 'vitest', `vitest@${context.versionOf('vitest')}`)
      project.write({
        'use.test.mjs': `import { LockManager } from 'fencelock'
import { test } from 'vitest'
test('takes a lock', async () => {
  const lock = await new LockManager({ local: 'locks.sqlite' }).acquireLocal('vitest')
  console.log('token ' + lock.token)
  await lock.release()
})
`,
      })
      for (const pool of ['threads', 'forks']) {
        await project.take(process.execPath, ['node_modules/vitest/vitest.mjs', 'run', '--pool', pool])
      }
    },
  },
  {
    name: 'esbuild',
    long: true,
    async test(context) {
      const project = await npmProject(context, 'esbuild')
      const bundle = (/** @type {string[]} */ ...args) =>
        project.exec(process.execPath, [
          join(context.tools, 'esbuild/bin/esbuild'),
          '--bundle',
          '--platform=node',
          ...args,
        ])
      await bundle('use.mjs', '--format=esm', '--external:fencelock', '--outfile=dist/use.mjs')
      await bundle('use.cjs', '--format=cjs', '--external:fencelock', '--outfile=dist/use.cjs')
      // The facade in the bundle, only the addon outside.
      await bundle('use.cjs', '--format=cjs', '--external:@fencelock/*', '--outfile=dist/all.cjs')
      await project.take(process.execPath, ['dist/use.mjs'], ['dist/use.cjs'], ['dist/all.cjs'])
    },
  },
  {
    name: 'bun build --compile',
    long: true,
    async test(context) {
      const project = await npmProject(context, 'compile')
      await project.exec(runtime(context, 'bun-newest'), [
        'build',
        '--compile',
        'use.cjs',
        '--outfile',
        'program',
      ])
      // The program must contain the addon.
      rmSync(join(project.folder, 'node_modules'), { recursive: true })
      await project.take(join(project.folder, process.platform === 'win32' ? 'program.exe' : 'program'), [])
    },
  },
  {
    name: 'Vite, a build for servers',
    long: true,
    async test(context) {
      const project = await npmProject(context, 'vite')
      const vite = join(root, 'node_modules/vite/bin/vite.js')
      project.write({
        'all.config.mjs': "export default { ssr: { noExternal: true, external: ['fencelock'] } }",
      })
      for (const [folder, ...options] of [['dist'], ['all', '--config', 'all.config.mjs']]) {
        const build = ['build', '--ssr', 'use.mjs', '--outDir', folder ?? '', ...options]
        await project.exec(process.execPath, [vite, ...build])
        const [built] = readdirSync(join(project.folder, folder ?? ''))
        await project.take(process.execPath, [`${folder}/${built}`])
      }
    },
  },
  {
    name: 'Deno',
    long: true,
    async test(context) {
      const folder = join(context.tools, '@deno')
      const [name] = existsSync(folder) ? readdirSync(folder) : []
      if (!name) throw new LeftOut('there is no Deno for this platform')
      const deno = join(folder, name, process.platform === 'win32' ? 'deno.exe' : 'deno')
      const project = context.fresh('deno')
      // By default it ignores new versions for a day.
      await project.exec(deno, ['add', '--minimum-dependency-age=0', 'npm:fencelock'])
      const call = ['run', '--allow-ffi', '--allow-env', '--allow-read', '--allow-write']
      await project.take(deno, [...call, 'use.mjs'], [...call, 'use.cjs'])
    },
  },
  {
    name: 'packages of another libc',
    long: true,
    async test(context) {
      const { host } = context
      if (!host.startsWith('linux')) throw new LeftOut('this system has one C library')
      const other = host.endsWith('gnu') ? host.replace('gnu', 'musl') : host.replace('musl', 'gnu')
      const project = context.fresh('libc')
      await project.exec('npm', [
        'install',
        `--libc=${other.endsWith('musl') ? 'musl' : 'glibc'}`,
        'fencelock',
      ])
      const output = await project.exec(process.execPath, ['use.mjs'], { fails: true })
      check(output.includes('ADDON_WRONG_PLATFORM'), `not the loader's error\n${output}`)
      check(output.includes(`needs the addon for ${host}, and only that for ${other}`), output)
      await project.exec('npm', ['ci', `--libc=${host.endsWith('musl') ? 'musl' : 'glibc'}`])
      await project.take(process.execPath, ['use.mjs'])
    },
  },
  {
    name: 'the same package under two names',
    long: true,
    async test(context) {
      const project = context.fresh('two')
      await project.exec('npm', ['install', 'fencelock', 'second@npm:fencelock'])
      project.write({
        'both.mjs': `import './use.mjs'
import { LockManager } from 'second'
const lock = await new LockManager({ local: 'locks.sqlite' }).acquireLocal('second')
console.log('second ' + lock.token)
`,
      })
      const output = await project.exec(process.execPath, ['both.mjs'], { limitMs: 30_000 })
      check(took.test(output) && /^second \d+$/m.test(output), output)
    },
  },
  {
    name: 'how long installing and loading take',
    long: true,
    async test(context) {
      const project = await npmProject(context, 'speed')
      // Offline: everything comes from the cache, as with a local mirror.
      const times = []
      for (let round = 0; round < 3; round++) {
        rmSync(join(project.folder, 'node_modules'), { recursive: true })
        const begin = performance.now()
        await project.exec('npm', ['ci', '--offline'])
        await project.take(process.execPath, ['use.mjs'])
        times.push((performance.now() - begin) / 1000)
      }
      say(`from npm ci to the first lock, warm cache: ${times.map((time) => time.toFixed(1)).join(', ')} s`)
      check(Math.max(...times) < 10, 'over 10 s')
      project.write({
        'empty.cjs': '',
        // Processor time does not depend on what else the machine is doing.
        'time.cjs': `const now = () => { const { user, system } = process.cpuUsage(); return (user + system) / 1000 }
const begin = now()
require('./empty.cjs')
const middle = now()
require('fencelock')
console.log(now() - middle - (middle - begin))
`,
      })
      for (const [name, path] of context.runtimes) {
        const loads = []
        for (let round = 0; round < 10; round++) loads.push(Number(await project.exec(path, ['time.cjs'])))
        const best = Math.min(...loads)
        say(`require('fencelock') on ${name}: ${best.toFixed(1)} ms of processor time`)
        check(best < 15, `over 15 ms on ${name}`)
      }
    },
  },
]

/**
 * Calls the command line program by its name.
 *
 * @param {import('./project.mjs').Project} project @param {string} version
 * @param {string} command @param {string[]} args that come before the name
 */
async function callProgram(project, version, command, args) {
  const said = await project.exec(command, [...args, 'fencelock', '--version'])
  check(said.includes(`fencelock ${version}`), `not the version\n${said}`)
  const run = [
    'run',
    'job',
    '--verbose',
    '--',
    process.execPath,
    '-p',
    "'token ' + process.env.FENCELOCK_TOKEN",
  ]
  const output = await project.exec(command, [...args, 'fencelock', ...run])
  check(took.test(output), `the command had no lock\n${output}`)
}

/**
 * Installs with yarn; returns how to call it.
 *
 * @param {Context} context @param {import('./project.mjs').Project} project @param {string} linker
 */
async function yarn({ tools, registry }, project, linker) {
  const lines = {
    nodeLinker: linker,
    npmRegistryServer: registry.replace(/\/$/, ''),
    unsafeHttpWhitelist: ['127.0.0.1'],
    enableTelemetry: false,
    // By default it ignores new versions for days.
    npmMinimalAgeGate: 0,
    // Needed for `import` in projects whose package.json does not declare ES modules.
    pnpEnableEsmLoader: true,
  }
  // JSON is valid YAML. An empty lock file marks this folder as the root of the project.
  project.write({ '.yarnrc.yml': JSON.stringify(lines), 'yarn.lock': '' })
  const call = [join(tools, '@yarnpkg/cli-dist/bin/yarn.js')]
  await project.exec(process.execPath, [...call, 'add', 'fencelock'])
  return call
}
