/**
 * An instance of service.ts: next to a `lock.js` of some version. Told `take`, it says `inside` when it has
 * the lock, and holds it until it is told `leave`; if its signal aborts, it says `aborted`. Told `count`, it
 * increments the number in a file under the lock again and again, and says how often, until it is told
 * `stop`.
 */
import { readFileSync, writeFileSync, writeSync } from 'node:fs'
import { createInterface } from 'node:readline'
import { setTimeout as sleep } from 'node:timers/promises'

import { exclusive } from './lock.js'

const say = (value) => writeSync(1, `${JSON.stringify(value)}\n`)
const [resource, counter] = process.argv.slice(2)
const busy = new Set([
  'ExecutionError',
  'LockError',
  'LockAcquisitionError',
  'TimeoutError',
  'ELOCKED',
  'LOCK_HELD',
  'held',
])
let leave = () => undefined
const state = { stopped: false }

/** Tries until the work was done: the libraries wait for different times. */
async function insist(work) {
  for (;;) {
    try {
      return await exclusive(resource, work)
    } catch (error) {
      if (![error.name, error.code, error.message].some((text) => busy.has(text))) throw error
      await sleep(5)
    }
  }
}

const hold = async ({ token, signal }) => {
  say({ inside: true, token: token !== undefined })
  if (signal.aborted) say('aborted')
  else signal.addEventListener('abort', () => say('aborted'))
  await new Promise((resolve) => (leave = resolve))
}

async function increment() {
  const before = Number(readFileSync(counter, 'utf8'))
  await sleep(2)
  writeFileSync(counter, String(before + 1))
}

async function count() {
  for (let done = 1; !state.stopped; done++) {
    await insist(increment)
    say({ done })
    await sleep(5 + Math.random() * 30)
  }
  say(state)
}

const commands = { take: () => insist(hold), leave: () => leave(), count, stop: () => (state.stopped = true) }

say('ready')
for await (const line of createInterface({ input: process.stdin })) void commands[JSON.parse(line)]()
process.exit()
