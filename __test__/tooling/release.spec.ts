/** The checks between a tag and the registry: every mistake is refused before anything is published. */
import { execFileSync } from 'node:child_process'
import { copyFileSync, cpSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { describe, expect, it, vi } from 'vitest'

import { publish } from '../../scripts/release/publish.mjs'
import { distTag, repositoryProblems, versionProblems } from '../../scripts/release/versions.mjs'
import { startRegistry } from '../fixtures/servers/registry'
import { root, tempDir } from '../fixtures/temp'

type Json = Record<string, unknown>

const changelog = '# Changelog\n\n## [Unreleased]\n\n## [1.2.3] - 2026-01-02\n\n### Added\n\n- All of it.\n'

/** The files that state a version, with only two platforms. */
function makeSource(version = '1.2.3'): string {
  const source = tempDir()
  const sources = ['package.json', 'package-lock.json', 'Cargo.toml', 'Cargo.lock']
  for (const name of sources) copyFileSync(join(root, name), join(source, name))
  for (const name of ['linux-x64-gnu', 'darwin-arm64']) {
    cpSync(join(root, 'npm', name), join(source, 'npm', name), { recursive: true })
    edit(join(source, 'npm', name, 'package.json'), { version })
  }
  const { napi, version: old } = read(join(root, 'package.json')) as { napi: Json; version: string }
  const targets = ['x86_64-unknown-linux-gnu', 'aarch64-apple-darwin']
  edit(join(source, 'package.json'), { version, napi: { ...napi, targets } })
  editLock(source, { version, packages: { '': { version } } })
  replace(join(source, 'Cargo.toml'), `version = "${old}"`, `version = "${version}"`)
  for (const crate of ['fencelock', 'fencelock-core']) {
    replace(
      join(source, 'Cargo.lock'),
      `name = "${crate}"\nversion = "${old}"`,
      `name = "${crate}"\nversion = "${version}"`,
    )
  }
  writeFileSync(join(source, 'CHANGELOG.md'), changelog.replace('1.2.3', version))
  return source
}

function editLock(source: string, change: Json): void {
  edit(join(source, 'package-lock.json'), change)
}

function read(file: string): Json {
  return JSON.parse(readFileSync(file, 'utf8')) as Json
}

function edit(file: string, change: Json): void {
  writeFileSync(file, JSON.stringify({ ...read(file), ...change }))
}

function replace(file: string, from: string, to: string): void {
  const text = readFileSync(file, 'utf8')
  expect(text).toContain(from)
  writeFileSync(file, text.replace(from, to))
}

describe('versions and changelog', () => {
  it('agree in this tree', () => {
    expect(versionProblems(root)).toEqual([])
  })

  it('agree for a tag', () => {
    expect(versionProblems(makeSource(), 'v1.2.3')).toEqual([])
  })

  it.each<[string, (source: string) => void, string]>([
    [
      'Cargo.toml',
      (source) => replace(join(source, 'Cargo.toml'), '"1.2.3"', '"1.2.4"'),
      'Cargo.toml says 1.2.4, package.json says 1.2.3',
    ],
    [
      'Cargo.lock',
      (source) =>
        replace(
          join(source, 'Cargo.lock'),
          '"fencelock"\nversion = "1.2.3"',
          '"fencelock"\nversion = "1.2.2"',
        ),
      'fencelock in Cargo.lock says 1.2.2, package.json says 1.2.3',
    ],
    [
      'package-lock.json',
      (source) => editLock(source, { version: '1.2.2' }),
      'package-lock.json says 1.2.2, package.json says 1.2.3',
    ],
    [
      'the root in package-lock.json',
      (source) => editLock(source, { packages: { '': { version: '1.2.2' } } }),
      'packages[""] of package-lock.json says 1.2.2, package.json says 1.2.3',
    ],
    [
      'a platform',
      (source) => edit(join(source, 'npm/darwin-arm64/package.json'), { version: '1.2.2' }),
      'npm/darwin-arm64/package.json says 1.2.2, package.json says 1.2.3',
    ],
    [
      'a missing platform package',
      (source) => rmSync(join(source, 'npm/darwin-arm64'), { recursive: true }),
      'npm/darwin-arm64 is missing',
    ],
    [
      'an additional platform package',
      (source) =>
        cpSync(join(source, 'npm/darwin-arm64'), join(source, 'npm/darwin-x64'), { recursive: true }),
      'npm/darwin-x64 is not a target of package.json',
    ],
    [
      'no changelog entry',
      (source) => replace(join(source, 'CHANGELOG.md'), '## [1.2.3] - 2026-01-02', ''),
      'CHANGELOG.md has no heading "## [1.2.3] - <date>"',
    ],
    [
      'a changelog entry without a date',
      (source) => replace(join(source, 'CHANGELOG.md'), ' - 2026-01-02', ''),
      'the heading "## [1.2.3]" of CHANGELOG.md has no date: "## [1.2.3] - YYYY-MM-DD"',
    ],
    [
      'an empty changelog entry',
      (source) => replace(join(source, 'CHANGELOG.md'), '- All of it.', ''),
      'CHANGELOG.md lists no change under "## [1.2.3] - 2026-01-02"',
    ],
  ])('disagree: %s', (_, spoil, problem) => {
    const source = makeSource()
    spoil(source)
    expect(versionProblems(source, 'v1.2.3')).toEqual([problem])
  })

  it('disagree: another tag', () => {
    expect(versionProblems(makeSource(), 'v1.2.4')).toEqual([
      'the tag is v1.2.4, but package.json says 1.2.3: it must be v1.2.3',
    ])
  })

  it('before a release the changes may be unreleased, but must not be empty', () => {
    const source = makeSource()
    writeFileSync(join(source, 'CHANGELOG.md'), '## [Unreleased]\n\n- Something.\n')
    expect(versionProblems(source)).toEqual([])
    writeFileSync(join(source, 'CHANGELOG.md'), '## [Unreleased]\n')
    expect(versionProblems(source)).toEqual(['CHANGELOG.md lists no change under "## [Unreleased]"'])
  })
})

it('the repository must be the one whose workflow runs', () => {
  const manifest = { name: 'fencelock', version: '1.2.3' }
  const at = (url: string) => repositoryProblems([{ ...manifest, repository: { url } }], 'we/lock', false)
  const nothing = { problems: [], warnings: [] }
  expect(at('git+https://github.com/we/lock.git')).toEqual(nothing)
  expect(at('git+https://github.com/they/lock.git')).toEqual({
    problems: [expect.stringContaining('we/lock.git; it is git+')],
    warnings: [],
  })
  const missing = [expect.stringContaining('it is missing')]
  expect(repositoryProblems([manifest], 'we/lock', true)).toEqual({ problems: missing, warnings: [] })
  expect(repositoryProblems([manifest], 'we/lock', false)).toEqual({ problems: [], warnings: missing })
  expect(repositoryProblems([manifest], undefined, true)).toEqual(nothing)
})

it('a prerelease gets its own dist-tag', () => {
  expect(['1.2.3', '1.2.3-0', '1.2.3-beta.1', '1.2.3-rc1+build.5', '1.2.3+build-1'].map(distTag)).toEqual([
    undefined,
    'next',
    'beta',
    'rc',
    undefined,
  ])
})

/** Packs a tarball without npm, so that it can be wrong in any way. */
function pack(dist: string, name: string, manifest: Json, files: string[]): void {
  const folder = tempDir()
  for (const file of files) {
    mkdirSync(dirname(join(folder, 'package', file)), { recursive: true })
    writeFileSync(join(folder, 'package', file), file)
  }
  mkdirSync(join(folder, 'package'), { recursive: true })
  writeFileSync(join(folder, 'package/package.json'), JSON.stringify(manifest))
  execFileSync('tar', ['-czf', join(dist, `${name}.tgz`), '-C', folder, 'package'])
}

interface Parts {
  main: { manifest: Json; files: string[] }
  linux: { manifest: Json; files: string[] }
  darwin: { manifest: Json; files: string[] }
}

/** A complete release as it would be packed, but changed by `spoil`. */
function makeRelease(spoil: (parts: Partial<Parts> & Parts) => void = () => undefined, version = '1.2.3') {
  const source = makeSource(version)
  const manifest = read(join(source, 'package.json'))
  const platform = (name: string) => ({
    manifest: read(join(source, 'npm', name, 'package.json')),
    files: [`fencelock.${name}.node`, 'README.md', 'LICENSE'],
  })
  const parts: Parts = {
    main: {
      manifest: {
        ...manifest,
        optionalDependencies: {
          '@fencelock/binding-linux-x64-gnu': version,
          '@fencelock/binding-darwin-arm64': version,
        },
      },
      files: [
        ...(manifest.files as string[]).map((entry) => (entry.endsWith('/') ? `${entry}index.js` : entry)),
        'README.md',
        'LICENSE',
      ],
    },
    linux: platform('linux-x64-gnu'),
    darwin: platform('darwin-arm64'),
  }
  spoil(parts)
  const dist = tempDir()
  for (const [name, part] of Object.entries(parts)) pack(dist, name, part.manifest, part.files)
  return { source, dir: dist }
}

// npm takes a few seconds a call under load.
describe('publishing', { timeout: 120_000 }, () => {
  it.each<[string, (parts: Parts) => void, string]>([
    [
      'a missing platform',
      (parts) => delete (parts as Partial<Parts>).darwin,
      '@fencelock/binding-darwin-arm64: missing',
    ],
    ['no root package', (parts) => delete (parts as Partial<Parts>).main, 'fencelock: missing'],
    [
      'a platform of another version',
      ({ linux }) => (linux.manifest.version = '1.2.2'),
      '@fencelock/binding-linux-x64-gnu is version 1.2.2, not 1.2.3',
    ],
    [
      'a platform without its addon',
      ({ linux }) => linux.files.shift(),
      '@fencelock/binding-linux-x64-gnu has no addon',
    ],
    [
      'a platform with the addon of another one',
      ({ linux }) => linux.files.push('fencelock.darwin-arm64.node'),
      '@fencelock/binding-linux-x64-gnu contains fencelock.darwin-arm64.node',
    ],
    [
      'a platform for another system',
      ({ linux }) => (linux.manifest.libc = ['musl']),
      '@fencelock/binding-linux-x64-gnu has a different "libc" than its package.json below npm/',
    ],
    [
      'an install script',
      ({ main }) => (main.manifest.scripts = { postinstall: 'node evil.js' }),
      'fencelock has the script "postinstall"',
    ],
    [
      'dependencies',
      ({ main }) => (main.manifest.dependencies = { left: '1' }),
      'fencelock has dependencies',
    ],
    [
      'platforms that are not depended on',
      ({ main }) => delete main.manifest.optionalDependencies,
      'fencelock must depend on every platform package in exactly 1.2.3',
    ],
    [
      'platforms in a range of versions',
      ({ main }) =>
        (main.manifest.optionalDependencies = {
          '@fencelock/binding-linux-x64-gnu': '^1.2.3',
          '@fencelock/binding-darwin-arm64': '1.2.3',
        }),
      'fencelock must depend on every platform package in exactly 1.2.3',
    ],
    [
      'missing files',
      ({ main }) => (main.files = main.files.filter((file) => file !== 'index.js')),
      'fencelock lacks index.js',
    ],
    ['sources', ({ main }) => main.files.push('src/lib.rs'), 'fencelock contains src/lib.rs'],
    [
      'a foreign package',
      (parts) =>
        ((parts as unknown as Json).other = { manifest: { name: 'other', version: '1.2.3' }, files: [] }),
      'other does not belong to this release',
    ],
  ])('is refused: %s', async (_, spoil, problem) => {
    const registry = await startRegistry()
    const release = makeRelease(spoil)
    await expect(publish({ ...release, provenance: false, env: registry.env })).rejects.toThrow(
      new RegExp(
        `^nothing was published:\\n {2}${problem.replaceAll(/[$^*+.()[\]{}|\\]/g, String.raw`\$&`)}$`,
      ),
    )
    expect(registry.published).toEqual([])
  })

  it('a dry run publishes nothing', async () => {
    const registry = await startRegistry()
    await publish({ ...makeRelease(), dryRun: true, env: registry.env })
    expect(registry.published).toEqual([])
  })

  it('a dry run only reports that a version is published already', async () => {
    const registry = await startRegistry()
    await publish({ ...makeRelease(), provenance: false, env: registry.env })
    const before = [...registry.published]
    const other = makeRelease(({ main }) => main.files.push('lib/more.js'))
    const said = vi.spyOn(console, 'log')
    await publish({ ...other, dryRun: true, env: registry.env })
    expect(said.mock.calls.flat().join('\n')).toContain(
      'fencelock@1.2.3 is published already; a new version is needed',
    )
    said.mockRestore()
    expect(registry.published).toEqual(before)
  })

  it('a missing repository does not stop a dry run, but it stops a release', async () => {
    const registry = await startRegistry()
    const env = { ...registry.env, GITHUB_REPOSITORY: 'we/lock' }
    await publish({ ...makeRelease(), dryRun: true, env })
    await expect(publish({ ...makeRelease(), provenance: false, env })).rejects.toThrow(
      /nothing was published:\n.*"repository" of .* it is missing/,
    )
    expect(registry.published).toEqual([])
  })

  it('needs provenance, which only a workflow with the permission can create', async () => {
    const registry = await startRegistry()
    await expect(publish({ ...makeRelease(), env: registry.env })).rejects.toThrow('npm publish')
    expect(registry.published).toEqual([])
  })

  it('ends with the root package, and a second run completes an interrupted one', async () => {
    const registry = await startRegistry()
    const release = makeRelease()
    registry.broken.add('@fencelock/binding-linux-x64-gnu')
    await expect(publish({ ...release, provenance: false, env: registry.env })).rejects.toThrow(
      /linux\.tgz failed.*run this again/,
    )
    expect(registry.published).toEqual(['@fencelock/binding-darwin-arm64@1.2.3'])

    registry.broken.clear()
    await publish({ ...release, provenance: false, env: registry.env })
    const all = [
      '@fencelock/binding-darwin-arm64@1.2.3',
      '@fencelock/binding-linux-x64-gnu@1.2.3',
      'fencelock@1.2.3',
    ]
    expect(registry.published).toEqual(all)
    expect(registry.packages.get('fencelock')?.['dist-tags']).toEqual({ latest: '1.2.3' })

    await publish({ ...release, provenance: false, env: registry.env })
    expect(registry.published, 'a third run finds nothing to do').toEqual(all)
  })

  it('is refused when the registry has other contents of this version', async () => {
    const registry = await startRegistry()
    const release = makeRelease()
    await publish({ ...release, provenance: false, env: registry.env })
    const before = [...registry.published]
    const other = makeRelease(({ main }) => main.files.push('lib/more.js'))
    await expect(publish({ ...other, provenance: false, env: registry.env })).rejects.toThrow(
      /nothing was published: the registry has another/,
    )
    expect(registry.published).toEqual(before)
  })

  it('is refused when the registry cannot be reached', async () => {
    const registry = await startRegistry()
    const env = { ...registry.env, npm_config_registry: 'http://127.0.0.1:9/' }
    await expect(publish({ ...makeRelease(), provenance: false, env })).rejects.toThrow(/npm view .* failed/)
  })

  it('does not make a prerelease the latest', async () => {
    const registry = await startRegistry()
    await publish({ ...makeRelease(undefined, '1.3.0-beta.1'), provenance: false, env: registry.env })
    expect(registry.packages.get('fencelock')?.['dist-tags']).toEqual({ beta: '1.3.0-beta.1' })
  })
})
