/**
 * The rules that the sources must keep before a version is published. Only Node built-ins, here and in
 * tarballs.mjs: the job that may publish installs nothing.
 */
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'

import { platformOf } from '../build/platforms.mjs'

/**
 * @typedef {object} Manifest the parts of a package.json that are checked
 * @property {string} name
 * @property {string} version
 * @property {string} [main]
 * @property {string[]} [files]
 * @property {string[]} [os]
 * @property {string[]} [cpu]
 * @property {string[]} [libc]
 * @property {Record<string, string>} [scripts]
 * @property {Record<string, string>} [dependencies]
 * @property {Record<string, string>} [optionalDependencies]
 * @property {string | { url?: string }} [repository]
 * @property {{ packageName: string, targets: string[] }} [napi]
 */

/** @param {string} folder @param {string} path @returns {Manifest} */
function readManifest(folder, path) {
  return JSON.parse(readFileSync(join(folder, path), 'utf8'))
}

/**
 * The root's package.json and, by platform, those below `npm/`.
 *
 * @param {string} folder the project's root
 */
export function readManifests(folder) {
  const main = readManifest(folder, 'package.json')
  const wanted = (main.napi?.targets ?? []).map(platformOf).toSorted()
  const present = readdirSync(join(folder, 'npm')).toSorted()
  const platforms = new Map(present.map((name) => [name, readManifest(folder, `npm/${name}/package.json`)]))
  return { main, platforms, wanted }
}

/**
 * Compares every place that states the version, the changelog and the tag.
 *
 * @param {string} folder the project's root
 * @param {string} [tag] of the release; without it the changelog may still say `Unreleased`
 * @returns {string[]} what is wrong
 */
export function versionProblems(folder, tag) {
  const { main, platforms, wanted } = readManifests(folder)
  const { version } = main
  const text = (/** @type {string} */ path) => readFileSync(join(folder, path), 'utf8')
  /** @type {string[]} */
  const problems = []
  const expect = (/** @type {string} */ place, /** @type {string | undefined} */ found) => {
    if (found !== version) problems.push(`${place} says ${found ?? 'nothing'}, package.json says ${version}`)
  }
  expect('Cargo.toml', /^\[workspace\.package\][^[]*?^version = "(.+)"$/m.exec(text('Cargo.toml'))?.[1])
  for (const crate of ['fencelock', 'fencelock-core']) {
    const found = new RegExp(`^name = "${crate}"\\nversion = "(.+)"$`, 'm').exec(text('Cargo.lock'))
    expect(`${crate} in Cargo.lock`, found?.[1])
  }
  const lock = JSON.parse(text('package-lock.json'))
  expect('package-lock.json', lock.version)
  expect('packages[""] of package-lock.json', lock.packages?.['']?.version)
  for (const [platform, manifest] of platforms) {
    expect(`npm/${platform}/package.json`, manifest.version)
    if (!wanted.includes(platform)) problems.push(`npm/${platform} is not a target of package.json`)
  }
  for (const platform of wanted) {
    if (!platforms.has(platform)) problems.push(`npm/${platform} is missing`)
  }
  if (tag !== undefined && tag !== `v${version}`) {
    problems.push(`the tag is ${tag}, but package.json says ${version}: it must be v${version}`)
  }
  return [...problems, ...changelogProblems(text('CHANGELOG.md'), version, tag !== undefined)]
}

/** @param {string} changelog @param {string} version @param {boolean} released */
function changelogProblems(changelog, version, released) {
  // The text of each section, by its heading.
  const sections = new Map(
    changelog
      .split(/^## /m)
      .slice(1)
      .map((section) => {
        const [heading = '', ...lines] = section.split('\n')
        return [heading.trim(), lines.join('\n')]
      }),
  )
  const own = [...sections.keys()].find((heading) => heading.startsWith(`[${version}]`))
  const heading = own ?? (released ? undefined : '[Unreleased]')
  if (heading === undefined) return [`CHANGELOG.md has no heading "## [${version}] - <date>"`]
  if (own !== undefined && !/ - \d{4}-\d{2}-\d{2}$/.test(own)) {
    return [`the heading "## ${own}" of CHANGELOG.md has no date: "## [${version}] - YYYY-MM-DD"`]
  }
  if (!/^- \S/m.test(sections.get(heading) ?? '')) {
    return [`CHANGELOG.md lists no change under "## ${heading}"`]
  }
  return []
}

/**
 * The provenance of a package names the repository that built it. The registry refuses the package if
 * package.json names another one or none, and it would do so in the middle of a release.
 *
 * @param {Manifest[]} manifests
 * @param {string | undefined} home `owner/name` of the repository of this workflow; undefined outside of a
 *   workflow
 * @param {boolean} released whether this is a release: before the first one the repository may be missing
 * @returns {{ problems: string[], warnings: string[] }}
 */
export function repositoryProblems(manifests, home, released) {
  /** @type {string[]} */
  const problems = []
  /** @type {string[]} */
  const warnings = []
  const expected = `git+https://github.com/${home}.git`
  for (const { name, repository } of home ? manifests : []) {
    const url = typeof repository === 'string' ? repository : repository?.url
    if (url === expected) continue
    const where = url === undefined && !released ? warnings : problems
    where.push(`"repository" of ${name} must have the url ${expected}; it is ${url ?? 'missing'}`)
  }
  return { problems, warnings }
}

/**
 * The dist-tag of a prerelease: `next` for `1.0.0-0`, `beta` for `1.0.0-beta.1`. A release has none here: npm
 * then uses `latest`, and refuses to move it back to an older version.
 *
 * @param {string} version
 */
export function distTag(version) {
  const prerelease = /^\d+\.\d+\.\d+-([^+]+)/.exec(version)?.[1]
  if (prerelease === undefined) return undefined
  return /^[a-z]+/i.exec(prerelease)?.[0] ?? 'next'
}
