/** `fencelock ls` and `fencelock watch`. */
import { LockManager } from 'fencelock'
import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import { createServer, type AddressInfo } from 'node:net'
import { join } from 'node:path'
import { beforeEach, describe, expect, it } from 'vitest'

import { onCleanup } from '../fixtures/cleanup'
import { closing } from '../fixtures/locks'
import { runCli, startCli, Terminal } from '../fixtures/processes/cli'
import { onBun } from '../fixtures/processes/runtimes'
import { strategies } from '../fixtures/strategies'
import { eventually, root, tempDir } from '../fixtures/temp'
import { conforming } from './schema'
import { environmentOf } from './support'

describe.each(strategies)('ls, $name', ({ strategy, start }) => {
  it('lists the locks that are held, with their holders, and those of a start of names', async () => {
    const options = await start()
    const env = environmentOf(options)
    expect(await runCli(['ls'], { env })).toMatchObject({
      code: 0,
      stdout: 'RESOURCE  HOLDER  TOKEN  REMAINING  WAITERS\n',
      stderr: '',
    })
    const locks = closing(new LockManager({ ...options, holderName: 'a holder' }))
    const held = new Map<string, string>()
    for (const name of ['order:2', 'order:1', 'deploy']) {
      const { token } = await locks.acquire(name, { ttlMs: 60_000 })
      held.set(name, String(token))
    }
    for (const name of held.keys())
      await eventually('the holder is known', async () => (await locks.inspect(name))?.holder)
    const { stdout } = await runCli(['ls'], { env })
    const rows = stdout.trim().split('\n').slice(1)
    expect(rows.map((row) => row.split(/ {2,}/).slice(0, 3))).toEqual(
      ['deploy', 'order:1', 'order:2'].map((name) => [name, 'a holder', held.get(name)]),
    )
    const lines = (await runCli(['ls', 'order:', '--json'], { env })).stdout.trim().split('\n')
    const found = lines.map((line) => conforming('ls', line))
    expect(new Set(found.map(({ resource }) => resource))).toEqual(new Set(['order:1', 'order:2']))
    expect(found[0]).toMatchObject({ strategy, holder: { name: 'a holder', pid: process.pid } })
  })
})

describe.skipIf(process.platform === 'win32')('watch', () => {
  const LEAVES = '\u001B[?25h\u001B[?1049l'
  let env: NodeJS.ProcessEnv
  let locks: LockManager

  beforeEach(() => {
    const file = join(tempDir(), 'locks.sqlite')
    env = { FENCELOCK_LOCAL: file }
    locks = closing(new LockManager({ local: file, holderName: 'a holder' }))
  })

  /** What the last frame shows that is complete, without escape sequences. */
  const frame = (terminal: Terminal): string[] => {
    const drawn = terminal.output.slice(0, terminal.output.lastIndexOf('\u001B[J'))
    return (
      drawn
        .slice(drawn.lastIndexOf('\u001B[H'))
        // oxlint-disable-next-line no-control-regex -- They are what this removes.
        .replaceAll(/\u001B\[[?\d;]*[A-Za-z]/g, '')
        .split('\n')
    )
  }

  it('is a live table in a terminal, which it leaves clean after Ctrl-C', async () => {
    const terminal = Terminal.cli(['watch', '--interval', '50ms'], { env })
    await eventually('it is empty', () => frame(terminal)[0]?.startsWith('fencelock  0 locks'))
    const { token } = await locks.acquireLocal('job', { ttlMs: 60_000 })
    await eventually('it shows the lock', () => frame(terminal).some((line) => line.includes(String(token))))
    expect(frame(terminal)[2]).toMatch(/^RESOURCE +HOLDER +TOKEN +REMAINING +WAITERS$/)
    const waiting = closing(new LockManager({ local: env.FENCELOCK_LOCAL! }))
    const next = waiting.acquireLocal('job', { waitMs: 20_000, fair: true })
    await eventually('it shows who waits', () => frame(terminal).some((line) => /^job .* 1$/.test(line)))
    await locks.forceRelease('job')
    await (await next).release()
    await eventually('it is empty again', () => frame(terminal)[0]?.startsWith('fencelock  0 locks'))
    terminal.type('\u0003')
    const { status, before, after } = await terminal.end()
    expect(status).toBe(130)
    expect(after).toBe(before)
    expect(terminal.output.endsWith(LEAVES)).toBe(true)
  })

  it.each(['SIGTERM', 'SIGHUP', 'SIGQUIT'] as const)('leaves the terminal clean after %s', async (signal) => {
    const terminal = Terminal.cli(['watch'], { env })
    await terminal.shows('0 locks')
    process.kill(terminal.pid, signal)
    const { before, after } = await terminal.end()
    expect(after).toBe(before)
    expect(terminal.output.endsWith(LEAVES)).toBe(true)
  })

  it('leaves the terminal clean after a signal that comes as soon as it has entered its screen', async () => {
    const preload = join(tempDir(), 'preload.cjs')
    writeFileSync(
      preload,
      `const { write } = process.stdout
       process.stdout.write = function (text, ...rest) {
         const written = write.call(this, text, ...rest)
         if (text.includes('\\x1b[?1049h')) process.kill(process.pid, 'SIGTERM')
         return written
       }`,
    )
    const [flag, fencelock] = [onBun ? '--preload' : '--require', join(root, 'bin/fencelock.js')]
    const terminal = new Terminal([process.execPath, flag, preload, fencelock, 'watch'], { env })
    const { before, after } = await terminal.end()
    expect(after).toBe(before)
    expect(terminal.output).toContain('\u001B[?1049h')
    expect(terminal.output.endsWith(LEAVES)).toBe(true)
  })

  it('ends at once by a signal, also while a server does not answer', async () => {
    const silent = createServer(() => undefined)
    onCleanup(() => void silent.close())
    await once(silent.listen(0, '127.0.0.1'), 'listening')
    const { port } = silent.address() as AddressInfo
    const cli = startCli(['watch', '--redis', `redis://127.0.0.1:${port}`, '--connect-timeout', '25s'])
    await once(silent, 'connection')
    const begin = performance.now()
    expect(await cli.kill('SIGTERM')).toMatchObject({ code: 143 })
    expect(performance.now() - begin).toBeLessThan(5_000)
  })

  it.each(['0s', '9ms', '25d'])('--interval %s is wrong usage', async (interval) => {
    expect(await runCli(['watch', '--interval', interval, '--count', '2'], { env })).toMatchObject({
      code: 64,
      stdout: '',
      stderr: expect.stringContaining('from 10ms to 1d'),
    })
  })

  it('leaves the terminal clean after an error, and while it is stopped', async () => {
    const unreachable = { FENCELOCK_LOCAL: '/nowhere/locks.sqlite' }
    const failed = Terminal.cli(['watch'], { env: unreachable })
    expect(await failed.end()).toMatchObject({ status: 69 })
    expect(failed.output).toContain(`${LEAVES}fencelock: `)

    const shell = 'set -m; $FENCELOCK watch; echo stopped; fg; echo ended'
    const terminal = new Terminal(['sh', '-c', shell], { env })
    await terminal.shows('0 locks')
    terminal.type('\u001A')
    await terminal.shows(/\?1049l[^]*stopped/)
    // Only now is it in the foreground again, and gets what is typed.
    await terminal.shows(/stopped[^]*\?1049h[^]*0 locks/)
    terminal.type('\u0003')
    await terminal.shows('ended')
    await terminal.end()
  })

  it('fits the terminal, also after it was resized', async () => {
    await Promise.all(
      Array.from({ length: 30 }, (_, index) => locks.acquireLocal(`job-${index}`, { ttlMs: 60_000 })),
    )
    const terminal = Terminal.cli(['watch', '--interval', '1h'], { env, size: [50, 10] })
    await terminal.shows('30 locks')
    await eventually('it is drawn', () => frame(terminal).length === 10)
    expect(frame(terminal).at(-1)).toBe('… 24 more')
    expect(Math.max(...frame(terminal).map((line) => line.length))).toBeLessThanOrEqual(50)
    terminal.resize(120, 20)
    await eventually('it is drawn anew', () => frame(terminal).length === 20)
    expect(frame(terminal)[2]).toContain('WAITERS')
    terminal.type('\u0003')
    await terminal.end()
  })

  it('without a terminal it prints plain lines, and ends after --count looks', async () => {
    const { token } = await locks.acquireLocal('job', { ttlMs: 60_000 })
    const { code, stdout } = await runCli(['watch', '--interval', '10ms', '--count', '3'], { env })
    expect(code).toBe(0)
    expect(stdout).not.toContain('\u001B')
    const lines = stdout.trim().split('\n')
    expect(lines).toHaveLength(3)
    for (const line of lines) expect(line).toMatch(new RegExp(`^20\\S+Z {2}job {2}.* ${token} `))
  })

  it('prints a document for each look with --json', async () => {
    await locks.acquireLocal('job', { ttlMs: 60_000 })
    const { stdout } = await runCli(['watch', '--json', '--interval', '10ms', '--count', '2'], { env })
    const looks = stdout
      .trim()
      .split('\n')
      .map((line) => conforming('watch', line))
    expect(looks.map((look) => look.locks[0].resource)).toEqual(['job', 'job'])
  })

  it('ends with its reader, and by SIGTERM', async () => {
    const cli = startCli(['watch', '--interval', '10ms', '--json'], { env })
    await eventually('it prints', () => cli.said.length > 1)
    expect(await cli.kill('SIGTERM')).toMatchObject({ code: 143 })
    const shell = new Terminal(
      ['sh', '-c', '$FENCELOCK watch --json --interval 10ms | head -n 1; echo done'],
      { env },
    )
    await shell.shows('done')
    expect(shell.output).not.toContain('EPIPE')
    expect(await shell.end()).toMatchObject({ status: 0 })
  })
})
