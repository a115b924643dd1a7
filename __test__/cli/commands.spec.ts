/** `fencelock inspect`, `release` and `doctor`, and the ways to a backend. */
import { LockManager } from 'fencelock'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'

import { closing } from '../fixtures/locks'
import { runCli } from '../fixtures/processes/cli'
import { startNodes, startPrimary, startRedis } from '../fixtures/servers/redis'
import { strategies } from '../fixtures/strategies'
import { eventually, freePort, sleep, tempDir } from '../fixtures/temp'
import { lockKey } from '../strong/support'
import { conforming } from './schema'
import { environmentOf } from './support'

describe.each(strategies)('$name', ({ strategy, start }) => {
  it('inspect, release and run see the locks of the library', async () => {
    const options = await start()
    const env = environmentOf(options)
    const locks = closing(new LockManager(options))
    expect(await runCli(['inspect', 'job'], { env })).toMatchObject({ code: 1, stdout: 'job is free\n' })

    const lock = await locks.acquire('job', { ttlMs: 60_000 })
    const text = await runCli(['inspect', 'job'], { env })
    expect(text).toMatchObject({ code: 0, stderr: '' })
    expect(text.stdout).toContain(`token      ${lock.token}\n`)
    const info = conforming('inspect', (await runCli(['inspect', 'job', '--json'], { env })).stdout)
    expect(info).toMatchObject({ held: true, strategy, owner: lock.owner, token: String(lock.token) })
    expect(await runCli(['run', 'job', '-n', '--', 'true'], { env })).toMatchObject({ code: 1 })

    expect(await runCli(['release', '--force', '--yes', 'job'], { env })).toMatchObject({
      code: 0,
      stdout: 'job is released\n',
      stderr: '',
    })
    expect(await locks.inspect('job')).toBeNull()
    const again = await runCli(['release', '--force', '--yes', 'job', '--json'], { env })
    expect(again.code).toBe(1)
    expect(conforming('release', again.stdout)).toEqual({ resource: 'job', released: false })
    const patient = strategy === 'strong' ? ['--ack-timeout', '10s'] : []
    const end = await runCli(['run', 'job', '--ttl', '30s', ...patient, '--', 'true'], { env })
    expect(end).toMatchObject({ code: 0, stderr: '' })
  })
})

describe.skipIf(process.platform === 'win32')('commands', () => {
  it('a resource is printed without what would write to the terminal', async () => {
    const env = { FENCELOCK_LOCAL: join(tempDir(), 'locks.sqlite') }
    const { stdout } = await runCli(['inspect', 'a\u001B[2J\nb'], { env })
    expect(stdout).toBe(String.raw`a\u{1b}[2J\u{a}b is free` + '\n')
  })

  it('run waits for slow replicas as long as it is told', { timeout: 60_000 }, async () => {
    const { primary, url, replicas } = await startPrimary({ replicas: 1 })
    const run = (...args: string[]) =>
      runCli(['run', 'job', '--redis', url, '--replicas', '1', '--ttl', '40s', ...args, '--', 'true'])
    replicas[0]!.pause()
    const refused = await run()
    expect(refused.code).toBe(69)
    expect(refused.stderr).toContain('raise --ack-timeout')
    const patient = run('--ack-timeout', '20s')
    await eventually('it is set', async () => (await primary.cmd('EXISTS', lockKey('job'))) === 1, 20_000)
    await sleep(500) // Far longer than the default.
    replicas[0]!.resume()
    expect(await patient).toMatchObject({ code: 0, stderr: '' })
    expect(await run('--ack-timeout', '0ms')).toMatchObject({
      code: 64,
      stderr: expect.stringContaining('--ack-timeout must be from 1ms to 12h'),
    })
  })

  it('the prefix separates locks', async () => {
    const { url } = await startRedis()
    const locks = closing(new LockManager({ redis: { url, replicas: 0 }, prefix: 'other' }))
    await locks.acquire('job', { ttlMs: 60_000 })
    const inspect = (...args: string[]) => runCli(['inspect', 'job', '--redis', url, ...args])
    expect(await inspect()).toMatchObject({ code: 1 })
    expect(await inspect('--prefix', 'other')).toMatchObject({ code: 0 })
  })

  it('release needs --force, and --yes where it cannot ask', async () => {
    const env = { FENCELOCK_LOCAL: join(tempDir(), 'locks.sqlite') }
    const locks = closing(new LockManager({ local: env.FENCELOCK_LOCAL }))
    const lock = await locks.acquireLocal('job', { ttlMs: 60_000 })
    for (const args of [['job'], ['--yes', 'job'], ['--force', 'job']]) {
      expect(await runCli(['release', ...args], { env })).toMatchObject({ code: 64, stdout: '' })
    }
    expect(await lock.release()).toBe(true)
  })

  it('nodes of a quorum can be given one by one, and as a list', async () => {
    const [a = '', b = '', c = ''] = (await startNodes(3)).map(({ url }) => url)
    const options = ['--restart-delay', '0s', '--', 'true']
    for (const nodes of [
      ['--quorum', a, '--quorum', b, '--quorum', c],
      ['--quorum', `${a},${b}`, '--quorum', c],
    ]) {
      expect(await runCli(['run', 'job', ...nodes, ...options])).toMatchObject({ code: 0, stderr: '' })
    }
    expect(await runCli(['run', 'job', '--quorum', `${a},${b}`, ...options])).toMatchObject({ code: 64 })
  })

  describe('doctor', () => {
    it('passes a local file, unless more is required than leases give', async () => {
      const env = { FENCELOCK_LOCAL: join(tempDir(), 'locks.sqlite') }
      const { code, stdout, stderr } = await runCli(['doctor'], { env })
      expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
      expect(stdout).toMatch(/^pass {2}pause {10}with a guard: /m)
      const strict = await runCli(['doctor', '--strict', '--require', 'powerLoss,pause', '--json'], { env })
      expect(strict.code).toBe(1)
      const { status, checks } = conforming('doctor', strict.stdout)
      expect(status).toBe('fail')
      expect(
        (checks as { name: string; status: string }[])
          .filter((check) => check.status === 'fail')
          .map(({ name }) => name),
      ).toEqual(['pause'])
      expect(await runCli(['doctor', '--require', 'weather'], { env })).toMatchObject({ code: 64 })
    })

    it('fails a server without the declared replicas, and warns of what the library warns of', async () => {
      const { url } = await startRedis()
      const { code, stdout } = await runCli(['doctor', '--redis', url])
      expect(code).toBe(1)
      expect(stdout).toMatch(/^fail {2}replicas {7}0 replicas are connected/m)
      expect(stdout).toMatch(/^warn {2}warning {8}persistence is off/m)
      // Of a development server: a warning, which only --strict refuses.
      const plain = await runCli(['doctor', '--redis', url, '--replicas', '0', '--json'])
      expect(plain.code).toBe(0)
      expect(conforming('doctor', plain.stdout)).toMatchObject({ strategy: 'strong', status: 'warn' })
      expect(await runCli(['doctor', '--redis', url, '--replicas', '0', '--strict'])).toMatchObject({
        code: 1,
      })
    })

    it('passes a primary with its replicas, and fails a replica', async () => {
      const { url, replicas } = await startPrimary()
      expect((await runCli(['doctor', '--redis', url])).stdout).toMatch(/^pass {2}replicas {7}2 replicas/m)
      const [replica] = replicas
      const refused = await runCli(['doctor', '--redis', replica?.url ?? '', '--json'])
      expect(refused.code).not.toBe(0)
      expect(conforming('doctor', refused.stdout)).toMatchObject({ status: 'fail' })
    })

    it('reports a server that cannot be reached as a failed check', async () => {
      const url = `redis://127.0.0.1:${await freePort()}`
      const { code, stdout } = await runCli(['doctor', '--redis', url, '--json'])
      expect(code).toBe(69)
      expect(conforming('doctor', stdout)).toMatchObject({
        strategy: null,
        checks: [{ name: 'connection', status: 'fail', message: expect.stringContaining('refused') }],
      })
    })
  })

  it('an error is JSON with --json', async () => {
    const { code, stderr } = await runCli(['inspect', '--json'])
    expect(code).toBe(64)
    expect(conforming('error', stderr)).toMatchObject({ event: 'error', code: 'USAGE' })
  })
})
