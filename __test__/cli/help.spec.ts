/** The help, the version, the completion scripts, and durations. */
import { spawnSync } from 'node:child_process'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'

import { runCli } from '../fixtures/processes/cli'
import { root } from '../fixtures/temp'

const require = createRequire(import.meta.url)
const { COMMANDS } = require('../../cli/commands/index.js') as typeof import('../../cli/commands/index.js')
const { duration, readable } =
  require('../../cli/options/durations.js') as typeof import('../../cli/options/durations.js')
const { optionsOf } =
  require('../../cli/options/arguments.js') as typeof import('../../cli/options/arguments.js')
const { version } = require('../../package.json') as { version: string }
const names = Object.keys(COMMANDS)

describe('help', () => {
  it('the program’s names every command, and is loaded without the addon', async () => {
    const env = { FENCELOCK_NATIVE_PATH: '/nowhere' }
    for (const args of [['--help'], ['-h'], ['help']]) {
      const { code, stdout, stderr } = await runCli(args, { env })
      expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
      for (const name of names) expect(stdout).toContain(`  ${name} `)
    }
    expect(await runCli([])).toMatchObject({ code: 64, stdout: '', stderr: expect.stringContaining('Usage') })
  })

  it.each(names)('%s: every option, the statuses and examples; the same in three ways', async (name) => {
    const { code, stdout, stderr } = await runCli([name, '--help'])
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
    for (const option of Object.keys(optionsOf(COMMANDS[name]!.load())))
      expect(stdout).toContain(`--${option}`)
    expect(stdout).toMatch(/Exit status:\n(.*\n)+\nExamples:\n {2}# /)
    for (const line of stdout.split('\n')) expect(line.length).toBeLessThanOrEqual(100)
    expect((await runCli(['help', name])).stdout).toBe(stdout)
    expect((await runCli(['--help', name])).stdout).toBe(stdout)
  })

  it('the version', async () => {
    for (const args of [['--version'], ['-V']]) {
      expect(await runCli(args)).toEqual({
        code: 0,
        signal: null,
        stdout: `fencelock ${version}\n`,
        stderr: '',
      })
    }
  })

  it('an unknown command is wrong usage', async () => {
    expect(await runCli(['lock', 'job'])).toMatchObject({
      code: 64,
      stdout: '',
      stderr: expect.stringContaining(`unknown command lock; the commands are ${names.join(', ')}`),
    })
  })
})

const shellIn = (name: string): boolean => spawnSync(name, ['-c', 'true']).status === 0

describe('completion', () => {
  it.runIf(shellIn('bash'))('in bash', async () => {
    const { stdout: script } = await runCli(['completion', 'bash'])
    const complete = (...words: string[]): string[] => {
      const code = `${script}
COMP_WORDS=(${words.map((word) => `'${word}'`).join(' ')}); COMP_CWORD=${words.length - 1}
_fencelock; printf '%s\\n' "\${COMPREPLY[@]}"`
      const { stdout } = spawnSync('bash', ['--norc', '-c', code], { encoding: 'utf8', cwd: root })
      return stdout.split('\n').filter(Boolean)
    }
    expect(complete('fencelock', '')).toEqual(expect.arrayContaining(names))
    expect(complete('fencelock', 'ins')).toEqual(['inspect'])
    expect(complete('fencelock', 'run', '--no')).toEqual(['--no-wait'])
    expect(complete('fencelock', 'run', '--durability', '')).toEqual(['normal', 'full'])
    expect(complete('fencelock', 'run', '--local', 'package.js')).toEqual(['package.json'])
    expect(complete('fencelock', 'run', '--wait', '')).toEqual([])
    expect(complete('fencelock', 'completion', 'f')).toEqual(['fish'])
    expect(complete('fencelock', 'run', 'job', '--', 'prin')).toContain('printf')
  })

  it.runIf(shellIn('zsh'))('zsh accepts its script', async () => {
    const { stdout: script } = await runCli(['completion', 'zsh'])
    const code = `autoload -Uz compinit && compinit -D; eval "$1"; whence -w _fencelock`
    const { stdout, stderr } = spawnSync('zsh', ['-f', '-c', code, 'zsh', script], { encoding: 'utf8' })
    expect({ stdout, stderr }).toEqual({ stdout: '_fencelock: function\n', stderr: '' })
  })

  it.runIf(shellIn('fish'))('in fish', async () => {
    const { stdout: script } = await runCli(['completion', 'fish'])
    const code = `${script}\ncomplete -C 'fencelock run --no-w'; complete -C 'fencelock insp'`
    const { stdout, stderr } = spawnSync('fish', ['--no-config', '-c', code], { encoding: 'utf8' })
    expect(stderr).toBe('')
    expect(stdout).toMatch(/^--no-wait\tdo not wait\ninspect\tshow who/)
  })

  it('another shell is wrong usage', async () => {
    expect(await runCli(['completion', 'csh'])).toMatchObject({ code: 64, stdout: '' })
    expect(await runCli(['completion'])).toMatchObject({ code: 64, stdout: '' })
  })
})

describe('durations', () => {
  it.each([
    ['500ms', 500],
    ['30s', 30_000],
    ['1.5s', 1_500],
    ['5m', 300_000],
    ['1h30m', 5_400_000],
    ['2d', 172_800_000],
    ['0s', 0],
  ])('%s', (text, ms) => {
    expect(duration('--wait', text)).toBe(ms)
  })

  it.each(['', '5', 's', '5 s', '-5s', '5sec', '1e3s', 'Infinity', '99999999999999999d'])(
    '%j is refused',
    (text) => {
      expect(() => duration('--wait', text)).toThrow('--wait must be a duration such as 500ms')
    },
  )

  it('people read three digits', () => {
    expect(
      [0, 12.4, 1_500, 99_000, 120_000, 7_200_000, 90_000_000, 864_000_000, Infinity].map(readable),
    ).toEqual(['0 ms', '12 ms', '1.5 s', '99.0 s', '2.0 min', '2.0 h', '25.0 h', '10.0 d', 'for ever'])
  })
})

it('the command line uses only what the package exports', async () => {
  const { readdirSync, readFileSync } = await import('node:fs')
  const files = readdirSync(join(root, 'cli'), { recursive: true, encoding: 'utf8' })
  const beyond = files
    .filter((file) => file.endsWith('.js'))
    .flatMap((file) =>
      [...readFileSync(join(root, 'cli', file), 'utf8').matchAll(/require\('([^']+)'\)/g)]
        .map(([, target = '']) => (target.startsWith('.') ? join('cli', file, '..', target) : target))
        .filter((target) => !/^(?:node:|cli\/|index\.js$|package\.json$)/.test(target))
        .map((target) => `${file} requires ${target}`),
    )
  expect(beyond).toEqual([])
})
