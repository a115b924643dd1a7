// What a platform's binary must do on a runtime of that platform: asynchronous and synchronous local locks,
// worker threads that share a file, a strong lock, and a normal exit. The last line of its output confirms
// all of it; the caller waits for the exit. Argument: the URL of a Redis server without replicas.

import { LockManager } from 'fencelock'
import assert from 'node:assert/strict'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Worker, isMainThread, workerData } from 'node:worker_threads'

const rounds = 10
const workers = 3

if (isMainThread) await main(process.argv[2])
else await count(workerData)

/** @param {string | undefined} redis */
async function main(redis) {
  const folder = mkdtempSync(join(tmpdir(), 'fencelock-trial-'))
  try {
    await localLocks(join(folder, 'locks.sqlite'))
    await inWorkers({ local: join(folder, 'shared.sqlite'), counter: join(folder, 'counter') })
    if (redis) await strongLocks(redis)
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
  const runtime = process.versions.bun ? `Bun ${process.versions.bun}` : `Node ${process.versions.node}`
  console.log(
    `works on ${runtime} ${process.platform} ${process.arch}: local, workers${redis ? ', strong' : ''}`,
  )
}

/** @param {string} local */
async function localLocks(local) {
  const locks = new LockManager({ local })
  const first = locks.tryAcquireLocalSync('r')
  assert.ok(first)
  assert.equal(locks.tryAcquireLocalSync('r'), null)
  assert.equal(await locks.tryAcquireLocal('r'), null)
  const waiting = locks.acquireLocal('r', { waitMs: 20_000 })
  assert.equal(first.releaseSync(), true)
  const second = await waiting
  assert.ok(second.token > first.token)
  await second.extend(60_000)
  assert.ok(second.held)
  assert.equal(await second.release(), true)
  await locks.close()
}

/** @param {string} redis */
async function strongLocks(redis) {
  const locks = new LockManager({ redis: { url: redis, replicas: 0 } })
  const lock = await locks.acquireStrong('r')
  assert.equal(await locks.tryAcquireStrong('r'), null)
  await lock.extend(60_000)
  assert.equal(await lock.release(), true)
  const after = await locks.withLock('r', (held) => held.token)
  assert.ok(after > lock.token)
  await locks.close()
}

/** @param {{ local: string, counter: string }} places */
async function inWorkers(places) {
  writeFileSync(places.counter, '0')
  const threads = Array.from(
    { length: workers },
    () => new Worker(new URL(import.meta.url), { workerData: places }),
  )
  await Promise.all(
    threads.map(
      (thread) =>
        new Promise((resolve, reject) => {
          thread
            .once('error', reject)
            .once('exit', (code) => (code === 0 ? resolve(undefined) : reject(new Error(`exit ${code}`))))
        }),
    ),
  )
  assert.equal(Number(readFileSync(places.counter, 'utf8')), workers * rounds)
}

/** @param {{ local: string, counter: string }} places */
async function count({ local, counter }) {
  const locks = new LockManager({ local })
  for (let round = 0; round < rounds; round++) {
    await locks.withLock('counter', { waitMs: 60_000 }, async () => {
      const before = Number(readFileSync(counter, 'utf8'))
      // Without a lock others would read the same number meanwhile.
      await new Promise((resolve) => setTimeout(resolve, 1))
      writeFileSync(counter, String(before + 1))
    })
  }
  await locks.close()
}
