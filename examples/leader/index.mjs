// A leader with takeover: all instances of a service run this program, and one of them at a time polls a
// mailbox. Start it several times:
//
//   REDIS_URL=redis://127.0.0.1:6379 node examples/leader/index.mjs
//
// - An instance that gets SIGTERM finishes its poll, and another one leads at once.
// - If the leader is killed, another instance leads when the lease expires, at most 5 seconds later.
// - A leader that was paused for longer than its lease cannot write afterwards: each poll carries the
//   leader's token, and the mailbox's log refuses tokens lower than the highest it has seen. The refusal ends
//   the program, and its supervisor restarts it.

import { LockManager } from 'fencelock'
import { redisGuard } from 'fencelock/guard'
import { Redis } from 'ioredis'
import { setTimeout as sleep } from 'node:timers/promises'

const url = process.env.REDIS_URL ?? 'redis://127.0.0.1:6379'
// In production say how many replicas the server is meant to have: then a lease counts only when they have
// acknowledged it.
const locks = new LockManager({ redis: { url, replicas: Number(process.env.REDIS_REPLICAS ?? 0) } })
const client = new Redis(url)
const guard = redisGuard({ client })

// `locks.closing` then tells a leader to stop, and a candidate stops waiting.
process.once('SIGTERM', () => void locks.close())

console.log('standing by')
await locks.elect('mailbox-poller', { ttlMs: 5_000 }, async (lock) => {
  console.log(`leading with token ${lock.token}`)
  const stop = AbortSignal.any([lock.signal, locks.closing])
  // An error that comes of `stop` does not leave `elect`: after a loss it campaigns again.
  try {
    while (!stop.aborted) {
      await poll(lock)
      await sleep(200, undefined, { signal: stop })
    }
  } finally {
    console.log('no longer leading')
  }
})
client.disconnect()

/** What the leader does, in place of your work. @param {import('fencelock').Lock} lock */
async function poll(lock) {
  const script = "redis.call('RPUSH', KEYS[1], ARGV[1] .. ' ' .. TOKEN)"
  // The fence of a resource and the keys that it protects are in one slot of a cluster: hence the braces.
  await guard.run(lock, script, { keys: ['{mailbox-poller}:log'], args: [process.pid] })
}
