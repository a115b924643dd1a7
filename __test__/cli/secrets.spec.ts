/** Passwords: how they get to the command line program, and that they get nowhere else. */
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { beforeAll, describe, expect, it } from 'vitest'

import { Notes, runCli, startCli } from '../fixtures/processes/cli'
import { startRedis, type RedisServer } from '../fixtures/servers/redis'
import { tempDir } from '../fixtures/temp'

/** Unique to this process, because other runs of this file may show theirs. */
const word = `hunter2-${process.pid}`
const secret = `${word}:p%40ss`
const encoded = encodeURIComponent(secret)

describe.skipIf(process.platform === 'win32')('a password', () => {
  let server: RedisServer
  let plain: string

  beforeAll(async () => {
    server = await startRedis()
    await server.cmd('CONFIG', 'SET', 'requirepass', secret)
    plain = server.url
  })

  const withPassword = (): string => plain.replace('://', `://:${encoded}@`)

  const ways = (): [string, string[], NodeJS.ProcessEnv][] => {
    const file = join(tempDir(), 'password')
    writeFileSync(file, `${secret}\nand a second line\n`)
    return [
      ['a URL in the environment', [], { FENCELOCK_REDIS: withPassword() }],
      ['a variable', ['--redis', plain], { FENCELOCK_PASSWORD: secret }],
      ['a file', ['--redis', plain, '--password-file', file], {}],
    ]
  }

  it('opens the server by a URL in the environment, a variable or a file, and is shown nowhere', async () => {
    for (const [name, args, env] of ways()) {
      for (const command of [
        ['doctor', '--replicas', '0'],
        ['inspect', 'job'],
        ['run', 'job', '--replicas', '0', '--verbose', '--', 'true'],
        ['run', 'job', '--replicas', '3', '--verbose', '--', 'true'],
      ]) {
        const { code, stdout, stderr } = await runCli([command[0] ?? '', ...args, ...command.slice(1)], {
          env,
        })
        expect({ name, code, stderr }).toMatchObject({ code: expect.toBeOneOf([0, 1, 69]) })
        expect(stdout + stderr).not.toContain('password')
        expect(stdout + stderr).not.toMatch(/hunter2/)
      }
    }
  })

  it('is wrong: fencelock says so without it', async () => {
    const env = { FENCELOCK_PASSWORD: 'hunter3' }
    const { code, stderr } = await runCli(['run', 'job', '--redis', plain, '--', 'true'], { env })
    expect(code).toBe(69)
    expect(stderr).not.toContain('hunter3')
  })

  it('is not repeated when a URL is given in the place of a command', async () => {
    const { code, stdout, stderr } = await runCli([withPassword(), 'inspect', 'job'])
    expect({ code, stdout }).toEqual({ code: 64, stdout: '' })
    expect(stderr).toContain('unknown command redis://…;')
    expect(stderr).not.toContain('hunter2')
  })

  it('is in no list of processes', async () => {
    for (const [, args, env] of ways()) {
      const notes = new Notes()
      const script = 'echo command $$ >> $NOTES; while [ ! -s $NOTES.end ]; do sleep 0.02; done'
      const cli = startCli(['run', 'job', '--replicas', '0', ...args, '-c', script], {
        env: { ...env, NOTES: notes.file },
      })
      await notes.find('command')
      const lines = commandLines()
      expect(lines.some((line) => line.includes('fencelock-guardian'))).toBe(true)
      expect(lines.filter((line) => line.includes(word))).toEqual([])
      writeFileSync(`${notes.file}.end`, 'now')
      expect(await cli.ended).toMatchObject({ code: 0 })
    }
  })

  it.each([
    ['a URL', () => ['--redis', withPassword()]],
    ['a URL with a user', () => ['--redis', plain.replace('://', `://user:${encoded}@`)]],
    ['the URL of Sentinels', () => ['--redis', `redis+sentinel://:${encoded}@a,b/name`]],
    ['the URL of a socket', () => ['--redis', 'redis+unix:///run/redis.sock?pass=hunter2']],
    ['a password with a slash', () => ['--redis', 'redis://:hunter2/x@host']],
    ['a list of nodes', () => ['--quorum', `redis://a,redis://:${encoded}@b,redis://c`]],
    ['a node', () => ['--quorum', 'redis://a', '--quorum', `redis://:${encoded}@b`, '--quorum', 'redis://c']],
    ['an option', () => ['--redis', plain, '--password', 'hunter2']],
    ['an option with =', () => ['--redis', plain, '--password=hunter2']],
  ])('as an argument is refused, and not shown: %s', async (_, args) => {
    for (const json of [[], ['--json']]) {
      const { code, stdout, stderr } = await runCli(['inspect', 'job', ...args(), ...json])
      expect(stderr).toMatch(/visible to every user/)
      expect({ code, stdout }).toEqual({ code: 64, stdout: '' })
      expect(stderr).not.toContain('hunter2')
    }
  })

  it('a user name without a password may be an argument', async () => {
    const url = plain.replace('://', '://default@')
    const { code, stderr } = await runCli(['inspect', 'job', '--redis', url], {
      env: { FENCELOCK_PASSWORD: secret },
    })
    expect({ code, stderr }).toEqual({ code: 1, stderr: '' })
  })

  it('a file that cannot be read, or is empty, is wrong usage', async () => {
    const empty = join(tempDir(), 'empty')
    writeFileSync(empty, '\n')
    for (const [file, said] of [
      [empty, 'the first line of the file of --password-file is empty'],
      [`${empty}.not`, 'the file of --password-file cannot be read (ENOENT)'],
    ] as const) {
      const end = await runCli(['inspect', 'job', '--redis', plain, '--password-file', file])
      expect(end).toMatchObject({ code: 64, stderr: expect.stringContaining(said) })
    }
  })
})

/** Of all processes. */
function commandLines(): string[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .flatMap((pid) => {
      try {
        return readFileSync(`/proc/${pid}/cmdline`, 'utf8')
      } catch {
        return []
      }
    })
}
