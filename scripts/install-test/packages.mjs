/**
 * The cases about the packages themselves: files, sizes, metadata, types.
 */
import { cpSync, readdirSync, statSync } from 'node:fs'
import { join } from 'node:path'

import { capture, root, say } from '../lib/shell.mjs'
import { check, withPackages } from './context.mjs'

/** @typedef {import('./context.mjs').Context} Context */
/** @typedef {import('./context.mjs').Case} Case */

const compilers = ['typescript', 'typescript-oldest']

/**
 * Type-checks what users of each module system write, including declarations of libraries.
 *
 * @param {Context} context @param {string[]} configs @param {string[]} with_
 */
async function typeChecks(context, configs, with_) {
  const project = await withPackages(
    context,
    'types',
    ...['@types/node', '@opentelemetry/api'].map((name) => `${name}@${context.versionOf(name)}`),
  )
  cpSync(join(root, '__test__/projects/types'), project.folder, { recursive: true })
  for (const compiler of with_) {
    for (const config of configs) {
      await project.exec(process.execPath, [join(root, 'node_modules', compiler, 'bin/tsc'), '-p', config])
    }
  }
}

/** @type {Case[]} */
export const packageCases = [
  {
    name: 'what is in the packages',
    async test({ tarballs, host, version, released }) {
      const names = readdirSync(tarballs).filter((name) => name.endsWith('.tgz'))
      const main = `fencelock-${version}.tgz`
      const platform = `fencelock-binding-${host}-${version}.tgz`
      check(names.includes(main) && names.includes(platform), `packed was ${names.join(', ')}`)
      const list = async (/** @type {string} */ name) =>
        ((await capture('tar', ['-tzf', join(tarballs, name)])) ?? '').split(/\r?\n/).toSorted()
      const files = await list(main)
      const meant =
        /^package\/(index\.(js|d\.ts)|(lib|cli)\/([\w-]+\/)*[\w-]+\.js|bin\/fencelock\.js|cli\/schema\.json|(guard|otel|testing)\/([\w-]+\/)*[\w-]+\.(js|d\.ts)|docs\/(guide|moving|reference)\/[\w-]+\.md|docs\/images\/[\w-]+\.svg|(guard\/)?README\.md|CHANGELOG\.md|LICENSE|package\.json)$/
      const others = files.filter((file) => !meant.test(file))
      check(others.length === 0 && files.length > 10, `not for users: ${others.join(', ')}`)
      check(files.includes('package/docs/reference/errors.md'), 'the `help` of errors is not packed')
      const expected = ['LICENSE', 'README.md', `fencelock.${host}.node`, 'package.json']
      const found = await list(platform)
      check(
        found.join() ===
          expected
            .map((file) => `package/${file}`)
            .toSorted()
            .join(),
        `${platform} holds ${found.join(', ')}`,
      )
      const sizes = [main, platform].map((name) => statSync(join(tarballs, name)).size / 1e6)
      say(
        `${main} ${sizes[0]?.toFixed(2)} MB, ${platform} ${sizes[1]?.toFixed(2)} MB${released ? '' : ' (not as published)'}`,
      )
      check(!released || Math.max(...sizes) < 2, 'a package is over 2 MB')
    },
  },
  {
    name: 'TypeScript, nodenext',
    test: (context) => typeChecks(context, ['tsconfig.json'], ['typescript']),
  },
  {
    name: 'TypeScript: node16, nodenext, bundler; the newest and the oldest',
    long: true,
    test: (context) =>
      typeChecks(context, ['tsconfig.json', 'tsconfig.node16.json', 'tsconfig.bundler.json'], compilers),
  },
  {
    name: 'publint',
    async test({ tarballs }) {
      for (const name of readdirSync(tarballs).filter((file) => file.endsWith('.tgz'))) {
        const args = [
          join(root, 'scripts/install-test/node_modules/publint/src/cli.js'),
          'run',
          join(tarballs, name),
          '--strict',
        ]
        const said = await capture(process.execPath, args)
        check(said?.includes('All good!') ?? false, `publint of ${name}\n${said ?? 'failed'}`)
      }
    },
  },
  {
    name: 'are the types wrong',
    long: true,
    async test(context) {
      const cli = join(context.tools, '@arethetypeswrong/cli/dist/index.js')
      const tarball = join(context.tarballs, `fencelock-${context.version}.tgz`)
      await context.fresh('attw').exec(process.execPath, [cli, tarball, '--no-definitely-typed'])
    },
  },
]
