/** `fencelock run` and `release` in a terminal, where the kernel sends signals to a whole process group. */
import { LockManager } from 'fencelock'
import { execFileSync } from 'node:child_process'
import { beforeEach, describe, expect, it } from 'vitest'

import { isAlive, Notes, Terminal } from '../fixtures/processes/cli'
import { eventually, sleep } from '../fixtures/temp'
import { localJob } from './support'

const CTRL_C = '\u0003'
const CTRL_Z = '\u001A'
const SIGINT = 2

describe.skipIf(process.platform === 'win32')('a terminal', () => {
  let env: NodeJS.ProcessEnv
  let notes: Notes
  let locks: LockManager

  beforeEach(() => {
    ;({ env, notes, locks } = localJob())
  })

  const run = (script: string, ...options: string[]) =>
    Terminal.cli(['run', 'job', ...options, '-c', script], { env })

  it('is that of the command: it reads what is typed', async () => {
    const terminal = run('printf "name? "; read -r name; echo "hello $name"; test -t 0 -a -t 1')
    await terminal.shows('name?')
    terminal.type('Ada\n')
    await terminal.shows('hello Ada')
    expect(await terminal.end()).toMatchObject({ status: 0 })
  })

  /** The process next to the command, which is replaced once a signal has been dealt with. */
  const guardianOf = (pid: number): string | undefined =>
    execFileSync('ps', ['-eo', 'pid=,ppid=,stat=,args='], { encoding: 'utf8' })
      .split('\n')
      .map((line) => line.trim().split(/\s+/))
      .find(
        ([, parent, state, ...args]) =>
          parent === String(pid) && !state?.startsWith('Z') && args.includes('fencelock-guardian'),
      )?.[0]

  it('Ctrl-C reaches the command exactly once, and so does a signal to fencelock alone', async () => {
    const terminal = run(
      `trap 'echo got >> $NOTES' INT; echo command $$ >> $NOTES; while [ ! -s $NOTES.end ]; do sleep 0.05; done; exit 7`,
      '--json',
    )
    await notes.find('command')
    await terminal.shows('"started"')
    for (const [count, send] of [
      () => terminal.type(CTRL_C),
      () => process.kill(terminal.pid, 'SIGINT'),
      () => terminal.type(CTRL_C),
      () => process.kill(terminal.pid, 'SIGINT'),
    ].entries()) {
      const guardian = await eventually('it is guarded', () => guardianOf(terminal.pid))
      send()
      await eventually('the command gets it', () => notes.lines.length >= count + 2)
      // Two signals that fencelock has not seen yet would be one.
      await eventually(
        'fencelock has seen it',
        () => ![undefined, guardian].includes(guardianOf(terminal.pid)),
      )
      // A second one would come now.
      await sleep(150)
      expect(notes.lines.slice(1)).toEqual(Array.from({ length: count + 1 }, () => 'got'))
    }
    process.kill(Number(await notes.find('command')), 'SIGKILL')
    expect(await terminal.end()).toMatchObject({ status: 137 })
  })

  it('after Ctrl-C both end of it, and the lock is free', async () => {
    const terminal = run('echo command $$ >> $NOTES; exec sleep 60')
    await notes.find('command')
    terminal.type(CTRL_C)
    expect(await terminal.end()).toMatchObject({ signal: SIGINT })
    expect(await locks.inspect('job')).toBeNull()
  })

  it('Ctrl-C ends a loop of a shell', async () => {
    const terminal = new Terminal(
      [
        'sh',
        '-c',
        'while :; do $FENCELOCK run job -c "echo command >> $NOTES; exec sleep 60"; done; echo on',
      ],
      { env },
    )
    await notes.find('command')
    await sleep(200)
    terminal.type(CTRL_C)
    await terminal.end()
    expect(terminal.output).not.toContain('on')
    expect(notes.lines).toEqual(['command'])
  })

  it('Ctrl-Z stops both, and fg continues them', async () => {
    const command = 'echo command $$ >> $NOTES; read -r line; echo "read $line" >> $NOTES'
    const shell = `set -m; $FENCELOCK run job -c '${command}'; echo "stopped: $?"; fg; echo "ended: $?"`
    const terminal = new Terminal(['sh', '-c', shell], { env })
    await notes.find('command')
    await sleep(200)
    terminal.type(CTRL_Z)
    await terminal.shows(/stopped: 1\d\d/)
    terminal.type('on\n')
    await notes.find('read on')
    await terminal.shows('ended: 0')
    expect(await terminal.end()).toMatchObject({ status: 0 })
  })

  it('when it is closed, the command ends', async () => {
    const terminal = run('echo command $$ >> $NOTES; exec sleep 60')
    const command = Number(await notes.find('command'))
    terminal.hangUp()
    await eventually('it ended', () => !isAlive(command))
    await eventually('the lock is free', async () => (await locks.inspect('job')) === null)
  })

  it('when the lock is lost, the command and what it started end, and the rest of the pipeline goes on', async () => {
    const command = 'sleep 60 & echo below $! >> $NOTES; echo command $$ >> $NOTES; wait'
    const shell = `$FENCELOCK run job --ttl 4s -c '${command}' | (cat; sleep 0.3; echo downstream)`
    const terminal = new Terminal(['sh', '-c', shell], { env })
    const pids = [Number(await notes.find('below')), Number(await notes.find('command'))]
    expect(await locks.forceRelease('job')).toBe(true)
    await eventually('both ended', () => !pids.some(isAlive))
    await terminal.shows('downstream')
    expect(terminal.output).toContain('the command is being ended')
    await terminal.end()
  })

  it('two terminals: one waits until the other is done', async () => {
    const first = run('echo command $$ >> $NOTES; exec sleep 60')
    await notes.find('command')
    const second = run('echo "second $FENCELOCK_TOKEN" >> $NOTES', '--verbose')
    await second.shows("waiting for 'job'")
    first.type(CTRL_C)
    await first.end()
    expect(await second.end()).toMatchObject({ status: 0 })
    expect(second.output).toMatch(/acquired 'job' after [\d.]+ m?s, token \d{16}/)
    expect(await notes.find('second')).toMatch(/^\d{16}$/)
  })

  it('Ctrl-C ends a wait', async () => {
    const lock = await locks.acquireLocal('job', { renew: true })
    const terminal = run('echo never >> $NOTES', '--verbose')
    await terminal.shows('waiting')
    terminal.type(CTRL_C)
    expect(await terminal.end()).toMatchObject({ signal: SIGINT })
    expect(notes.lines).toEqual([])
    expect(await lock.release()).toBe(true)
  })

  describe('release asks', () => {
    it.each([
      ['y\n', 0, true],
      ['\n', 1, false],
      ['no\n', 1, false],
      [CTRL_C, 1, false],
      ['\u0004', 1, false],
    ])('%j', async (typed, status, released) => {
      const lock = await locks.acquireLocal('job', { ttlMs: 60_000 })
      const terminal = Terminal.cli(['release', '--force', 'job'], { env })
      await terminal.shows('Release it? [y/N]')
      expect(terminal.output).toContain(`token ${lock.token}`)
      terminal.type(typed)
      const end = await terminal.end()
      expect(end).toMatchObject({ status })
      expect(end.after).toBe(end.before)
      expect((await locks.inspect('job')) === null).toBe(released)
    })

    it('and leaves a lease alone that began after the question', async () => {
      await locks.acquireLocal('job', { ttlMs: 60_000 })
      const terminal = Terminal.cli(['release', '--force', 'job'], { env })
      await terminal.shows('Release it? [y/N]')
      await locks.forceRelease('job')
      const next = await locks.acquireLocal('job', { ttlMs: 60_000 })
      terminal.type('y\n')
      expect(await terminal.end()).toMatchObject({ status: 1 })
      expect((await locks.inspect('job'))?.token).toBe(next.token)
    })
  })
})
