/**
 * A process that writes under locks. Argument: a JSON object `{ client, server, locks, guarded, … }`.
 *
 * - `sleeper`: acquires the lock, reads, reports it, waits for a line, writes, and reports the outcome.
 * - `writers`: four writers, each of which repeatedly reads, pauses, and writes one more; reports the number
 *   of acknowledged and of rejected writes.
 * - `migrator`: reports that it runs, waits for a line, creates the table and advances a fence in it, and
 *   reports it.
 */
import { writeSync } from 'node:fs'
import { createInterface } from 'node:readline'
import { setTimeout as sleep } from 'node:timers/promises'

import fencelock from '../../../index.js'
import { openClient } from '../../../scripts/sql-clients/index.mjs'

const { LockManager, LockLostError, StaleTokenError } = fencelock
/** The TTL of a writer's lease, in milliseconds. */
const TTL = 20
const task = JSON.parse(process.argv[2] ?? '')
const locks = new LockManager({ local: task.locks })
const client = await openClient(task.client, task.server)
const guard = client.guard()

/** @param {unknown} value */
const say = (value) => writeSync(1, `${JSON.stringify(value)}\n`)

/** @param {string} id @returns {Promise<number>} */
async function read(id) {
  const [row] = await client.direct(`SELECT value FROM data WHERE id = '${id}'`)
  return Number(row.value)
}

/**
 * Writes with only the token and the owner: for a lock that knows that it has ended, the guard would send
 * nothing.
 * @param {{ resource: string, token: bigint, owner: string }} lock @param {number} value
 */
async function write({ resource, token, owner }, value) {
  const text = `UPDATE data SET value = ${value} WHERE id = '${resource}'`
  if (task.guarded)
    await guard.run({ resource, token, owner }, (/** @type {any} */ tx) => client.rows(tx, text))
  else await client.direct(text)
}

/** A machine that stalls may grant it when its short lease has already ended: then it is granted again. */
async function acquire() {
  for (;;) {
    try {
      return await locks.acquireLocal(task.id, { ttlMs: task.ttlMs, waitMs: 10_000 })
    } catch (error) {
      if (!(error instanceof LockLostError)) throw error
    }
  }
}

async function sleeper() {
  const lock = await acquire()
  const value = await read(task.id)
  say({ has: String(lock.token), value })
  for await (const _ of createInterface({ input: process.stdin })) break
  try {
    await write(lock, value + 1)
    say({ wrote: value + 1 })
  } catch (error) {
    if (!(error instanceof StaleTokenError)) throw error
    say({ refused: error })
  }
}

/** @param {number} number */
async function writer(number) {
  const id = task.ids[number % task.ids.length]
  const counts = { written: 0, refused: 0 }
  while (counts.written < task.writes) {
    let lock
    try {
      lock = await locks.tryAcquireLocal(id, { ttlMs: TTL })
    } catch (error) {
      // Its lease had already ended.
      if (!(error instanceof LockLostError)) throw error
    }
    if (!lock) {
      await sleep(Math.random() * 4)
      continue
    }
    try {
      if (task.guarded) await guard.advance({ resource: id, token: lock.token })
      const value = await read(id)
      // One in fifty outlives its lease.
      if (Math.random() < 0.02) await sleep(TTL + Math.random() * TTL)
      await write(lock, value + 1)
      counts.written++
    } catch (error) {
      if (!(error instanceof StaleTokenError)) throw error
      counts.refused++
    }
    await lock.release()
  }
  return counts
}

async function migrator() {
  say('ready')
  for await (const _ of createInterface({ input: process.stdin })) break
  const other = client.guard({ table: task.table })
  await other.migrate()
  await other.advance({ resource: 'a', token: 5n })
  say('migrated')
}

if (task.does === 'sleeper') {
  await sleeper()
} else if (task.does === 'migrator') {
  await migrator()
} else {
  const all = await Promise.all([0, 1, 2, 3].map((n) => writer(n)))
  say({
    written: all.reduce((sum, { written }) => sum + written, 0),
    refused: all.reduce((sum, { refused }) => sum + refused, 0),
  })
}
await locks.close()
await client.end()
process.stdin.destroy()
