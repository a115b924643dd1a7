// Next.js: a route handler that runs under a lock, with one lock manager per process.
//
//   REDIS_URL=redis://127.0.0.1:6379 npx next dev    in a project that has installed next and fencelock
//   curl -i -X POST http://127.0.0.1:3000/invoices/42/pay    twice at the same time
//
// While a request holds the lock, other requests for the same invoice, on all instances, get 409. The lock is
// renewed while the handler runs. If the lease is lost, its signal aborts, and the request fails. In
// development, the manager outlives changes to the files: see locks.js. The Edge runtime cannot run this,
// because it cannot load addons.

import { LockHeldError } from 'fencelock'
import { setTimeout as sleep } from 'node:timers/promises'

import { locks } from '../../../locks.js'

/**
 * @param {Request} _request
 * @param {{ params: Promise<{ id: string }> }} context
 */
export async function POST(_request, { params }) {
  const { id } = await params
  try {
    return await locks.withLock(`invoice:${id}`, { ttlMs: 5_000, waitMs: 0 }, async (lock) => {
      // Stands for the work. What it calls gets the signal, so that it ends when the lease is lost.
      await sleep(Number(process.env.WORK_MS ?? 3_000), undefined, { signal: lock.signal })
      return Response.json({ paid: true, token: String(lock.token) })
    })
  } catch (error) {
    if (!(error instanceof LockHeldError)) throw error
    return Response.json({ error: `${error.resource} is in use` }, { status: 409 })
  }
}
