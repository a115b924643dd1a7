// Runs a command that migrates a database, such as Prisma's, under a lock: instances that start at the same
// time run it one after the other.
//
//   REDIS_URL=redis://127.0.0.1:6379 node examples/migrations/command.mjs npx prisma migrate deploy
//
// - The first instance migrates. The others wait until it is done, and their commands find nothing to do.
// - If the lease is lost, or this process gets SIGTERM, the command and everything it started get SIGTERM.
//   The lock is not released before all of them have ended.
// - If this process is killed, the command continues without a lock, and another instance starts its own
//   command when the lease has expired. No fence can refuse either of them, because the command has its own
//   connection. What helps is that Prisma (7.10) also takes an advisory lock in PostgreSQL; leave it on. By
//   itself it is not enough, because an instance that waits for it fails after a while.
//
// Windows has no process groups: there, only the command itself is ended.

import { LockManager } from 'fencelock'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'

const locks = new LockManager({
  redis: {
    url: process.env.REDIS_URL ?? 'redis://127.0.0.1:6379',
    replicas: Number(process.env.REDIS_REPLICAS ?? 0),
  },
})
const stop = new AbortController()
for (const name of ['SIGINT', 'SIGTERM']) process.once(name, () => stop.abort())

const [command = 'npx', ...args] = process.argv.slice(2)
try {
  const options = { ttlMs: 5_000, waitMs: 600_000, signal: stop.signal }
  await locks.withLock('shop:migrations', options, (lock) => {
    console.log(`running with token ${lock.token}`)
    return run(AbortSignal.any([lock.signal, stop.signal]))
  })
} catch (error) {
  // The service must not start.
  console.error(`not migrated: ${String(error)}`)
  process.exitCode = 1
}
await locks.close()

/**
 * Rejects if the command fails or is ended.
 *
 * @param {AbortSignal} signal
 */
async function run(signal) {
  signal.throwIfAborted() // It may have aborted while the lock was granted.
  // A process group of its own: Prisma's engine is a child of Prisma, which may be a child of npx.
  const child = spawn(command, args, { stdio: 'inherit', detached: process.platform !== 'win32' })
  const end = () => {
    if (child.pid !== undefined) kill(child.pid, 'SIGTERM')
  }
  signal.addEventListener('abort', end)
  const [code, by] = await once(child, 'exit').finally(() => signal.removeEventListener('abort', end))
  if (signal.aborted) {
    // The command may end before what it has started.
    while (child.pid !== undefined && kill(child.pid, 0)) await sleep(50)
    throw signal.reason
  }
  if (code !== 0) throw new Error(`${command} ended with ${by ?? code}`)
}

/**
 * Sends a signal to the processes of a group; with 0, only looks for them. Returns whether there are any.
 *
 * @param {number} group
 * @param {'SIGTERM' | 0} name
 */
function kill(group, name) {
  try {
    return process.kill(process.platform === 'win32' ? group : -group, name)
  } catch (error) {
    if (/** @type {NodeJS.ErrnoException} */ (error).code === 'ESRCH') return false
    throw error
  }
}
