'use strict'

/**
 * Promises that wait for the addon. Each call has a slot; the addon queues its completion under that slot,
 * and wakes JavaScript once per batch.
 */

const { AsyncResource } = require('node:async_hooks')
const { isMainThread } = require('node:worker_threads')
const { endTurn } = require('./call-batch.js')
const binding = require('./load.js')
const wire = require('./wire.js')

const Kind = wire.kind
const { granted: GRANTED, late: LATE, failed: FAILED, detail: DETAIL, leaseEnds: LEASE_ENDS } = Kind
const { credentials: CREDENTIALS } = Kind
const { stride: STRIDE, slot: SLOT, kind: KIND, numbers: NUMBERS } = wire.completion
const { lease: LEASE, token: TOKEN, received: RECEIVED } = wire.grant
const { ownerHigh: OWNER_HIGH, ownerMiddle: OWNER_MIDDLE, ownerLow: OWNER_LOW } = wire.grant

/** @import { Bridge, Failure } from '../../binding.js' */

/** @typedef {ReturnType<Bridge['detail']>} Detail */
/** @typedef {Grant | Failed | Completed} Outcome */
/** @typedef {(outcome: Outcome | Promise<never>) => void} Settle must not throw */

const BATCH = 256
const records = new Float64Array(new ArrayBuffer(BATCH * STRIDE * Float64Array.BYTES_PER_ELEMENT))

/**
 * What settles the calls in progress, by slot. A slot that is free or abandoned holds undefined.
 * @type {(Settle | undefined)[]}
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
   * @param {number} second
   * @param {Detail | undefined} detail
   */
  constructor(kind, value, second, detail) {
    this.kind = kind
    this.value = value
    /** Which resource is held, if one is. */
    this.second = second
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

/**
 * No asynchronous context: what is created here lives as long as the process, and must not keep the context
 * of the code that happens to make the first call, nor run what it calls in it.
 */
class Outside extends AsyncResource {
  constructor() {
    super('FENCELOCK')
    // The module itself may be loaded in some context. Node keeps that in properties like these.
    for (const key of Object.getOwnPropertySymbols(this)) {
      if (typeof Reflect.get(this, key) === 'object') Reflect.set(this, key, undefined)
    }
  }

  /** For tools that look for what keeps a process alive. */
  hasRef() {
    return false
  }
}

const outside = new Outside()

/** @type {Bridge | undefined} */
let bridge
/** @type {(lease: number, message: string) => void} */
let onLeaseEnd = () => {}
/** @type {(number: number, question: number, refusal: string | undefined) => void} */
let onQuestion = () => {}

/** This copy's bridge to the addon, created on first use. */
function attach() {
  // Bun 1.2 can lose the wake-up of a threadsafe function, and then nothing would drain the queue.
  bridge ??= outside.runInAsyncScope(
    () => new binding.Bridge(wake, isMainThread, process.versions.bun !== undefined),
  )
  return bridge
}

/**
 * The addon calls this when there are completions, and before the environment ends.
 * @param {boolean} isEnding
 */
function wake(isEnding) {
  if (isEnding) send()
  else drain()
}

/**
 * A promise reaction is the only thing of JavaScript that runs later and that no test replaces: timers, other
 * queues and clocks may be fakes already when this module is loaded.
 */
const resolved = Promise.resolve()
let isScheduled = false
/** Whether a call was started since that was last looked at. */
let isBusy = false

/**
 * Sends the calls of this event-loop turn when the promise reactions that make more of them have run: calls
 * that are made together travel together. That delays no caller, because none could receive a result before
 * the turn ends.
 */
function scheduleSend() {
  isBusy = true
  if (isScheduled) return
  // This may throw, when little stack is left.
  void resolved.then(sendOnceQuiet)
  isScheduled = true
}

/** Sends as soon as no more calls are being made. */
function sendOnceQuiet() {
  if (!isBusy) return send()
  isBusy = false
  void resolved.then(sendOnceQuiet)
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
 * @returns what settles the call in it
 */
function abandon(slot) {
  const settle = waiting[slot]
  waiting[slot] = undefined
  return settle
}

/** Settles all queued calls. Only resolves promises and aborts signals, so it does not throw. */
function drain() {
  if (bridge === undefined) return
  for (;;) {
    const count = bridge.drain(records)
    for (let at = 0; at < count * STRIDE; at += STRIDE) {
      const slot = number(records, at + SLOT)
      const kind = number(records, at + KIND)
      if (kind === LEASE_ENDS) {
        onLeaseEnd(slot, endMessage(bridge, at + NUMBERS))
        continue
      }
      if (kind === CREDENTIALS) {
        onQuestion(slot, number(records, at + NUMBERS), refusal(bridge, at + NUMBERS + 1))
        continue
      }
      const settle = waiting[slot]
      if (settle === undefined) continue
      waiting[slot] = undefined
      free.push(slot)
      settle(outcome(bridge, kind, at + NUMBERS))
    }
    if (count < BATCH) break
  }
}

/**
 * @param {Bridge} from
 * @param {number} kind
 * @param {number} at where the record's numbers begin
 * @returns {Outcome}
 */
function outcome(from, kind, at) {
  if (kind === GRANTED || kind === LATE) return new Grant(kind, records, at)
  const value = number(records, at)
  const second = number(records, at + 1)
  if (kind !== FAILED && kind !== DETAIL) return new Completed(kind, value, second, undefined)
  try {
    const detail = from.detail(value)
    if (kind === FAILED) return new Failed(/** @type {Failure} */ (detail))
    return new Completed(kind, value, second, detail)
  } catch (error) {
    return new Failed({
      code: 'OUTCOME_UNKNOWN',
      message:
        'the call has ended, but its outcome cannot be represented in this runtime; a lease may exist until ' +
        'its TTL expires',
      cause: String(error),
    })
  }
}

/**
 * @param {Bridge} from
 * @param {number} at where the record's numbers begin
 */
function endMessage(from, at) {
  try {
    return /** @type {string} */ (from.detail(number(records, at)))
  } catch {
    return 'the lease ends; stop working on what it protects, or fence it'
  }
}

/**
 * What a server said when it refused credentials, if one did.
 * @param {Bridge} from
 * @param {number} at where its index is
 */
function refusal(from, at) {
  const index = number(records, at)
  return index < 0 ? undefined : /** @type {string} */ (from.detail(index))
}

/**
 * Starts a call of the addon under a new slot. Nothing can fail from then on: a failure that is reported as
 * the call's own would leave a lease without a holder.
 * @param {(slot: number) => void} start
 * @param {Settle} settle gets the outcome; failures are outcomes
 * @throws what `start` throws
 */
function begin(start, settle) {
  const slot = free.pop() ?? waiting.length
  waiting[slot] = settle
  try {
    scheduleSend()
    start(slot)
  } catch (error) {
    // The stack is exhausted. Or it is a defect, because the addon takes every argument that lib/options/
    // accepts.
    abandon(slot)
    throw error
  }
}

/**
 * Starts a call of the addon.
 * @param {(slot: number) => void} start
 * @returns {Promise<Outcome>} failures are outcomes; it rejects only with what `start` throws
 */
function submit(start) {
  return new Promise((resolve) => begin(start, resolve))
}

/**
 * Sets the listener that is notified when a watched lease ends.
 * @param {(lease: number, message: string) => void} listener must not throw
 */
function onEnd(listener) {
  onLeaseEnd = listener
}

/**
 * Sets the listener that is called when a function for credentials is to be asked.
 * @param {(number: number, question: number, refusal: string | undefined) => void} listener must not throw
 */
function onCredentials(listener) {
  onQuestion = listener
}

module.exports = { Completed, Failed, Grant, Kind, attach, begin, onCredentials, onEnd, submit }
