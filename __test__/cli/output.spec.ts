/** What is printed of names and messages, and text that is not UTF-8. */
import { LockManager } from 'fencelock'
import { spawnSync } from 'node:child_process'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'

import { closing } from '../fixtures/locks'
import { environment, runCli } from '../fixtures/processes/cli'
import { startRedis } from '../fixtures/servers/redis'
import { tempDir } from '../fixtures/temp'
import { conforming } from './schema'

const require = createRequire(import.meta.url)
const { COMMANDS } = require('../../cli/commands/index.js') as typeof import('../../cli/commands/index.js')
const { optionsOf } =
  require('../../cli/options/arguments.js') as typeof import('../../cli/options/arguments.js')
const { PHRASES, NAMES, QUALIFIED, withFlags } =
  require('../../cli/output/flags.js') as typeof import('../../cli/output/flags.js')
const { columns, plain } = require('../../cli/output/print.js') as typeof import('../../cli/output/print.js')
const { fitted, widthOf } = require('../../cli/output/width.js') as typeof import('../../cli/output/width.js')

describe('names', () => {
  it.each([
    ['job', 3],
    ['jöb', 3],
    ['作業', 4],
    ['ジョブ', 6],
    ['작업', 4],
    ['ｊｏｂ', 6],
    ['cafe\u0301', 4],
    ['🚀 x', 4],
    ['🇩🇪', 2],
    ['𠮷', 2],
    ['…→✓', 3],
  ])('%s is as wide as a terminal draws it', (text, width) => {
    expect(widthOf(text)).toBe(width)
  })

  it('columns are aligned, whatever is in them', () => {
    const rows = columns([
      ['a', '1'],
      ['作業', '2'],
      ['🚀🚀🚀', '3'],
    ])
    expect(rows.map((row) => widthOf(row))).toEqual([9, 9, 9])
  })

  it('are cut to the width of the terminal', () => {
    expect(fitted('abc', 3)).toBe('abc')
    expect(fitted('abcd', 3)).toBe('ab…')
    expect(fitted('作業名', 5)).toBe('作業…')
    expect(fitted('作業名', 4)).toBe('作…')
  })

  it.each([
    ['a\u001B[2Jb', String.raw`a\u{1b}[2Jb`],
    ['job\u202Eboj', String.raw`job\u{202e}boj`],
    ['a\u2066b\u2069', String.raw`a\u{2066}b\u{2069}`],
    ['job\u200B', String.raw`job\u{200b}`],
    ['job\u3164', String.raw`job\u{3164}`],
    ['job\uDC00', String.raw`job\u{dc00}`],
  ])('%j shows what would not be seen', (text, shown) => {
    expect(plain(text)).toBe(shown)
  })

  it.skipIf(process.platform === 'win32')('are in a table as they are elsewhere', async () => {
    const local = join(tempDir(), 'locks.sqlite')
    const locks = closing(new LockManager({ local, holderName: 'x\u202Ey' }))
    await locks.acquireLocal('作業', { ttlMs: 60_000 })
    await locks.acquireLocal('job:1', { ttlMs: 60_000 })
    const { stdout } = await runCli(['ls', '--local', local])
    const [header = '', ...rows] = stdout.trimEnd().split('\n')
    const starts = rows.map((row) => widthOf(row.slice(0, row.indexOf('x\\u{202e}y'))))
    expect(starts).toEqual([header.indexOf('HOLDER'), header.indexOf('HOLDER')])
  })
})

describe('messages of the library', () => {
  it('name flags that exist', () => {
    const known = new Set(
      Object.values(COMMANDS).flatMap(({ load }) =>
        Object.keys(optionsOf(load())).map((name) => `--${name}`),
      ),
    )
    const named = [...PHRASES.map(([, text]) => text), ...Object.values(NAMES), ...Object.values(QUALIFIED)]
    const flags = named.flatMap((text) => text.match(/--[a-z-]+/g) ?? [])
    expect(flags.length).toBeGreaterThan(20)
    expect(flags.filter((flag) => !known.has(flag))).toEqual([])
  })

  it.each([
    ['ttlMs must be an integer from 10 to 86400000', '--ttl must be an integer from 10 to 86400000'],
    ['defaults.acks must be at most 2', '--acks must be at most 2'],
    ['check their lag, raise ackTimeoutMs, or', 'check their lag, raise --ack-timeout, or'],
    ['within connectTimeoutMs (5000 ms)', 'within --connect-timeout (5000 ms)'],
    ['not by quorum.maxTtlMs (60000)', 'not by --max-ttl (60000)'],
    ['the lock "ttlMs" of \'waitMs\'', 'the lock "ttlMs" of \'waitMs\''],
    ["the server's acks: 1, the node's waitMs: 0", "the server's --acks 1, the node's --no-wait"],
    ['use Redis 7.2, or leave out fsync', 'use Redis 7.2, or leave out --fsync'],
    ['appendfsync is everysec', 'appendfsync is everysec'],
  ])('%s', (message, said) => {
    expect(withFlags(message)).toBe(said)
  })

  it('are so on stderr, and propose no weaker lock where the replicas are only slow', async () => {
    const { url } = await startRedis()
    const run = (...args: string[]) => runCli(['run', 'job', '--redis', url, ...args, '--', 'true'])
    const { code, stderr } = await run('--replicas', '2')
    expect(code).toBe(69)
    expect(stderr).toContain('if the server has no more than 0, declare that: --replicas 0;')
    expect(stderr).not.toMatch(/ackTimeoutMs|\{ url|`replicas`/)
    const tooMany = await run('--replicas', '1', '--acks', '2')
    expect(tooMany.code).toBe(64)
    expect(tooMany.stderr).toMatch(/^fencelock: --acks /)
  })
})

describe.skipIf(process.platform === 'win32')('what is not UTF-8', () => {
  const env = environment({ FENCELOCK_LOCAL: join(tempDir(), 'locks.sqlite') })
  const shell = (line: string) => {
    const { status, stdout, stderr } = spawnSync('sh', ['-c', line], { env })
    return { status, stdout: stdout.toString('latin1'), stderr: stderr.toString() }
  }

  it.each([
    String.raw`$FENCELOCK run job -- printf %s "$(printf 'a\377b')"`,
    String.raw`$FENCELOCK run job -c "echo $(printf 'a\377b')"`,
    String.raw`$FENCELOCK run "$(printf 'a\377b')" -- echo never`,
    String.raw`$FENCELOCK release --force --yes "$(printf 'a\377b')"`,
  ])('an argument is wrong usage, because it would be changed: %s', (line) => {
    const { status, stdout, stderr } = shell(line)
    expect(stderr).toContain('an argument is not UTF-8')
    expect({ status, stdout }).toEqual({ status: 64, stdout: '' })
  })

  it.skipIf(process.platform !== 'linux')('U+FFFD itself is an argument as others are', () => {
    const line = String.raw`$FENCELOCK run job -- printf %s "$(printf '\357\277\275')"`
    expect(shell(line)).toEqual({ status: 0, stdout: '\u00EF\u00BF\u00BD', stderr: '' })
  })

  it('a variable is named, because the command gets it changed', () => {
    const line = String.raw`X=$(printf 'a\377b') Y=$(printf '\357\277\275') $FENCELOCK run job --json -- true`
    const { status, stderr } = shell(line)
    expect(status).toBe(0)
    const [first = ''] = stderr.split('\n')
    expect(conforming('run', first)).toMatchObject({ event: 'warning' })
    expect(first).toContain('the variable X is not UTF-8')
    if (process.platform === 'linux') expect(stderr).not.toContain('the variable Y')
  })
})
