/** Signals to `fencelock run` without a terminal, as service managers send them, and its own end. */
import { LockManager } from 'fencelock'
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { beforeEach, describe, expect, it } from 'vitest'

import { SCRIPT } from '../../cli/run/guardian.js'
import { Signals } from '../../cli/run/signals.js'
import { environment, isAlive, Notes, startCli } from '../fixtures/processes/cli'
import { startCode } from '../fixtures/processes/processes'
import { eventually, root, sleep } from '../fixtures/temp'
import { localJob } from './support'

describe.skipIf(process.platform === 'win32')('signals', () => {
  let env: NodeJS.ProcessEnv
  let notes: Notes
  let locks: LockManager

  beforeEach(() => {
    ;({ env, notes, locks } = localJob())
  })

  const started = async (script: string, ...options: string[]) => {
    const cli = startCli(['run', 'job', ...options, '-c', script], { env })
    const command = Number(await notes.find('command'))
    return { cli, command }
  }

  it.each(['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGQUIT', 'SIGUSR1', 'SIGUSR2'] as const)(
    '%s is passed on once, and the command decides',
    async (signal) => {
      const name = signal.slice(3)
      const { cli } = await started(
        `trap 'echo got >> $NOTES' ${name}; echo command $$ >> $NOTES; while [ ! -s $NOTES.end ]; do sleep 0.02; done; exit 7`,
      )
      process.kill(cli.pid, signal)
      await notes.find('got')
      process.kill(cli.pid, signal)
      await eventually('it is passed on each time', () => notes.lines.length >= 3)
      await sleep(100)
      expect(notes.lines.slice(1)).toEqual(['got', 'got'])
      expect(await locks.inspect('job')).not.toBeNull()
      writeFileSync(`${notes.file}.end`, 'now')
      expect(await cli.ended).toMatchObject({ code: 7, signal: null })
      expect(await locks.inspect('job')).toBeNull()
    },
  )

  it('the status is 128 + n of the signal that ended the command', async () => {
    const { cli, command } = await started('echo command $$ >> $NOTES; exec sleep 60')
    process.kill(cli.pid, 'SIGTERM')
    expect(await cli.ended).toMatchObject({ code: 143, signal: null })
    expect(isAlive(command)).toBe(false)
  })

  it('after Ctrl-C, fencelock ends as its command did, so that a shell’s loop ends', async () => {
    const { cli } = await started('echo command $$ >> $NOTES; exec sleep 60')
    process.kill(cli.pid, 'SIGINT')
    expect(await cli.ended).toMatchObject({ code: null, signal: 'SIGINT' })
  })

  it('all processes of the command’s group get a signal', async () => {
    const { cli } = await started(
      'sleep 60 & echo below $! >> $NOTES; echo command $$ >> $NOTES; wait; exit 5',
    )
    const below = Number(await notes.find('below'))
    process.kill(cli.pid, 'SIGTERM')
    expect(await cli.ended).toMatchObject({ code: 143 })
    await eventually('the other process ended, too', () => !isAlive(below))
  })

  it('a command that ignores SIGTERM goes on, with its lock', async () => {
    const { cli, command } = await started(
      "trap '' TERM; echo command $$ >> $NOTES; while :; do sleep 0.05; done",
    )
    process.kill(cli.pid, 'SIGTERM')
    process.kill(cli.pid, 'SIGTERM')
    await sleep(300)
    expect(isAlive(command)).toBe(true)
    expect(await locks.inspect('job')).not.toBeNull()
    process.kill(command, 'SIGKILL')
    expect(await cli.ended).toMatchObject({ code: 137 })
  })

  it.each(['SIGINT', 'SIGTERM'] as const)('%s ends the wait for a lock', async (signal) => {
    const lock = await locks.acquireLocal('job', { renew: true })
    const cli = startCli(['run', 'job', '--verbose', '--', 'echo', 'never'], { env })
    await eventually('it waits', () => cli.stderr.includes('waiting'))
    process.kill(cli.pid, signal)
    expect(await cli.ended).toMatchObject({ code: null, signal, stdout: '' })
    await lock.release()
    expect(await locks.inspect('job')).toBeNull()
  })

  it('stops and continues with its command', async () => {
    const { cli, command } = await started('echo command $$ >> $NOTES; exec sleep 60')
    const state = (pid: number) => /^\d+ \(.*\) (\S)/s.exec(readFileSync(`/proc/${pid}/stat`, 'latin1'))?.[1]
    process.kill(cli.pid, 'SIGTSTP')
    await eventually('both are stopped', () => state(cli.pid) === 'T' && state(command) === 'T')
    process.kill(cli.pid, 'SIGCONT')
    await eventually('both go on', () => state(cli.pid) !== 'T' && state(command) !== 'T')
    process.kill(cli.pid, 'SIGTERM')
    expect(await cli.ended).toMatchObject({ code: 143 })
  })

  it('a command that was stopped for longer than its lease lasts does not go on', async () => {
    const { cli } = await started(
      'echo command $$ >> $NOTES; while :; do echo tick >> $NOTES; done',
      '--ttl',
      '3s',
    )
    await eventually('it runs', () => notes.lines.length > 2)
    process.kill(cli.pid, 'SIGTSTP')
    await eventually('its lease has ended', async () => (await locks.inspect('job')) === null)
    const before = notes.lines.length
    process.kill(cli.pid, 'SIGCONT')
    expect(await cli.ended).toMatchObject({ code: 75 })
    expect(notes.lines.length).toBe(before)
  })

  it('SIGCONT is passed on only with the lock, whichever is noticed first, the signal or the loss', () => {
    let isHeld = true
    let continued = 0
    const signals = new Signals({ stops: true })
    const child = { pass: () => undefined, stop: () => true, continue: () => continued++ }
    signals.passTo(child, { mayContinue: () => isHeld })
    process.emit('SIGCONT')
    isHeld = false
    process.emit('SIGCONT')
    signals.restore()
    expect(continued).toBe(1)
  })

  it.each(['dash', 'bash', 'zsh'].filter((shell) => spawnSync(shell, ['-c', ':']).status === 0))(
    'as /bin/sh, %s tells which signals the whole group has got',
    async (shell) => {
      const script = SCRIPT.replace('read -r target', 'echo ready; read -r target')
      for (const signal of ['SIGINT', 'SIGTERM', 'SIGQUIT', 'SIGUSR1', 'SIGUSR2'] as const) {
        const guardian = spawn(shell, ['-c', script], {
          stdio: ['pipe', 'pipe', 'ignore'],
          env: {},
        })
        guardian.stdin.on('error', () => undefined)
        guardian.stdin.write('999999999\n')
        await once(guardian.stdout, 'data')
        await sleep(50)
        guardian.kill(signal)
        guardian.stdin.end('end\n')
        const [code] = (await once(guardian, 'exit')) as [number | null]
        expect({ signal, code }).toEqual({ signal, code: null })
      }
    },
  )

  it('ends the command and what it started when it is killed itself', async () => {
    const { cli, command } = await started(
      'sleep 60 & echo below $! >> $NOTES; echo command $$ >> $NOTES; wait',
      '--json',
    )
    const below = Number(await notes.find('below'))
    await eventually('it is watched', () => cli.stderr.includes('"started"'))
    await cli.kill()
    await eventually('both ended', () => !isAlive(command) && !isAlive(below))
  })

  it('ends a command even if it is killed as soon as it has told of its start', async () => {
    const cli = startCode(
      `import fs from 'node:fs'
       import { createRequire } from 'node:module'
       const { writeSync } = fs
       fs.writeSync = (file, text) => {
         const written = writeSync(file, text)
         if (String(text).includes('"started"')) process.kill(process.pid, 'SIGKILL')
         return written
       }
       const { main } = createRequire(${JSON.stringify(join(root, 'x.js'))})('./cli/index.js')
       await main(['run', 'job', '--json', '-c', 'exec sleep 60 >&- 2>&-'])`,
      { env: environment(env) },
    )
    const { signal, stderr } = await cli.ended
    expect(signal).toBe('SIGKILL')
    const command = Number(/"pid":(\d+)/.exec(stderr)?.[1])
    expect(command).toBeGreaterThan(0)
    await eventually('it ended', () => !isAlive(command))
  })

  it('kills a command that ignores SIGTERM when it is killed itself', async () => {
    const { cli, command } = await started(
      "trap 'echo told >> $NOTES' TERM; echo command $$ >> $NOTES; while :; do sleep 0.05; done",
      '--json',
      '--kill-after',
      '3s',
    )
    await eventually('it is watched', () => cli.stderr.includes('"started"'))
    void cli.kill()
    await notes.find('told')
    expect(isAlive(command)).toBe(true)
    await eventually('it was killed', () => !isAlive(command))
  })
})
