/**
 * What must be true of the packed packages before they are published.
 */
import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { readdirSync, readFileSync } from 'node:fs'
import { resolve } from 'node:path'
import { isDeepStrictEqual } from 'node:util'

import { readManifests } from './versions.mjs'

/** @typedef {import('./versions.mjs').Manifest} Manifest */

/**
 * @typedef {object} Tarball
 * @property {string} file its path
 * @property {string[]} files what it holds, without the leading `package/`
 * @property {Manifest} manifest
 * @property {string} integrity as the registry states it
 */

/** What npm adds to every package. */
const always = ['package.json', 'README.md', 'LICENSE']

/** @param {string} folder @returns {Tarball[]} */
export function readTarballs(folder) {
  return readdirSync(folder)
    .filter((name) => name.endsWith('.tgz'))
    .map((name) => {
      const file = resolve(folder, name)
      return {
        file,
        files: tar('-tzf', file)
          .split('\n')
          .filter((path) => path && !path.endsWith('/'))
          .map((path) => path.replace(/^package\//, '')),
        manifest: JSON.parse(tar('-xzOf', file, 'package/package.json')),
        integrity: `sha512-${createHash('sha512').update(readFileSync(file)).digest('base64')}`,
      }
    })
}

/** @param {string[]} args */
function tar(...args) {
  return execFileSync('tar', args, { encoding: 'utf8' })
}

/**
 * Whether the tarballs are the whole release and nothing else.
 *
 * @param {string} folder the project's root
 * @param {Tarball[]} tarballs
 * @returns {{ problems: string[], order: Tarball[] }} in the order to publish: the package that needs the others last
 */
export function checkTarballs(folder, tarballs) {
  const { main, platforms, wanted } = readManifests(folder)
  const sources = wanted.map((platform) => {
    const source = platforms.get(platform)
    return source ?? { name: `${main.napi?.packageName}-${platform}`, version: main.version }
  })
  /** @type {string[]} */
  const problems = []
  /** @type {Tarball[]} */
  const order = []
  for (const source of [...sources, main]) {
    const found = tarballs.filter(({ manifest }) => manifest.name === source.name)
    if (found.length !== 1) {
      problems.push(`${source.name}: ${found.length === 0 ? 'missing' : 'more than one'}`)
    }
    order.push(...found)
    for (const tarball of found) {
      const own = source === main ? mainProblems(tarball, main, sources) : platformProblems(tarball, source)
      problems.push(...versionOrScripts(tarball, main.version), ...own)
    }
  }
  for (const tarball of tarballs) {
    if (!order.includes(tarball)) problems.push(`${tarball.manifest.name} is no package of ours`)
  }
  return { problems, order }
}

/** @param {Tarball} tarball @param {string} version */
function versionOrScripts({ manifest: { name, version: found, scripts = {} } }, version) {
  const problems = found === version ? [] : [`${name} is version ${found}, not ${version}`]
  for (const script of ['preinstall', 'install', 'postinstall']) {
    if (scripts[script]) problems.push(`${name} has the script "${script}"`)
  }
  return problems
}

/** @param {Tarball} tarball @param {Manifest} source its package.json below `npm/` */
function platformProblems({ manifest, files }, source) {
  const { name, main = '' } = source
  const problems = files.includes(main) ? [] : [`${name} holds no addon`]
  for (const file of files) {
    if (file !== main && !always.includes(file)) problems.push(`${name} holds ${file}`)
  }
  for (const field of /** @type {const} */ (['os', 'cpu', 'libc', 'main'])) {
    if (!isDeepStrictEqual(manifest[field], source[field])) {
      problems.push(`${name} has another "${field}" than its package.json below npm/`)
    }
  }
  return problems
}

/** Whether a file is meant by an entry of `files`. @param {string} entry @param {string} file */
function covers(entry, file) {
  return file === entry || (entry.endsWith('/') && file.startsWith(entry))
}

/** @param {Tarball} tarball @param {Manifest} source @param {Manifest[]} platforms */
function mainProblems({ manifest, files }, source, platforms) {
  const { name, version } = source
  const entries = [...(source.files ?? []), ...always]
  const problems = [
    ...entries
      .filter((entry) => !files.some((file) => covers(entry, file)))
      .map((entry) => `${name} lacks ${entry}`),
    ...files
      .filter((file) => !entries.some((entry) => covers(entry, file)))
      .map((file) => `${name} holds ${file}`),
  ]
  const optional = Object.fromEntries(platforms.map((platform) => [platform.name, version]))
  if (!isDeepStrictEqual(manifest.optionalDependencies, optional)) {
    problems.push(`${name} must depend on every platform package in exactly ${version}`)
  }
  if (manifest.dependencies) problems.push(`${name} has dependencies`)
  return problems
}
