'use strict'

/**
 * Promises that wait for the addon. Each call has a slot; the addon queues its completion under that slot,
 * and wakes JavaScript once per batch.
 */

const { isMainThread } = require('node:worker_threads')
const { endTurn } = require('./call-batch.js')
const binding = require('./load.js')
const wire = require('./wire.js')

/** The runtime's own functions, even if tests replace the global ones later. */
const { clearInterval, queueMicrotask, setInterval } = globalThis
const { nextTick } = process

const Kind = wire.kind
const { granted: GRANTED, late: LATE, failed: FAILED, detail: DETAIL, leaseEnds: LEASE_ENDS } = Kind
const { stride: STRIDE, slot: SLOT, kind: KIND, numbers: NUMBERS } = wire.completion
const { lease: LEASE, token: TOKEN, received: RECEIVED } = wire.grant
const { ownerHigh: OWNER_HIGH, ownerMiddle: OWNER_MIDDLE, ownerLow: OWNER_LOW } = wire.grant

/** @import { Drained, Failure } from '../../binding.js' */

/** @typedef {Drained['details'][number]} Detail */
/** @typedef {Grant | Failed | Completed} Outcome */
/** @typedef {(outcome: Outcome | Promise<never>) => void} Resolve */

const BATCH = 256
const records = new Float64Array(new ArrayBuffer(BATCH * STRIDE * Float64Array.BYTES_PER_ELEMENT))

/**
 * The resolvers of the calls in progress, by slot. A slot that is free or abandoned holds undefined.
 * @type {(Resolve | undefined)[]}
 */
const waiting = []
/** @type {number[]} */
const free = []

/** A call that failed. */
class Failed {
  /** @param {Failure} failure */
  constructor(failure) {
    this.failure = failure
  }
}

/** The completion of a call that brought no lease. */
class Completed {
  /**
   * @param {number} kind
   * @param {number} value
   * @param {Detail | undefined} detail
   */
  constructor(kind, value, detail) {
    this.kind = kind
    this.value = value
    this.detail = detail
  }
}

/** A lease, as numbers. */
class Grant {
  /**
   * @param {number} kind
   * @param {Float64Array} numbers
   * @param {number} at where the lease begins in them
   */
  constructor(kind, numbers, at) {
    this.isLate = kind === LATE
    this.lease = number(numbers, at + LEASE)
    this.token = number(numbers, at + TOKEN)
    /** Acknowledgements; -1 if none were requested. */
    this.received = number(numbers, at + RECEIVED)
    /** The owner: 12, 12 and 8 hexadecimal digits. */
    this.ownerHigh = number(numbers, at + OWNER_HIGH)
    this.ownerMiddle = number(numbers, at + OWNER_MIDDLE)
    this.ownerLow = number(numbers, at + OWNER_LOW)
  }
}

/**
 * @param {Float64Array} numbers
 * @param {number} at
 */
function number(numbers, at) {
  return /** @type {number} */ (numbers[at])
}

/** @type {import('../../binding.js').Bridge | undefined} */
let bridge
/** @type {(lease: number, message: string) => void} */
let onLeaseEnd = () => {}

/**
 * Bun 1.2 can lose the wake-up of a threadsafe function, and then nothing would drain the queue. So on Bun
 * the queue is also polled while anything is awaited. That costs a timer, and delays only what would have
 * been lost.
 */
const POLL_EVERY_MS = 20
const polls = process.versions.bun !== undefined
let awaited = 0
/** @type {ReturnType<typeof setInterval> | undefined} */
let polling

/**
 * Changes the number of completions and notifications that are awaited from the addon.
 * @param {1 | -1} change
 */
function expect(change) {
  awaited += change
  if (!polls) return
  if (awaited > 0) {
    if (polling === undefined) {
      polling = setInterval(drain, POLL_EVERY_MS)
      // The addon keeps the process alive for calls in progress; the timer must not do so for anything else.
      polling.unref?.()
    }
  } else if (polling !== undefined) {
    clearInterval(polling)
    polling = undefined
  }
}

/** This environment's bridge to the addon, created on first use. */
function attach() {
  if (bridge === undefined) {
    const created = new binding.Bridge(drain)
    bridge = created
    // Neither runtime notifies an addon of process.exit(). A worker that is terminated emits no event, but
    // detaches its addon.
    atExit(() => {
      send()
      created.end(isMainThread)
    })
  }
  return bridge
}

/**
 * Registers one listener for all copies of this module, however often a test runner loads it again: more than
 * ten listeners would cause a warning.
 * @param {() => void} end
 */
function atExit(end) {
  const key = Symbol.for('fencelock.atExit')
  const shared = /** @type {{ [key]?: (() => void)[] }} */ (/** @type {unknown} */ (process))
  let ends = shared[key]
  if (ends === undefined) {
    /** @type {(() => void)[]} */
    const all = []
    ends = all
    Object.defineProperty(process, key, { value: ends })
    process.once('exit', () => all.forEach((each) => each()))
  }
  ends.push(end)
}

let isScheduled = false

/**
 * Sends the calls of this event-loop turn when the current callback, and those that it queued with
 * `process.nextTick`, have run: calls that are made together travel together. That delays no caller, because
 * none could receive a result before the turn ends.
 */
function scheduleSend() {
  if (isScheduled) return
  // This may throw, when little stack is left.
  nextTick(send)
  isScheduled = true
}

function send() {
  isScheduled = false
  const failed = endTurn()
  // Their slots are not reused, see abandon().
  if (failed) for (const slot of failed.slots) abandon(slot)?.(Promise.reject(failed.error))
  bridge?.flush()
}

/**
 * Gives up a slot forever: a completion may have been queued for it, which must not settle another call.
 * @param {number} slot
 * @returns the resolver that waits in it
 */
function abandon(slot) {
  const resolve = waiting[slot]
  waiting[slot] = undefined
  expect(-1)
  return resolve
}

/**
 * Slots that were settled. A caller that cancels a call by its slot learns of its end in a promise reaction,
 * so a slot is free only after those.
 * @type {number[]}
 */
let settled = []

function freeSettled() {
  for (const slot of settled) free.push(slot)
  settled = []
}

/** Settles all queued calls. Only resolves promises and aborts signals, so it does not throw. */
function drain() {
  if (bridge === undefined) return
  for (;;) {
    const { count, details } = bridge.drain(records)
    for (let at = 0; at < count * STRIDE; at += STRIDE) {
      const slot = number(records, at + SLOT)
      const kind = number(records, at + KIND)
      if (kind === LEASE_ENDS) {
        onLeaseEnd(slot, /** @type {string} */ (details[number(records, at + NUMBERS)]))
        continue
      }
      const resolve = waiting[slot]
      if (resolve === undefined) continue
      waiting[slot] = undefined
      settled.push(slot)
      expect(-1)
      resolve(outcome(kind, at + NUMBERS, details))
    }
    if (count < BATCH) break
  }
  // After the reactions of all promises that were resolved here.
  if (settled.length > 0) queueMicrotask(freeSettled)
}

/**
 * @param {number} kind
 * @param {number} at where the record's numbers begin
 * @param {Detail[]} details
 * @returns {Outcome}
 */
function outcome(kind, at, details) {
  if (kind === GRANTED || kind === LATE) return new Grant(kind, records, at)
  const value = number(records, at)
  if (kind === FAILED) return new Failed(/** @type {Failure} */ (details[value]))
  return new Completed(kind, value, kind === DETAIL ? details[value] : undefined)
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
    try {
      scheduleSend()
      start(slot)
    } catch (error) {
      // The stack is exhausted. Or it is a defect, because the addon takes every argument that lib/options/
      // accepts.
      abandon(slot)
      throw error
    }
  })
}

/**
 * Sets the listener that is notified when a watched lease ends.
 * @param {(lease: number, message: string) => void} listener
 */
function onEnd(listener) {
  onLeaseEnd = listener
}

module.exports = { Completed, Failed, Grant, Kind, attach, expect, onEnd, submit }
