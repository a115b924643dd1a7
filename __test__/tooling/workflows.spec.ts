/** Rules for the hosted workflows that can be checked in their text. */
import { spawnSync } from 'node:child_process'
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { expect, it } from 'vitest'

import { platformOf } from '../../scripts/build/platforms.mjs'
import { startScript } from '../fixtures/processes/processes'
import { root, tempDir } from '../fixtures/temp'

const folder = join(root, '.github/workflows')
const workflows = new Map(
  readdirSync(folder).map((name) => [name, readFileSync(join(folder, name), 'utf8')] as const),
)
const manifest = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as {
  napi: { targets: string[] }
  scripts: Record<string, string>
}

it('every target is built and tested on a runner of the same system and processor', () => {
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

it('the workflows run existing scripts of this project', () => {
  const texts = [...workflows.values()].join('\n').replaceAll(/^ *#.*$/gm, '')
  const scripts = [...texts.matchAll(/npm (?:run )?([a-z:]+)/g)].map(([, script]) => script ?? '')
  expect(scripts).toContain('release:publish')
  const builtIn = new Set(['ci', 'run'])
  expect(scripts.filter((name) => !builtIn.has(name) && !(name in manifest.scripts))).toEqual([])
})

it('only the jobs of a tag and of the site may publish, and no job has a secret', () => {
  for (const text of workflows.values()) {
    expect(text).toMatch(/^permissions: \{\}$/m)
    expect(text).not.toMatch(/secrets\.|secrets:|_TOKEN|pull_request_target|workflow_run/)
  }
  const writes = [...workflows].flatMap(([name, text]) =>
    [...text.matchAll(/^ *([\w-]+): write/gm)].map(([, scope]) => `${name} ${scope}`),
  )
  // Pages wants a token that says which workflow deploys. No package names this workflow as its publisher.
  expect(writes.toSorted()).toEqual(['docs.yml id-token', 'docs.yml pages', 'release.yml id-token'])
  expect(workflows.get('docs.yml')).toMatch(/^on:\n {2}push:\n {4}branches: \[main\]\n/m)
  expect(workflows.get('docs.yml')).toMatch(/^ {2}deploy:\n(?: {4}.*\n)*? {4}needs: build\n/m)
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
  // Each of these would let a job run although one that it needs failed.
  for (const text of workflows.values())
    expect(text).not.toMatch(/always\(\)|cancelled\(\)|failure\(\)|continue-on-error/)
})

it('what will be published is stored before a package is installed or a test is run', () => {
  const steps = (job: string): string => {
    const text = workflows.get('platforms.yml')!.replaceAll(/^ *#.*$/gm, '')
    return new RegExp(`^  ${job}:\\n(?:(?:    .*)?\\n)*`, 'm').exec(text)?.[0] ?? ''
  }
  for (const job of ['linux', 'platform', 'pack']) {
    const stored = steps(job).indexOf('actions/upload-artifact')
    expect(stored).toBeGreaterThan(steps(job).indexOf('npm run '))
    const foreign = steps(job).search(/npm ci|npm test|npm run test|docker run/)
    if (foreign !== -1) expect(stored).toBeLessThan(foreign)
  }
  expect(steps('platform')).toContain('npm test')
  expect(steps('pack')).toContain('npm run test:install -- --long --tarballs dist')
})

it('a release must be on main', () => {
  expect(workflows.get('platforms.yml')).toContain(
    `- if: github.ref_type == 'tag'\n        run: git merge-base --is-ancestor "$GITHUB_SHA" origin/main\n`,
  )
})

// Alpine's image has no git.
const tracked = spawnSync('git', ['ls-files'], { cwd: root, encoding: 'utf8' })
it.runIf(tracked.status === 0)('Dependabot watches every lock file and everything that pip installs', () => {
  const list = tracked.stdout.split('\n')
  const folders = (names: RegExp) =>
    [...new Set(list.filter((file) => names.test(file)).map((file) => dirname(`/${file}`)))].toSorted()
  const config = readFileSync(join(root, '.github/dependabot.yml'), 'utf8')
  const watched = (ecosystem: string) => {
    const directories = new RegExp(
      `package-ecosystem: ${ecosystem}\\n    directories:\\n((?:      - .*\\n)+)`,
    )
    return [...(directories.exec(config)?.[1] ?? '').matchAll(/- (.*)/g)].map(([, path]) => path)
  }
  expect(watched('npm')).toEqual(folders(/(^|\/)package-lock\.json$/))
  expect(watched('pip')).toEqual(folders(/\.txt$/))
})

/** Runs `npm run lint:workflows` on a folder with this workflow. */
async function lint(workflow: string, name = 'ci.yml') {
  const broken = tempDir()
  mkdirSync(join(broken, '.github/workflows'), { recursive: true })
  writeFileSync(join(broken, '.github/workflows', name), workflow)
  return startScript(join(root, 'scripts/dev/lint-workflows.mjs'), {
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

// The linters come from the Python package index, which has no builds of them for musl and Windows.
const report = process.report.getReport() as { header: { glibcVersionRuntime?: string } }
it.runIf(process.platform === 'darwin' || report.header.glibcVersionRuntime)(
  'the linters refuse what is wrong, and nothing else',
  { timeout: 300_000 },
  async () => {
    expect(await lint(sound)).toMatchObject({ code: 0 })
    expect(await lint(sound.replace('npm test', 'echo ${{ matrix.nothing }}'), 'ci.yaml')).toMatchObject({
      code: 1,
    })

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
