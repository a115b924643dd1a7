/**
 * The rules that the packed packages must keep to be published.
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
 * @property {string[]} files the files in it, without the leading `package/`
 * @property {Manifest} manifest
 * @property {string} integrity as the registry states it
 */

/** The files that npm adds to every package. */
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
 * Checks that the tarballs are the whole release and nothing else.
 *
 * @param {string} folder the project's root
 * @param {Tarball[]} tarballs
 * @returns {{ problems: string[], order: Tarball[] }} in the order to publish: the package that needs the
 *   others last
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
    if (!order.includes(tarball)) problems.push(`${tarball.manifest.name} does not belong to this release`)
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
  const problems = files.includes(main) ? [] : [`${name} has no addon`]
  for (const file of files) {
    if (file !== main && !always.includes(file)) problems.push(`${name} contains ${file}`)
  }
  for (const field of /** @type {const} */ (['os', 'cpu', 'libc', 'main'])) {
    if (!isDeepStrictEqual(manifest[field], source[field])) {
      problems.push(`${name} has a different "${field}" than its package.json below npm/`)
    }
  }
  return problems
}

/**
 * Whether an entry of `files` covers a file: a path, a folder, or a pattern with `*`.
 *
 * @param {string} entry
 * @param {string} file
 */
function covers(entry, file) {
  const pattern = entry
    .replaceAll(/[.+?^${}()|[\]\\]/g, String.raw`\$&`)
    .replaceAll('**/', '<folders>')
    .replaceAll('*', '[^/]*')
    .replaceAll('<folders>', '(.*/)?')
  return new RegExp(`^${pattern}${entry.endsWith('/') ? '' : '$'}`).test(file)
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
      .map((file) => `${name} contains ${file}`),
  ]
  const optional = Object.fromEntries(platforms.map((platform) => [platform.name, version]))
  if (!isDeepStrictEqual(manifest.optionalDependencies, optional)) {
    problems.push(`${name} must depend on every platform package in exactly ${version}`)
  }
  if (manifest.dependencies) problems.push(`${name} has dependencies`)
  return problems
}
