'use strict'

/**
 * Where promises wait for the addon. Each call has a slot; the addon queues what became of it and wakes us once per
 * batch. Its counterpart is src/js/settle.rs.
 */

const { isMainThread } = require('node:worker_threads')
const binding = require('./binding.js')

/** The runtime's own, also where tests replace the global ones later. */
const { clearInterval, queueMicrotask, setInterval } = globalThis
const { nextTick } = process

/** src/js/outcome.rs has the same: slot, kind, three numbers, index of the detail. */
const STRIDE = 6
/** What a record says. src/js/outcome.rs has the same. */
const Kind = { GRANTED: 0, BUSY: 1, VALUE: 2, FAILED: 3, DETAIL: 4, ENDS: 5, LATE: 6 }

const records = new Float64Array(new ArrayBuffer(256 * STRIDE * Float64Array.BYTES_PER_ELEMENT))

/** The resolvers of the calls under way, by slot; free slots, and those given up, hold undefined. */
const waiting = []
const free = []

/** What became of a call. */
class Outcome {
  constructor(kind, a, b, c, detail) {
    this.kind = kind
    this.a = a
    this.b = b
    this.c = c
    this.detail = detail
  }
}

let bridge
let tellEnd

/**
 * Bun 1.2 can lose the wake-up of a threadsafe function, and then nobody would ever drain. So on Bun we also look by
 * ourselves, while anything is awaited. It costs a timer, and delays only what would have been lost.
 */
const LOOK_EVERY_MS = 20
const looksByItself = process.versions.bun !== undefined
let awaited = 0
let looking

/** One thing more, or less, is awaited of the addon. */
function expect(change) {
  awaited += change
  if (!looksByItself) return
  if (awaited > 0) {
    if (looking === undefined) {
      looking = setInterval(drain, LOOK_EVERY_MS)
      // The addon keeps the process alive for calls under way; this must not do so for anything else.
      looking.unref?.()
    }
  } else if (looking !== undefined) {
    clearInterval(looking)
    looking = undefined
  }
}

/** This environment's bridge to the addon, made on first use. */
function attach() {
  if (bridge === undefined) {
    bridge = new binding.Bridge(drain)
    // Neither runtime tells an addon of process.exit(). A worker that is terminated emits no event, but ends its addon.
    atExit(() => bridge.end(isMainThread))
  }
  return bridge
}

/** One listener for all copies of this module, however often a test runner loads it anew: eleven would be warned of. */
function atExit(end) {
  const key = Symbol.for('fencelock.atExit')
  if (process[key] === undefined) {
    const ends = []
    Object.defineProperty(process, key, { value: ends })
    process.once('exit', () => ends.forEach((each) => each()))
  }
  process[key].push(end)
}

let turnEnds = false

/**
 * Hands over what was called in this turn, once all callbacks and promises of the turn have run: what was called
 * together travels together. Nothing waits longer for it, because no answer could be taken before the turn's end.
 */
function endTurn() {
  if (turnEnds) return
  turnEnds = true
  nextTick(handOver)
}

function handOver() {
  turnEnds = false
  bridge.flush()
}

/** Slots that were settled. Those who cancel a call by its slot learn of its end only in a promise's reaction. */
let settled = []

function freeSettled() {
  for (const slot of settled) free.push(slot)
  settled = []
}

/** Only ever resolves promises and aborts signals, so it does not throw. */
function drain() {
  for (;;) {
    const { count, details } = bridge.drain(records)
    for (let at = 0; at < count * STRIDE; at += STRIDE) {
      const detail = records[at + 5] < 0 ? undefined : details[records[at + 5]]
      if (records[at + 1] === Kind.ENDS) {
        tellEnd(records[at], detail)
        continue
      }
      const slot = records[at]
      const resolve = waiting[slot]
      if (resolve === undefined) continue
      waiting[slot] = undefined
      settled.push(slot)
      expect(-1)
      resolve(new Outcome(records[at + 1], records[at + 2], records[at + 3], records[at + 4], detail))
    }
    if (count < records.length / STRIDE) break
  }
  // Behind the reactions of all that was resolved here.
  if (settled.length > 0) queueMicrotask(freeSettled)
}

/**
 * Starts a call of the addon under a new slot.
 * @param {(slot: number) => void} start
 * @returns {Promise<Outcome>} failures are outcomes; it rejects only with what `start` throws
 */
function submit(start) {
  return new Promise((resolve) => {
    const slot = free.pop() ?? waiting.length
    waiting[slot] = resolve
    expect(1)
    endTurn()
    try {
      start(slot)
    } catch (error) {
      // The addon takes every argument that lib/options.js lets through, so this is a defect of ours. The slot is given
      // up for ever: something may have been queued for it, which must not settle another call.
      waiting[slot] = undefined
      expect(-1)
      throw error
    }
  })
}

/** Who is told that a watched lease ends: `(lease, message)`. */
function onEnd(listener) {
  tellEnd = listener
}

module.exports = { Kind, attach, expect, onEnd, submit }
