/** `fencelock run`: its statuses, its environment, waiting, and the loss of its lock. */
import { LockManager } from 'fencelock'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { beforeEach, describe, expect, it } from 'vitest'

import { closing } from '../fixtures/locks'
import { isAlive, Notes, runCli, startCli } from '../fixtures/processes/cli'
import { freePort, eventually, tempDir } from '../fixtures/temp'
import { conforming } from './schema'

describe.skipIf(process.platform === 'win32')('run', () => {
  let folder: string
  let env: NodeJS.ProcessEnv
  let notes: Notes
  let locks: LockManager

  beforeEach(() => {
    folder = tempDir()
    const file = join(folder, 'locks.sqlite')
    notes = new Notes()
    env = { FENCELOCK_LOCAL: file, NOTES: notes.file }
    locks = closing(new LockManager({ local: file }))
  })

  const run = (...args: string[]) => runCli(['run', ...args], { env })

  it('the command’s status is its own, and fencelock says nothing', async () => {
    expect(await run('job', '--', 'true')).toEqual({ code: 0, signal: null, stdout: '', stderr: '' })
    expect(await run('job', '--', 'sh', '-c', 'echo out; echo err >&2; exit 42')).toEqual({
      code: 42,
      signal: null,
      stdout: 'out\n',
      stderr: 'err\n',
    })
  })

  it('the command gets its arguments as they are, also those that look like options', async () => {
    const { stdout } = await run('job', '-v', '--', 'printf', '<%s>', '--', '-n', '--json', 'a b', '')
    expect(stdout).toContain('<--><-n><--json><a b><>')
  })

  it('a resource may begin with a dash, after a -- of its own', async () => {
    const script = 'echo "<$FENCELOCK_RESOURCE>"'
    expect(await run('--', '-job', '--', 'sh', '-c', script)).toMatchObject({
      stdout: '<-job>\n',
      stderr: '',
    })
    expect(await run('-c', script, '--', '--')).toMatchObject({ stdout: '<-->\n', stderr: '' })
  })

  it('the environment has the token, the resource and the owner', async () => {
    const script = `$FENCELOCK inspect "$FENCELOCK_RESOURCE" --json; printf '{"t":"%s","o":"%s"}\n' $FENCELOCK_TOKEN $FENCELOCK_OWNER`
    const { stdout } = await run('a job', '-c', script)
    const [info = '', own = ''] = stdout.split('\n')
    const { token, owner, resource } = conforming('inspect', info)
    expect({ t: token, o: owner, resource }).toEqual({ ...JSON.parse(own), resource: 'a job' })
  })

  it('stdin is the command’s', async () => {
    const cli = startCli(['run', 'job', '--', 'tr', 'a-z', 'A-Z'], { env })
    cli.tell('through a pipe')
    cli.hangUp()
    expect((await cli.ended).stdout).toBe('"THROUGH A PIPE"\n')
  })

  it('a reader that goes away ends the command by SIGPIPE, as without fencelock', async () => {
    const { stdout } = await runCli(['run', 'job', '-c', '$FENCELOCK run other -- yes | head -n 1; true'], {
      env,
    })
    expect(stdout).toBe('y\n')
    expect(await locks.inspect('other')).toBeNull()
  })

  it.each([
    [['--', 'no-such-program'], 127, 'there is no such command'],
    [['--', '/etc/passwd'], 126, 'permission denied'],
    [['-c', 'no-such-program'], 127, 'not found'],
  ])('%j has status %i', async (args, code, said) => {
    const end = await run('job', ...args)
    expect(end).toMatchObject({ code, signal: null, stderr: expect.stringContaining(said) })
    expect(await locks.inspect('job')).toBeNull()
  })

  it('a lock that another owner holds: status 1, or as wished, and the command does not run', async () => {
    const lock = await locks.acquireLocal('job', { renew: true })
    const busy = { stdout: '', stderr: expect.stringContaining('held by another owner') }
    expect(await run('job', '--no-wait', '--', 'echo', 'never')).toMatchObject({ code: 1, ...busy })
    // No failure, so there is nothing for cron to mail.
    const fine = ['job', '-n', '-E', '0']
    expect(await run(...fine, '--', 'echo', 'never')).toMatchObject({ code: 0, stdout: '', stderr: '' })
    expect(await run(...fine, '--verbose', '--', 'echo', 'never')).toMatchObject({ code: 0, ...busy })
    const { code, stderr } = await run(...fine, '--json', '--', 'echo', 'never')
    expect(code).toBe(0)
    expect(conforming('error', stderr)).toMatchObject({ code: 'LOCK_HELD' })
    const begin = performance.now()
    expect(await run('job', '-w', '300ms', '-E', '99', '--', 'echo', 'never')).toMatchObject({
      code: 99,
      ...busy,
    })
    expect(performance.now() - begin).toBeGreaterThan(300)
    expect(lock.held).toBe(true)
  })

  it('waits until the lock is free, and --verbose tells how long', async () => {
    const lock = await locks.acquireLocal('job', { renew: true })
    const cli = startCli(['run', 'job', '--wait', '20s', '-v', '--', 'echo', 'done'], { env })
    await eventually('it waits', () => cli.stderr.includes("fencelock: waiting for 'job'"))
    await lock.release()
    const { code, stdout, stderr } = await cli.ended
    expect({ code, stdout }).toEqual({ code: 0, stdout: 'done\n' })
    expect(stderr).toMatch(
      /^fencelock: acquired 'job' after [\d.]+ m?s, token \d{16} \(local, .*locks\.sqlite\)$/m,
    )
    expect(stderr).toMatch(/^fencelock: status 0 after [\d.]+ m?s with 'job'$/m)
  })

  it('renews the lease while the command runs', async () => {
    const script = 'echo command >> $NOTES; while [ ! -s $NOTES.end ]; do sleep 0.02; done; exit 3'
    const cli = startCli(['run', 'job', '--ttl', '6s', '-c', script], { env })
    await notes.find('command')
    const first = await locks.inspect('job')
    // It ends by then at the latest, unless it is renewed.
    const end = performance.now() + (first?.remainingMs ?? NaN)
    const renewed = await eventually('the lease ends later', async () => {
      const now = performance.now()
      const info = await locks.inspect('job')
      return info !== null && now + info.remainingMs > end + 1_000 ? info : undefined
    })
    expect(renewed.token).toBe(first?.token)
    writeFileSync(`${notes.file}.end`, 'now')
    expect(await cli.ended).toMatchObject({ code: 3 })
  })

  it('--min-hold keeps others out after a short command', async () => {
    expect(await run('job', '--min-hold', '1m', '--', 'true')).toMatchObject({ code: 0 })
    expect(await run('job', '--no-wait', '--', 'true')).toMatchObject({ code: 1 })
  })

  describe('when the lock is lost', () => {
    it('the command and what it started get SIGTERM, and the status is 75', async () => {
      const cli = startCli(
        [
          'run',
          'job',
          '--ttl',
          '4s',
          '-c',
          "trap 'echo told >> $NOTES; exit 0' TERM; sleep 60 & echo below $! >> $NOTES; echo command $$ >> $NOTES; wait",
        ],
        { env },
      )
      await notes.find('command')
      const below = Number(await notes.find('below'))
      expect(await locks.forceRelease('job')).toBe(true)
      expect(await cli.ended).toMatchObject({
        code: 75,
        signal: null,
        stderr: expect.stringContaining('the command is being ended'),
      })
      expect(notes.lines).toContain('told')
      expect(isAlive(below)).toBe(false)
    })

    it('a command that ignores SIGTERM is killed after --kill-after', async () => {
      const cli = startCli(
        [
          'run',
          'job',
          '--ttl',
          '4s',
          '--kill-after',
          '2s',
          '-c',
          "trap 'echo told >> $NOTES' TERM; echo command $$ >> $NOTES; while :; do sleep 0.05; done",
        ],
        { env },
      )
      const command = Number(await notes.find('command'))
      await locks.forceRelease('job')
      await notes.find('told')
      const begin = performance.now()
      expect(await cli.ended).toMatchObject({ code: 75 })
      expect(performance.now() - begin).toBeGreaterThan(250)
      expect(isAlive(command)).toBe(false)
    })

    // Bun has no NODE_OPTIONS.
    it.skipIf('bun' in process.versions)('before the command starts, it does not start', async () => {
      const stop = join(folder, 'stop.cjs')
      // Stops the process, with its renewal, when it has just been granted the lock.
      writeFileSync(
        stop,
        `const fs = require('node:fs')
        const { writeSync } = fs
        fs.writeSync = function (file, data) {
          if (!data.includes('"acquired"')) return writeSync(file, data)
          const line = 'kill -STOP $0; sleep 2; kill -CONT $0'
          require('node:child_process').execFileSync('sh', ['-c', line, String(process.pid)])
          return data.length
        }`,
      )
      const end = await runCli(['run', 'job', '--ttl', '1500ms', '--json', '--', 'echo', 'never'], {
        env: { ...env, NODE_OPTIONS: `--require ${stop}` },
      })
      expect(end).toMatchObject({ code: 75, stdout: '' })
      expect(conforming('run', end.stderr.trim())).toMatchObject({ event: 'lost' })
    })

    it('what ends with the loss unnoticed has status 75, too', async () => {
      const cli = startCli(
        [
          'run',
          'job',
          '--ttl',
          '1h',
          '-c',
          'echo command >> $NOTES; while [ ! -s $NOTES.end ]; do sleep 0.02; done',
        ],
        { env },
      )
      await notes.find('command')
      const other = closing(new LockManager({ local: join(folder, 'locks.sqlite') }))
      await other.forceRelease('job')
      const next = await other.acquireLocal('job', { ttlMs: 60_000 })
      writeFileSync(`${notes.file}.end`, 'now')
      expect(await cli.ended).toMatchObject({ code: 75, stderr: expect.stringContaining('lost') })
      expect(await next.release()).toBe(true)
    })
  })

  it('--json prints events on stderr', async () => {
    const end = await run('job', '--json', '--', 'sh', '-c', 'echo out; exit 3')
    expect(end).toMatchObject({ code: 3, stdout: 'out\n' })
    const events = end.stderr
      .trim()
      .split('\n')
      .map((line) => conforming('run', line))
    expect(events.map(({ event }) => event)).toEqual(['acquired', 'started', 'ended'])
    expect(events[2]).toMatchObject({ code: 3, signal: null })
    const missing = await run('job', '--json', '--', 'no-such-program')
    const last = missing.stderr.trim().split('\n').at(-1) ?? ''
    expect(conforming('error', last)).toMatchObject({ code: 'SPAWN' })
  })

  it('a backend that cannot be reached has status 69', async () => {
    const url = `redis://127.0.0.1:${await freePort()}`
    const { code, stdout, stderr } = await runCli(['run', 'job', '--redis', url, '--', 'echo', 'never'])
    expect({ code, stdout }).toEqual({ code: 69, stdout: '' })
    expect(stderr).toMatch(/^fencelock: .*refused/)
  })

  it.each([
    [[], 'a resource is missing'],
    [['job'], 'a command is missing'],
    [['job', '--'], 'a command is missing'],
    [['job', 'true'], 'the command follows --'],
    [['job', '-c', 'true', '--', 'true'], 'exclude each other'],
    [['job', '-n', '-w', '1s', '--', 'true'], 'exclude each other'],
    [
      ['job', '--wait', '5', '--', 'true'],
      '--wait must be a duration such as 500ms, 30s, 5m or 1h30m: give the unit',
    ],
    [['job', '--wait', '--', 'true'], '--wait needs a value'],
    [['job', '-E', '256', '--', 'true'], 'from 0 to 255'],
    [['job', '--tll', '5s', '--', 'true'], 'unknown option --tll'],
    [['job', '--no-wait=yes', '--', 'true'], 'takes no value'],
    [['job', '--ttl', '1ms', '--', 'true'], '--ttl must be from 10ms to 1d'],
    [['job', '--min-hold', '25h', '--', 'true'], '--min-hold must be from 0s to 1d'],
    [['job', '--', ''], 'the command is empty'],
    [['job', '-c', ''], 'the line of -c is empty'],
    [['--', '-job'], 'one that begins with a dash: fencelock run -- -x -- <command>'],
    [['-job', '--', 'true'], 'unknown option -j'],
    [['', '--', 'true'], 'resource'],
    [['job', '--replicas', '0', '--', 'true'], '--replicas does not apply to local locks'],
    [['job', '--acks', '1', '--', 'true'], '--acks does not apply to local locks'],
    [['job', '--prefix', 'p', '--', 'true'], '--prefix does not apply to local locks'],
    [['job', '--fsync', '--', 'true'], '--fsync does not apply to local locks'],
    [['job', '--ack-timeout', '1s', '--', 'true'], '--ack-timeout does not apply to local locks'],
    [
      ['job', '--quorum', 'redis://a,redis://b,redis://c', '--acks', '1', '--', 'true'],
      '--acks does not apply to quorum locks',
    ],
    [['job', '--redis', 'http://x', '--', 'true'], 'Redis URL cannot be read'],
    [['job', '--redis', '', '--', 'true'], '--redis is empty'],
    [['job', '--local', 'a', '--redis', 'redis://x', '--', 'true'], 'exclude each other'],
    [['job', '--local', ':memory:', '--', 'true'], 'name a file'],
  ])('%j is wrong usage', async (args, said) => {
    const { code, stdout, stderr } = await run(...args)
    expect(stderr).toContain(said)
    expect({ code, stdout }).toEqual({ code: 64, stdout: '' })
  })

  it('variables that contradict each other, or are empty, are wrong usage', async () => {
    const both = { ...env, FENCELOCK_REDIS: 'redis://127.0.0.1:1' }
    expect(await runCli(['run', 'job', '--', 'true'], { env: both })).toMatchObject({
      code: 64,
      stderr: expect.stringContaining('FENCELOCK_REDIS and FENCELOCK_LOCAL exclude each other'),
    })
    expect(await runCli(['run', 'job', '--', 'true'], { env: { FENCELOCK_REDIS: '' } })).toMatchObject({
      code: 64,
      stderr: expect.stringContaining('FENCELOCK_REDIS is empty'),
    })
    for (const name of [
      'FENCELOCK_PREFIX',
      'FENCELOCK_REPLICAS',
      'FENCELOCK_PASSWORD',
      'FENCELOCK_MAX_TTL',
    ]) {
      const forgotten = { [name]: '1' }
      expect(await runCli(['run', 'job', '--', 'true'], { env: forgotten })).toMatchObject({
        code: 64,
        stderr: expect.stringContaining(`${name} is set, but neither FENCELOCK_REDIS nor FENCELOCK_QUORUM`),
      })
      expect(await runCli(['ls'], { env: forgotten })).toMatchObject({ code: 64, stdout: '' })
      expect(await runCli(['run', 'job', '--', 'true'], { env: { ...env, ...forgotten } })).toMatchObject({
        code: 0,
      })
    }
    // A flag chooses.
    expect(
      await runCli(['run', 'job', '--local', join(folder, 'other.sqlite'), '--', 'true'], { env: both }),
    ).toMatchObject({ code: 0 })
  })
})
