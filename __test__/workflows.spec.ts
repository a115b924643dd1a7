/** What the hosted workflows promise, as far as it can be seen from their text. */
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, it } from 'vitest'

import { platformOf } from '../scripts/lib/release.mjs'
import { startScript } from './fixtures/processes'
import { root, tempDir } from './fixtures/temp'

const folder = join(root, '.github/workflows')
const workflows = new Map(
  readdirSync(folder).map((name) => [name, readFileSync(join(folder, name), 'utf8')] as const),
)
const manifest = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as {
  napi: { targets: string[] }
  scripts: Record<string, string>
}

it('every target is built and tested, on a runner of its own system and processor', () => {
  const rows = [...workflows.get('platforms.yml')!.matchAll(/platform: ([\w-]+), runner: ([\w.-]+)/g)]
  expect(new Set(rows.map(([, platform]) => platform))).toEqual(
    new Set(manifest.napi.targets.map(platformOf)),
  )
  for (const [, platform = '', runner = ''] of rows) {
    const systems = { ubuntu: 'linux', macos: 'darwin', windows: 'win32' }
    const system = systems[runner.split('-')[0] as keyof typeof systems]
    // Runners with Apple's processors do not say so in their names.
    const arm = system === 'darwin' ? !runner.endsWith('-intel') : runner.endsWith('-arm')
    expect(platform).toMatch(`${system}-${arm ? 'arm64' : 'x64'}`)
  }
})

it('what the workflows run are scripts of this project', () => {
  const texts = [...workflows.values()].join('\n').replaceAll(/^ *#.*$/gm, '')
  const scripts = [...texts.matchAll(/npm (?:run )?([a-z:]+)/g)].map(([, script]) => script ?? '')
  expect(scripts).toContain('release:publish')
  const builtIn = new Set(['ci', 'run'])
  expect(scripts.filter((name) => !builtIn.has(name) && !(name in manifest.scripts))).toEqual([])
})

it('only the job that publishes a tag may publish, and none has a secret', () => {
  for (const text of workflows.values()) {
    expect(text).toMatch(/^permissions: \{\}$/m)
    expect(text).not.toMatch(/secrets\.|secrets:|_TOKEN|pull_request_target|workflow_run/)
  }
  const writes = [...workflows].flatMap(([name, text]) =>
    [...text.matchAll(/^ *([\w-]+): write/gm)].map(([, scope]) => `${name} ${scope}`),
  )
  expect(writes).toEqual(['release.yml id-token'])
  expect(workflows.get('release.yml')).toMatch(/^on:\n {2}push:\n {4}tags: \['v\[0-9\]\*'\]\n\n/m)
  const publishing = [...workflows].flatMap(([name, text]) =>
    (text.match(/release:publish.*/g) ?? []).map((command) => [name, command]),
  )
  expect(new Map(publishing as [string, string][])).toEqual(
    new Map([
      ['platforms.yml', 'release:publish -- --dir dist --dry-run'],
      ['release.yml', 'release:publish -- --dir dist'],
    ]),
  )
})

it('packs only after every platform passed, and publishes only what was packed', () => {
  expect(workflows.get('platforms.yml')).toMatch(/^ {2}pack:\n {4}name: .*\n {4}needs: \[check, platform\]$/m)
  expect(workflows.get('release.yml')).toMatch(/^ {2}publish:\n {4}name: .*\n {4}needs: platforms$/m)
  // Either would let a job run though one that it needs failed.
  for (const text of workflows.values()) expect(text).not.toMatch(/always\(\)|continue-on-error/)
})

/** Runs `npm run lint:workflows` on a folder with this workflow. */
async function lint(workflow: string) {
  const broken = tempDir()
  mkdirSync(join(broken, '.github/workflows'), { recursive: true })
  writeFileSync(join(broken, '.github/workflows/ci.yml'), workflow)
  return startScript(join(root, 'scripts/lint-workflows.mjs'), {
    args: [broken],
    limitMs: 120_000,
  }).ended
}

const sound = `name: CI
on: push
permissions: {}
jobs:
  test:
    runs-on: ubuntu-24.04
    permissions:
      contents: read
    steps:
      - uses: actions/checkout@3d3c42e5aac5ba805825da76410c181273ba90b1 # v7.0.1
        with:
          persist-credentials: false
      - run: npm test
`

// The linters come from the Python package index, which has none for musl and Windows.
const report = process.report.getReport() as { header: { glibcVersionRuntime?: string } }
it.runIf(process.platform === 'darwin' || report.header.glibcVersionRuntime)(
  'the linters refuse what is wrong, and only that',
  { timeout: 300_000 },
  async () => {
    expect(await lint(sound)).toMatchObject({ code: 0 })

    const cases = [
      ['ubuntu-24.04', 'ubuntu-24.4', 'actionlint', 'label "ubuntu-24.4" is unknown'],
      ['npm test', 'echo ${{ matrix.nothing }}', 'actionlint', 'property "nothing" is not defined'],
      ['    steps:', '    needs: build\n    steps:', 'actionlint', 'job "build" which does not exist'],
      ['@3d3c42e5aac5ba805825da76410c181273ba90b1', '@v7', 'zizmor', 'unpinned-uses'],
      ['          persist-credentials: false', '          fetch-depth: 0', 'zizmor', 'artipacked'],
      [
        '    permissions:\n      contents: read',
        '    permissions: write-all',
        'zizmor',
        'excessive-permissions',
      ],
      ['npm test', 'echo ${{ github.head_ref }}', 'zizmor', 'template-injection'],
    ] as const
    for (const [from, to, linter, finding] of cases) {
      expect(sound).toContain(from)
      const { code, stdout, stderr } = await lint(sound.replace(from, to))
      expect({ code, finding, output: stdout }).toMatchObject({
        code: 1,
        output: expect.stringContaining(finding),
      })
      expect(stderr).toContain(linter)
    }
  },
)
