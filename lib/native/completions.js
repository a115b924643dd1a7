'use strict'

/**
 * Promises that wait for the addon. Each call has a slot; the addon queues its completion under that slot,
 * and wakes JavaScript once per batch.
 */

const { AsyncResource } = require('node:async_hooks')
const { beginTurn, endTurn } = require('./call-batch.js')
const binding = require('./load.js')
const { Completed, Failed, Grant, number } = require('./outcomes.js')
const { canRead, readSocket } = require('./sockets.js')
const wire = require('./wire.js')

const Kind = wire.kind
const { granted: GRANTED, late: LATE, failed: FAILED, detail: DETAIL, leaseEnds: LEASE_ENDS } = Kind
const { credentials: CREDENTIALS, waits: WAITS, event: EVENT, socket: SOCKET } = Kind
const { stride: STRIDE, slot: SLOT, kind: KIND, numbers: NUMBERS } = wire.completion

/** @import { Bridge, Event, Failure } from '../../binding.js' */

/** @typedef {ReturnType<Bridge['detail']>} Detail */
/** @typedef {InstanceType<typeof Grant | typeof Failed | typeof Completed>} Outcome */
/** @typedef {(outcome: Outcome | Promise<never>) => void} Settle must not throw */

/** Bun says it without a module, whose loading takes a sixth of what loading this library takes there. */
const { Bun } = /** @type {{ Bun?: { isMainThread: boolean } }} */ (globalThis)
const isMainThread = Bun?.isMainThread ?? require('node:worker_threads').isMainThread

const BATCH = 256
const records = new Float64Array(new ArrayBuffer(BATCH * STRIDE * Float64Array.BYTES_PER_ELEMENT))

/**
 * What settles the calls in progress, by slot. A slot that is free or abandoned holds undefined.
 * @type {(Settle | undefined)[]}
 */
const waiting = []
/** @type {number[]} */
const free = []
/**
 * What is called when a call begins to wait, by slot: only of calls with subscribers.
 * @type {Map<number, () => void>}
 */
const waits = new Map()

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
/** @type {(event: Event) => void} */
let onEvent = () => {}
/** What of the things that happen without a call has subscribers. */
let topics = () => 0
let told = 0

/** This copy's bridge to the addon, created on first use. */
function attach() {
  // Bun 1.2 can lose the wake-up of a threadsafe function, and then nothing would drain the queue.
  bridge ??= outside.runInAsyncScope(
    () => new binding.Bridge(wake, isMainThread, process.versions.bun !== undefined, canRead),
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
  // Before the first call of the turn.
  tellTopics()
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
  beginTurn()
  tellTopics()
  for (;;) {
    const count = bridge.drain(records)
    settleAll(bridge, count)
    if (count < BATCH) break
  }
}

/**
 * Settles what was moved into the records.
 * @param {Bridge} from
 * @param {number} count
 */
function settleAll(from, count) {
  for (let at = 0; at < count * STRIDE; at += STRIDE) {
    const slot = number(records, at + SLOT)
    const kind = number(records, at + KIND)
    if (kind === LEASE_ENDS) {
      onLeaseEnd(slot, endMessage(from, at + NUMBERS))
      continue
    }
    if (kind === CREDENTIALS) {
      onQuestion(slot, number(records, at + NUMBERS), refusal(from, at + NUMBERS + 1))
      continue
    }
    if (kind === EVENT) {
      happened(from, at + NUMBERS)
      continue
    }
    if (kind === WAITS) {
      waits.get(slot)?.()
      continue
    }
    if (kind === SOCKET) {
      const fd = number(records, at + NUMBERS)
      outside.runInAsyncScope(() => readSocket(slot, fd, new WeakRef(reader)))
      continue
    }
    if (waits.size > 0) waits.delete(slot)
    const settle = waiting[slot]
    if (settle === undefined) continue
    waiting[slot] = undefined
    free.push(slot)
    settle(outcome(from, kind, at + NUMBERS))
  }
}

/** Reads sockets for the addon. */
const reader = {
  /** @param {number} socket */
  begin(socket) {
    bridge?.beginReading(socket)
  },
  /**
   * Settles the calls that these bytes complete.
   * @param {number} socket
   * @param {Uint8Array} bytes
   * @param {number} count
   */
  read(socket, bytes, count) {
    if (bridge === undefined) return
    const settled = bridge.read(socket, bytes, count, records)
    settleAll(bridge, settled)
    if (settled === BATCH) drain()
  },
  /**
   * @param {number} socket
   * @param {string} why
   * @param {boolean} isLocal
   */
  end(socket, why, isLocal) {
    bridge?.endReading(socket, why, isLocal)
  },
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
 * @param {Bridge} from
 * @param {number} at where the record's numbers begin
 */
function happened(from, at) {
  try {
    onEvent(/** @type {Event} */ (from.detail(number(records, at))))
  } catch {
    // It cannot be represented, or little stack is left. Other completions must not suffer.
  }
}

/** Has the addon report what has subscribers now, and nothing else. */
function tellTopics() {
  const wanted = topics()
  if (wanted === told || bridge === undefined) return
  told = wanted
  bridge.observe(wanted)
}

/**
 * Starts a call of the addon under a new slot. Nothing can fail from then on: a failure that is reported as
 * the call's own would leave a lease without a holder.
 * @param {(slot: number) => void} start
 * @param {Settle} settle gets the outcome; failures are outcomes
 * @param {() => void} [onWait] is called when the call begins to wait; must not throw
 * @throws what `start` throws
 */
function begin(start, settle, onWait) {
  const slot = free.pop() ?? waiting.length
  waiting[slot] = settle
  if (onWait !== undefined) waits.set(slot, onWait)
  try {
    scheduleSend()
    start(slot)
  } catch (error) {
    // The stack is exhausted. Or it is a defect, because the addon takes every argument that lib/options/
    // accepts.
    abandon(slot)
    waits.delete(slot)
    throw error
  }
}

/**
 * Starts a call of the addon.
 * @param {(slot: number) => void} start
 * @param {() => void} [onWait] as for `begin`
 * @returns {Promise<Outcome>} failures are outcomes; it rejects only with what `start` throws
 */
function submit(start, onWait) {
  return new Promise((resolve) => begin(start, resolve, onWait))
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

/**
 * Sets what there are subscribers to, and the listener that gets what happens.
 * @param {() => number} wanted bits of the topics that have subscribers now; asked often, must not throw
 * @param {(event: Event) => void} listener
 */
function onEvents(wanted, listener) {
  topics = wanted
  onEvent = listener
}

module.exports = {
  Completed,
  Failed,
  Grant,
  Kind,
  attach,
  begin,
  onCredentials,
  onEnd,
  onEvents,
  submit,
  tellTopics,
}
