/** Commands that fencelock may not signal, because they run as another user, as those of `sudo` do. */
import { spawnSync } from 'node:child_process'
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { beforeEach, describe, expect, it } from 'vitest'

import { onCleanup } from '../fixtures/cleanup'
import { isAlive, Notes, runCli, startCli, Terminal } from '../fixtures/processes/cli'
import { eventually, sleep } from '../fixtures/temp'
import { conforming } from './schema'

const asUser = ['setpriv', '--reuid', '65534', '--clear-groups', '--'] as const

/** A folder that every user can write to. */
function openFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'fencelock-user-'))
  chmodSync(folder, 0o777)
  onCleanup(() => rmSync(folder, { recursive: true, force: true }))
  return folder
}

/** What turns its caller into root, as `sudo` does, without a password. */
function rootProgram(folder: string): string[] {
  const program = join(folder, 'as-root')
  // Bun 1.2 sets no such modes itself.
  spawnSync('install', ['-m', '4755', '/usr/bin/setpriv', program])
  return [program, '--reuid', '0', '--clear-groups', '--']
}

/** Only root can set this up, and not where programs must not change their user. */
function isPossible(): boolean {
  if (process.getuid?.() !== 0 || spawnSync('setpriv', ['--version']).status !== 0) return false
  const folder = mkdtempSync(join(tmpdir(), 'fencelock-user-'))
  chmodSync(folder, 0o755)
  try {
    const [setpriv, ...args] = asUser
    const { status } = spawnSync(setpriv, [...args, process.execPath, '--version'])
    const become = [...args, ...rootProgram(folder), 'id', '-u']
    return status === 0 && spawnSync(setpriv, become, { encoding: 'utf8' }).stdout === '0\n'
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

describe.skipIf(process.platform !== 'linux' || !isPossible())('a command of another user', () => {
  const script = 'echo command $$ >> $NOTES; while [ ! -s $NOTES.end ]; do sleep 0.02; done; exit 7'
  let env: NodeJS.ProcessEnv
  let notes: Notes
  let command: string[]

  beforeEach(() => {
    const folder = openFolder()
    notes = new Notes(join(folder, 'notes'))
    env = { FENCELOCK_LOCAL: join(folder, 'locks.sqlite'), NOTES: notes.file }
    command = [...rootProgram(folder), 'sh', '-c', script]
  })

  const end = (): void => writeFileSync(`${notes.file}.end`, 'now')
  const lines = (text: string): Record<string, unknown>[] =>
    text
      .trim()
      .split('\n')
      .map((line) => conforming('run', line))

  it('fencelock says that it cannot pass a signal on, and waits with the lock', async () => {
    const cli = startCli(['run', 'job', '--json', '--', ...command], { env, through: asUser })
    const pid = Number(await notes.find('command'))
    process.kill(cli.pid, 'SIGTERM')
    await eventually('it says so', () => cli.stderr.includes('signal-failed'))
    expect(lines(cli.stderr).at(-1)).toMatchObject({ event: 'signal-failed', signal: 'SIGTERM' })
    // Stopped alone, it would lose the lock.
    process.kill(cli.pid, 'SIGTSTP')
    await eventually('it says so', () => cli.stderr.includes('SIGSTOP'))
    expect(await runCli(['inspect', 'job'], { env, through: asUser })).toMatchObject({ code: 0 })
    expect(isAlive(pid)).toBe(true)
    end()
    expect(await cli.ended).toMatchObject({ code: 7 })
  })

  it('when the lock is lost, fencelock says that the command goes on, and ends with it', async () => {
    const options = ['--ttl', '4s', '--kill-after', '200ms', '--json']
    const cli = startCli(['run', 'job', ...options, '--', ...command], { env, through: asUser })
    const pid = Number(await notes.find('command'))
    expect(await runCli(['release', '--force', '--yes', 'job'], { env, through: asUser })).toMatchObject({
      code: 0,
    })
    await eventually('SIGKILL was refused', () => cli.stderr.includes('SIGKILL'))
    await sleep(200)
    expect(lines(cli.stderr).map(({ event, signal }) => signal ?? event)).toEqual([
      'acquired',
      'started',
      'lost',
      'SIGTERM',
      'SIGKILL',
    ])
    expect(isAlive(pid) && isAlive(cli.pid)).toBe(true)
    end()
    expect(await cli.ended).toMatchObject({ code: 75 })
  })

  it('what it leaves behind has its time until SIGKILL, too', async () => {
    const options = ['--ttl', '3s', '--kill-after', '3s']
    const parent = ['sh', '-c', '"$@" & wait', 'sh', ...command]
    const cli = startCli(['run', 'job', ...options, '--', ...parent], { env, through: asUser })
    await notes.find('command')
    const begin = performance.now()
    expect(await runCli(['release', '--force', '--yes', 'job'], { env, through: asUser })).toMatchObject({
      code: 0,
    })
    const refused = 'SIGKILL was refused by what the command runs as another user'
    await eventually('it says so', () => cli.stderr.includes(refused))
    expect(performance.now() - begin).toBeGreaterThan(3_000)
    end()
    expect(await cli.ended).toMatchObject({ code: 75 })
  })

  it('in a terminal, a signal to fencelock alone does not end it before its command', async () => {
    const shell = `exec ${asUser.join(' ')} $FENCELOCK run job -- "$@"`
    const terminal = new Terminal(['sh', '-c', shell, 'sh', ...command], { env })
    await notes.find('command')
    await terminal.started()
    process.kill(terminal.pid, 'SIGTERM')
    await terminal.shows('fencelock: SIGTERM was refused by what the command runs as another user')
    end()
    expect(await terminal.end()).toMatchObject({ status: 7 })
  })
})
