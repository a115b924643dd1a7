'use strict'

/**
 * Where promises wait for the addon. Each call has a slot; the addon queues what became of it and wakes us once per
 * batch. Its counterpart is src/js/settle.rs.
 */

const { isMainThread } = require('node:worker_threads')
const binding = require('./load.js')
const { endTurn } = require('./call-batch.js')

/** The runtime's own, also where tests replace the global ones later. */
const { clearInterval, queueMicrotask, setInterval } = globalThis
const { nextTick } = process

/** src/js/outcome.rs has the same: slot, kind, six numbers. */
const STRIDE = 8
/** What a record says. src/js/outcome.rs has the same. */
const Kind = { GRANTED: 0, BUSY: 1, VALUE: 2, FAILED: 3, DETAIL: 4, ENDS: 5, LATE: 6, NOTHING: 7 }

const records = new Float64Array(new ArrayBuffer(256 * STRIDE * Float64Array.BYTES_PER_ELEMENT))

/** The resolvers of the calls under way, by slot; free slots, and those given up, hold undefined. */
const waiting = []
const free = []

/** What became of a call that brought no lease. */
class Outcome {
  constructor(kind, value, detail) {
    this.kind = kind
    this.value = value
    this.detail = detail
  }
}

/** A lease, in numbers, as the addon writes it. */
class Grant {
  /** @param {Float64Array} numbers lease, token, acknowledgements (none: -1), and the owner's 12, 12 and 8 digits */
  constructor(kind, numbers, at) {
    this.kind = kind
    this.lease = numbers[at]
    this.token = numbers[at + 1]
    this.received = numbers[at + 2]
    this.high = numbers[at + 3]
    this.middle = numbers[at + 4]
    this.low = numbers[at + 5]
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
    atExit(() => {
      send()
      bridge.end(isMainThread)
    })
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
 * Sends what was called in this turn, when the callback that runs now and those that it queued with `process.nextTick`
 * have run: what was called together travels together. No caller waits longer for it, because none could take an answer
 * before the turn's end.
 */
function sendSoon() {
  if (turnEnds) return
  // This may throw, when little is left of the stack.
  nextTick(send)
  turnEnds = true
}

function send() {
  turnEnds = false
  const failed = endTurn()
  // As below.
  if (failed) for (const slot of failed.slots) abandon(slot)?.(Promise.reject(failed.error))
  bridge.flush()
}

/**
 * Gives up a slot, for ever: something may have been queued for it, which must not settle another call.
 * @returns the resolver that waits in it
 */
function abandon(slot) {
  const resolve = waiting[slot]
  waiting[slot] = undefined
  expect(-1)
  return resolve
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
      const slot = records[at]
      const kind = records[at + 1]
      if (kind === Kind.ENDS) {
        tellEnd(slot, details[records[at + 2]])
        continue
      }
      const resolve = waiting[slot]
      if (resolve === undefined) continue
      waiting[slot] = undefined
      settled.push(slot)
      expect(-1)
      resolve(outcome(kind, at + 2, details))
    }
    if (count < records.length / STRIDE) break
  }
  // Behind the reactions of all that was resolved here.
  if (settled.length > 0) queueMicrotask(freeSettled)
}

/** What a record says whose numbers are here. */
function outcome(kind, at, details) {
  if (kind === Kind.GRANTED || kind === Kind.LATE) return new Grant(kind, records, at)
  const value = records[at]
  const isDetail = kind === Kind.FAILED || kind === Kind.DETAIL
  return new Outcome(kind, value, isDetail ? details[value] : undefined)
}

/**
 * Starts a call of the addon under a new slot.
 * @param {(slot: number) => void} start
 * @returns {Promise<Outcome | Grant>} failures are outcomes; it rejects only with what `start` throws
 */
function submit(start) {
  return new Promise((resolve) => {
    const slot = free.pop() ?? waiting.length
    waiting[slot] = resolve
    expect(1)
    try {
      sendSoon()
      start(slot)
    } catch (error) {
      // The end of the stack; or a defect of ours, for the addon takes every argument that lib/options/ lets through.
      abandon(slot)
      throw error
    }
  })
}

/** Who is told that a watched lease ends: `(lease, message)`. */
function onEnd(listener) {
  tellEnd = listener
}

module.exports = { Grant, Kind, attach, expect, onEnd, submit }
