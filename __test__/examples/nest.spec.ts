/** The module, the decorators and the scheduler of the example for NestJS, built as a reader builds it. */
import { LockManager } from 'fencelock'
import { execFileSync } from 'node:child_process'
import { symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { beforeAll, describe, expect, it } from 'vitest'

import { closing } from '../fixtures/locks'
import { type Script } from '../fixtures/processes/processes'
import { onBun } from '../fixtures/processes/runtimes'
import { startRedis, type RedisServer } from '../fixtures/servers/redis'
import { eventually, root, sleep, tempDir } from '../fixtures/temp'
import { hasWallClock, wallClock } from '../fixtures/time/wall-clock'
import { line, lines, startExample } from './support'

let redis: RedisServer
/** Where a program is, by its name. */
let program: (name: string) => string

beforeAll(async () => {
  const source = join(root, 'examples/nest')
  if (onBun) {
    program = (name) => join(source, `${name}.ts`) // Bun runs TypeScript, and compiles decorators.
  } else {
    const dist = tempDir()
    const tsc = join(root, 'node_modules/typescript/bin/tsc')
    execFileSync(process.execPath, [tsc, '-p', source, '--outDir', dist], { stdio: 'inherit' })
    writeFileSync(join(dist, 'package.json'), '{ "type": "module" }')
    symlinkSync(join(root, 'examples/node_modules'), join(dist, 'node_modules'), 'junction')
    program = (name) => join(dist, `${name}.js`)
  }
  redis = await startRedis()
})

const start = (name: string, env: NodeJS.ProcessEnv) =>
  // Bun takes the compiler's options from where it is started.
  startExample(program(name), {
    cwd: join(root, 'examples/nest'),
    env: { REDIS_URL: redis.url, NO_COLOR: '1', ...env },
  })

describe('@WithLock', () => {
  async function startServer(workMs: number): Promise<{
    script: Script
    pay: (invoice: string) => Promise<Response>
  }> {
    const script = start('main', { PORT: '0', WORK_MS: String(workMs) })
    const [, address] = await line(script, /listening on (\S+)$/)
    const headers = { connection: 'close' }
    return {
      script,
      pay: (invoice) => fetch(`${address}/invoices/${invoice}/pay`, { method: 'POST', headers }),
    }
  }

  it('lets one call run at a time, on all instances, and stops one that lost its lock', async () => {
    const [one, two] = await Promise.all([startServer(2_000), startServer(60_000)])
    const answers = await Promise.all([one.pay('1'), one.pay('1'), one.pay('2')])
    expect(answers.map(({ status }) => status).toSorted((a, b) => a - b)).toEqual([200, 200, 409])
    expect(answers[2].status).toBe(200)
    // The lock is released before the answer is sent.
    expect((await one.pay('1')).status).toBe(200)

    const answer = two.pay('1')
    await line(two.script, /paying 1 with token \d+$/)
    expect((await one.pay('1')).status).toBe(409)
    const locks = closing(new LockManager({ redis: { url: redis.url, replicas: 0 } }))
    await locks.forceRelease('invoice:1')
    expect((await answer).status).toBe(500)
    expect(lines(two.script, /paid/)).toEqual([])
  })

  it('finishes what runs when it is told to stop, and releases the lock long before its lease ends', async () => {
    const { script, pay } = await startServer(3000)
    const locks = closing(new LockManager({ redis: { url: redis.url, replicas: 0 } }))
    const answer = pay('3')
    await line(script, /paying 3/)
    const end = script.kill('SIGTERM')
    await sleep(100)
    expect(await locks.tryAcquire('invoice:3')).toBeNull()
    expect((await answer).status).toBe(200)
    await eventually('it is free', () => locks.tryAcquire('invoice:3'), 3000)
    expect(await end).toMatchObject({ signal: 'SIGTERM', stderr: '' })
  })
})

describe('@CronOnce', () => {
  it('runs each tick on one instance, and finishes the job that runs when it is told to stop', async () => {
    const everyMs = 6000
    const env = { EVERY_SECONDS: String(everyMs / 1000), WORK_MS: '800' }
    // It is behind by more than the job takes. If it stalls for another second and a half, it is still within
    // the three seconds for which the lock is held.
    const late = hasWallClock ? wallClock(-1200).env : {}
    const together = [{}, late].map((clock) => start('scheduler', { ...env, ...clock }))
    // Runs each tick, too, because its lock is in another database.
    const apart = start('scheduler', { ...env, REDIS_URL: `${redis.url}/1` })
    const all = [...together, apart]
    await Promise.all(all.map((script) => line(script, /scheduled$/)))
    const begun = (scripts: Script[]) => scripts.flatMap((script) => lines(script, /sending with token \d+$/))

    // The late one has had its tick, and the next one has not begun.
    const isBetween = () => Date.now() % everyMs > 2800 && Date.now() % everyMs < everyMs - 200
    /** What has begun until after a tick. */
    const counts = async (after = 0): Promise<{ tick: number; together: number; apart: number }> => {
      for (;;) {
        const begin = isBetween()
        await sleep(50) // What they have printed is read.
        const found = { together: begun(together).length, apart: begun([apart]).length }
        const tick = Math.floor(Date.now() / everyMs)
        if (begin && isBetween() && tick > after) return { tick, ...found }
      }
    }
    const before = await counts()
    const after = await counts(before.tick)
    const ticks = after.tick - before.tick
    expect(after.apart - before.apart).toBe(ticks)
    expect(after.together - before.together).toBe(ticks)

    const running = await eventually('a job runs', () =>
      together.find((script) => begun([script]).length > lines(script, /sent$/).length),
    )
    const ends = await Promise.all(all.map((script) => script.kill('SIGTERM')))
    for (const { signal, stderr } of ends) {
      // On a busy machine it warns of a tick that comes late.
      const errors = stderr.replaceAll(/.*Missed execution deadline.*\n/g, '')
      expect({ signal, errors }).toEqual({ signal: 'SIGTERM', errors: '' })
    }
    expect(lines(running, /sent$/)).toHaveLength(begun([running]).length)
  })
})
