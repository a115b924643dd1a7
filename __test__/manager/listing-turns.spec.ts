/** Listings, and what else the process does meanwhile. */
import { LockManager } from 'fencelock'
import { expect, it } from 'vitest'

import { closing } from '../fixtures/locks'
import { onBun12 } from '../fixtures/processes/runtimes'

/** Four times as long as listings may follow each other: what is late, and not by a busy machine alone. */
const LATE_MS = 20
const LISTINGS = 8

// Bun 1.2 runs no timers between messages.
it.skipIf(onBun12)('endless listings let the event loop turn', async () => {
  const locks = closing(new LockManager({ local: ':memory:' }))
  const kept = []
  for (let index = 0; index < 100; index++)
    kept.push(await locks.acquire(`list:${index}`, { ttlMs: 600_000 }))
  let [listed, late, mostLate, turns, turn] = [0, 0, 0, 0, performance.now()]
  const end = turn + 1_000
  const endless = async (): Promise<void> => {
    while (performance.now() < end) {
      for await (const { resource } of locks.list()) if (resource !== '') listed++
      if (performance.now() > turn + LATE_MS) mostLate = Math.max(mostLate, ++late)
    }
  }
  const timer = setInterval(() => {
    ;[late, turn] = [0, performance.now()]
    turns++
  }, 1)
  await Promise.all(Array.from({ length: LISTINGS }, endless))
  clearInterval(timer)
  console.log(`${listed} locks listed, ${turns} timers; at most ${mostLate} listings ended before a late one`)
  // Those that a late turn found under way may end. Node may call what delivers pages a thousand times before
  // a timer, as long as there is another page.
  expect(mostLate).toBeLessThanOrEqual(4 * LISTINGS)
  expect(kept.every(({ held }) => held)).toBe(true)
})
