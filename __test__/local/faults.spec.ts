/** Local locks when processes are killed, clocks jump, and files disappear; the faults are verified. */
import { LockManager } from 'fencelock'
import { spawn } from 'node:child_process'
import { readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'

import { closing, rejection, unique } from '../fixtures/locks'
import { startCode, startScript, type Script } from '../fixtures/processes/processes'
import { eventually, sleep, tempDir } from '../fixtures/temp'
import { hasWallClock, wallClock } from '../fixtures/time/wall-clock'

/** A process that acquires a lock, says its token, and then obeys commands. */
function holder(path: string, resource: string, { ttlMs = 60_000, env = {} } = {}): Script {
  return startCode(
    `const { LockManager } = await import('fencelock')
     const locks = new LockManager({ local: ${JSON.stringify(path)} })
     let lock = await locks.tryAcquireLocal(${JSON.stringify(resource)}, { ttlMs: ${ttlMs} })
     say(lock && { token: String(lock.token) })
     const commands = {
       extend: () => lock.extend().then(() => 'extended', (error) => error.code),
       release: () => lock.release(),
       held: () => lock.held,
       remaining: () => lock.remainingMs,
       acquire: async () => (lock = await locks.tryAcquireLocal(${JSON.stringify(resource)}, { ttlMs: ${ttlMs} })) !== null,
       times: () => ({ wall: Date.now() }),
       leave: () => process.exit(0),
     }
     for await (const command of hear()) say(await commands[command]())`,
    { env },
  )
}

async function ask<T>(script: Script, command: string): Promise<T> {
  script.tell(command)
  return script.next<T>()
}

describe('processes that are killed', () => {
  it('lose no increment, count none twice, and cause no error', { timeout: 120_000 }, async () => {
    const dir = tempDir()
    const counter = join(dir, 'counter')
    writeFileSync(counter, '0')
    // One that is killed while it creates the lock file keeps the others from it for three seconds.
    const first = new LockManager({ local: join(dir, 'locks.sqlite') })
    await first.connect()
    await first.close()
    const worker = fileURLToPath(new URL('../fixtures/processes/counter-worker.mjs', import.meta.url))
    const start = (index: number): Script =>
      startScript(worker, {
        args: [join(dir, 'locks.sqlite'), counter, '1000000', index % 2 === 0 ? 'sync' : 'async'],
        limitMs: 110_000,
      })
    const all: Script[] = Array.from({ length: 8 }, (_, index) => start(index))
    const running = [...all]
    let kills = 0
    const increments = (): number => all.reduce((sum, script) => sum + script.said.length, 0)
    while (increments() < 2_000 || kills <= 10) {
      await sleep(50 + Math.random() * 150)
      const victim = Math.floor(Math.random() * running.length)
      const ending = await running[victim]!.kill()
      expect(ending.stderr).toBe('')
      kills++
      running[victim] = start(victim)
      all.push(running[victim])
    }
    for (const script of running) {
      kills++
      expect((await script.kill()).stderr).toBe('')
    }
    const acknowledged = increments()
    const counted = Number(readFileSync(counter, 'utf8'))
    expect(kills).toBeGreaterThan(10)
    expect(counted).toBeGreaterThanOrEqual(acknowledged)
    expect(counted).toBeLessThanOrEqual(acknowledged + kills)
    // Tokens rise in the order of the counter.
    const said = all
      .flatMap((script) => script.said as { value: number; token: string }[])
      .toSorted((a, b) => a.value - b.value)
    for (let index = 1; index < said.length; index++) {
      expect(said[index]!.value).toBeGreaterThan(said[index - 1]!.value)
      expect(BigInt(said[index]!.token)).toBeGreaterThan(BigInt(said[index - 1]!.token))
    }
  })

  it('lose their leases at once, however long the leases are', async () => {
    const path = join(tempDir(), 'locks.sqlite')
    const locks = closing(new LockManager({ local: path }))
    await locks.connect()
    const times: number[] = []
    for (let round = 0; round < 5; round++) {
      const resource = unique()
      const script = holder(path, resource)
      const { token } = await script.next<{ token: string }>()
      expect(await locks.tryAcquireLocal(resource)).toBeNull()
      await script.kill()
      const began = performance.now()
      const lock = await eventually('the takeover', () => locks.tryAcquireLocal(resource))
      times.push(performance.now() - began)
      expect(lock.token).toBeGreaterThan(BigInt(token))
      expect(await locks.inspect(resource)).toMatchObject({ owner: lock.owner })
      expect(await lock.release()).toBe(true)
    }
    // The median, because a busy machine may disturb a round or two; the leases would have lasted a minute.
    expect(times.toSorted((a, b) => a - b)[2]).toBeLessThan(1_000)
    // Their liveness files are removed when the file is opened again.
    const dir = join(path, '..')
    await locks.close()
    const again = closing(new LockManager({ local: path }))
    await again.connect()
    await again.close()
    expect(readdirSync(dir)).toEqual(['locks.sqlite'])
  })

  it('that are only stopped keep their leases', async () => {
    const path = join(tempDir(), 'locks.sqlite')
    const locks = closing(new LockManager({ local: path }))
    const script = holder(path, 'x', { ttlMs: 3_000 })
    await script.next()
    await script.pauseBetweenWrites()
    await sleep(300)
    expect(await locks.tryAcquireLocal('x')).toBeNull()
    const lock = await eventually('the lease ended', () => locks.tryAcquireLocal('x', { ttlMs: 60_000 }))
    script.resume()
    expect(await ask(script, 'held')).toBe(false)
    expect(await ask(script, 'extend')).toBe('LOCK_LOST')
    expect(await ask(script, 'release')).toBe(false)
    expect(lock.held).toBe(true)
    expect(await locks.tryAcquireLocal('x')).toBeNull()
  })
})

describe('liveness files', () => {
  it('can disappear without harm to a live holder', async () => {
    const dir = tempDir()
    const path = join(dir, 'locks.sqlite')
    const script = holder(path, 'x')
    await script.next()
    const locks = closing(new LockManager({ local: path }))
    await locks.connect()
    const files = readdirSync(dir).filter((name) => name.includes('-live'))
    expect(files.length).toBeGreaterThan(0)
    for (const name of files) rmSync(join(dir, name))
    for (let round = 0; round < 20; round++) expect(await locks.tryAcquireLocal('x')).toBeNull()
    expect(await ask(script, 'extend')).toBe('extended')
    // A file of the same name that another process made does not prove the holder’s death, either.
    for (const name of files) writeFileSync(join(dir, name), '')
    expect(await locks.tryAcquireLocal('x')).toBeNull()
    expect(await ask(script, 'release')).toBe(true)
    expect(await locks.tryAcquireLocal('x')).not.toBeNull()
  })
})

describe('a file that is deleted and created again by another process', () => {
  it('no longer has the leases of the old one', async () => {
    const path = join(tempDir(), 'locks.sqlite')
    const script = holder(path, 'x')
    await script.next()
    rmSync(path)
    const locks = closing(new LockManager({ local: path }))
    const lock = await locks.acquireLocal('x', { ttlMs: 60_000 })
    expect(await ask(script, 'extend')).toBe('LOCK_LOST')
    expect(await ask(script, 'held')).toBe(false)
    expect(await ask(script, 'acquire')).toBe(false)
    expect(await lock.release()).toBe(true)
    expect(await ask(script, 'acquire')).toBe(true)
    expect(await locks.tryAcquireLocal('x')).toBeNull()
  })
})

describe.skipIf(!hasWallClock)('a wall clock that jumps', () => {
  it.each([
    ['an hour ahead', 3_600_000],
    ['an hour back', -3_600_000],
  ])('%s neither ends a lease early nor keeps it too long', async (_, jump) => {
    const path = join(tempDir(), 'locks.sqlite')
    const clock = wallClock()
    const began = performance.now()
    const ttlMs = 4_000
    const [script, short] = [
      holder(path, 'x', { env: clock.env }),
      holder(path, 'short', { ttlMs, env: clock.env }),
    ]
    await script.next()
    const locks = closing(new LockManager({ local: path }))
    const before = (await ask<{ wall: number }>(script, 'times')).wall
    const remaining = await ask<number>(script, 'remaining')
    expect(await short.next()).not.toBeNull()
    clock.set(jump)
    // The fault takes effect: the process sees another wall clock, and its boot clock continues.
    expect(Math.abs((await ask<{ wall: number }>(script, 'times')).wall - before - jump)).toBeLessThan(60_000)
    expect(Math.abs((await ask<number>(script, 'remaining')) - remaining)).toBeLessThan(20_000)
    expect(await ask(script, 'held')).toBe(true)
    expect(await locks.tryAcquireLocal('x')).toBeNull()
    const other = holder(path, 'x', { env: clock.env })
    expect(await other.next()).toBeNull() // the lease is active for processes with the new time, too
    await eventually('the lease ends on time', () => locks.tryAcquireLocal('short'))
    expect(performance.now() - began).toBeGreaterThan(ttlMs)
    expect(await ask(short, 'held')).toBe(false)
    expect(await ask(script, 'held')).toBe(true)
  })

  it('an hour back does not let tokens fall', async () => {
    const path = join(tempDir(), 'locks.sqlite')
    const clock = wallClock()
    const script = holder(path, 'x', { env: clock.env })
    const { token } = await script.next<{ token: string }>()
    expect(await ask(script, 'release')).toBe(true)
    clock.set(-3_600_000)
    const later = holder(path, 'x', { env: clock.env })
    expect(BigInt((await later.next<{ token: string }>()).token)).toBe(BigInt(token) + 1n)
  })
})

it(
  'reports after a while that another process locks the file, and grants nothing',
  { timeout: 60_000 },
  async () => {
    const path = join(tempDir(), 'locks.sqlite')
    const locks = closing(new LockManager({ local: path }))
    await (await locks.acquireLocal('x')).release()
    // A writer of the same file that keeps its lock, like a process that was stopped in mid-transaction.
    const writer = spawn('python3', [
      '-c',
      `import sqlite3, sys
c = sqlite3.connect(${JSON.stringify(path)}, isolation_level=None); c.execute("begin immediate"); print("x", flush=True); sys.stdin.read()`,
    ])
    await new Promise((resolve) => writer.stdout.once('data', resolve))
    try {
      expect(await rejection(locks.acquireLocal('x'))).toMatchObject({ code: 'BACKEND_UNAVAILABLE' })
      expect(() => locks.tryAcquireLocalSync('x')).toThrow(
        expect.objectContaining({ code: 'BACKEND_UNAVAILABLE' }),
      )
    } finally {
      writer.kill('SIGKILL')
    }
    const lock = await eventually('it recovers', () => locks.tryAcquireLocal('x').catch(() => null))
    expect(lock.held).toBe(true)
  },
)
