'use strict'

/**
 * Acquires and releases on their way to the addon. There are many of them, and entering native code costs
 * more than starting one of them there, so several are passed on together.
 */

const wire = require('./wire.js')

const {
  stride: STRIDE,
  slot: SLOT,
  strategy: STRATEGY,
  lease: LEASE,
  names: NAMES,
  ttlMs: TTL_MS,
  minHoldMs: MIN_HOLD_MS,
  minToken: MIN_TOKEN,
  acks: ACKS,
  ackTimeoutMs: ACK_TIMEOUT_MS,
  fsync: FSYNC,
  waitMs: WAIT_MS,
  fair: FAIR,
  renewed: RENEWED,
  maxHoldMs: MAX_HOLD_MS,
  maxStallMs: MAX_STALL_MS,
} = wire.call

/** @typedef {import('../../binding.js').NativeManager} NativeManager */
/** @typedef {import('../options/acquire.js').AcquireRequest} AcquireRequest */
/** @typedef {import('../strategies.js').StrategyInfo} StrategyInfo */

/** Enough to share the step, and few enough that a lock file's thread can start while more are gathered. */
const CAPACITY = 16
/** The lease of an acquire: no lease has this number. */
const NO_LEASE = 0
/** The slot of a synchronous call, which nothing waits in. */
const NO_SLOT = 0

/** @typedef {{ readonly address?: string | undefined, readonly port?: number | undefined }} Server */
/** @type {Server} */
const NO_SERVER = { address: undefined, port: undefined }

/** @param {number} count of calls */
function recordsFor(count) {
  // With a buffer of its own: old Bun gives addons a copy of a small array.
  return new Float64Array(new ArrayBuffer(count * STRIDE * Float64Array.BYTES_PER_ELEMENT))
}

/** The record of a synchronous call. */
const single = recordsFor(1)

/**
 * The calls that were gathered in this event-loop turn. All managers share one batch, so that calls leave in
 * the order in which they were made, and because most turns concern one manager: the calls of another one
 * start a new batch.
 */
const batch = {
  /** @type {NativeManager | undefined} */
  native: undefined,
  count: 0,
  records: recordsFor(CAPACITY),
  /** @type {string[]} */
  names: [],
}

/** Whether no call of this turn has been passed to a thread that starts at once. */
let idle = true
/** Counts event-loop turns, more or less: what was asked of the addon in one counts until it ends. */
let turn = 0

/** Passes the batch to the addon. If it throws, nothing was passed on. */
function flush() {
  if (batch.count === 0) return
  batch.native?.call(batch.count, batch.records, batch.names)
  // No function is called from here on. It could throw when little stack is left, and the batch would be sent
  // twice.
  batch.native = undefined
  batch.count = 0
  batch.names = []
}

/** The addon wakes JavaScript. */
function beginTurn() {
  turn++
}

/**
 * Passes on what is left when the event-loop turn ends.
 * @returns {{ error: unknown, slots: number[] } | undefined} the slots of the calls that could not be passed
 *   on, and why
 */
function endTurn() {
  idle = true
  turn++
  try {
    flush()
    return undefined
  } catch (error) {
    const { count, records } = batch
    batch.count = 0
    batch.names = []
    const slots = Array.from({ length: count }, (_, index) => records[index * STRIDE + SLOT] ?? 0)
    return { error, slots }
  }
}

/**
 * Makes room for one more call.
 * @param {NativeManager} native
 * @returns {number} where its record begins
 */
function next(native) {
  if (batch.count === CAPACITY || batch.native !== native) flush()
  batch.native = native
  return batch.count * STRIDE
}

/**
 * @param {Float64Array} records
 * @param {number} at
 * @param {number} slot
 * @param {StrategyInfo} strategy
 * @param {string | readonly string[]} names
 * @param {AcquireRequest} request
 * @param {number} waitMs
 */
function writeAcquire(records, at, slot, strategy, names, request, waitMs) {
  const { renew } = request
  records[at + SLOT] = slot
  records[at + STRATEGY] = strategy.number
  records[at + LEASE] = NO_LEASE
  records[at + NAMES] = typeof names === 'string' ? 1 : names.length
  records[at + TTL_MS] = request.ttlMs
  records[at + MIN_HOLD_MS] = request.minHoldMs
  records[at + MIN_TOKEN] = request.minToken
  records[at + ACKS] = request.acks
  records[at + ACK_TIMEOUT_MS] = request.ackTimeoutMs
  records[at + FSYNC] = request.fsync ? 1 : 0
  records[at + WAIT_MS] = waitMs
  records[at + FAIR] = request.fair ? 1 : 0
  records[at + RENEWED] = renew ? 1 : 0
  records[at + MAX_HOLD_MS] = renew ? renew.maxHoldMs : 0
  records[at + MAX_STALL_MS] = renew ? renew.maxStallMs : 0
}

/**
 * Counts the call whose record is complete. Once it is counted it must not throw: the call would go and be
 * rejected.
 * @param {StrategyInfo} strategy
 * @param {string | readonly string[] | undefined} names
 */
function add(strategy, names) {
  if (typeof names === 'string') batch.names.push(names)
  else if (names !== undefined) batch.names.push(...names)
  batch.count++
  if (!idle || !strategy.startsAtOnce) return
  idle = false
  try {
    flush()
  } catch {
    // The batch is kept. It is sent at the end of the turn, which reports an error that persists.
  }
}

/** The calls of one manager. */
class ManagerCalls {
  #native
  /** @type {({ turn: number, epoch: number, server: Server } | undefined)[]} by the number of the strategy */
  #servers = []

  /**
   * @param {NativeManager} native
   * @param {readonly { close(): void }[]} credentials live as long as these calls can be made
   */
  constructor(native, credentials) {
    this.#native = native
    this.credentials = credentials
  }

  /**
   * @param {number} slot
   * @param {StrategyInfo} strategy
   * @param {string | readonly string[]} names
   * @param {AcquireRequest} request
   * @param {number} waitMs
   */
  acquire(slot, strategy, names, request, waitMs) {
    writeAcquire(batch.records, next(this.#native), slot, strategy, names, request, waitMs)
    add(strategy, names)
  }

  /**
   * @param {number} slot
   * @param {StrategyInfo} strategy
   * @param {number} lease
   */
  release(slot, strategy, lease) {
    const at = next(this.#native)
    const { records } = batch
    records[at + SLOT] = slot
    records[at + STRATEGY] = strategy.number
    records[at + LEASE] = lease
    add(strategy, undefined)
  }

  /**
   * One attempt on this thread.
   * @param {StrategyInfo} strategy
   * @param {string | readonly string[]} names
   * @param {AcquireRequest} request
   * @param {Float64Array} granted gets the lease
   */
  acquireSync(strategy, names, request, granted) {
    writeAcquire(single, 0, NO_SLOT, strategy, names, request, 0)
    if (typeof names === 'string') return this.direct.acquireSync(single, names, undefined, granted)
    const [first = '', ...others] = names
    return this.direct.acquireSync(single, first, others, granted)
  }

  /**
   * @param {number} slot
   * @param {StrategyInfo} strategy
   * @param {string | readonly string[]} names
   * @param {AcquireRequest} request
   * @param {string} from the owner whose lease it is
   */
  adopt(slot, strategy, names, request, from) {
    writeAcquire(single, 0, slot, strategy, names, request, 0)
    this.direct.adopt(slot, single, typeof names === 'string' ? [names] : [...names], from)
  }

  /**
   * A handle has taken this lease: without one it would not be renewed, and its minimum would not count. This
   * goes past the calls that were gathered, none of which it concerns.
   * @param {number} lease
   */
  hold(lease) {
    this.#native.hold(lease)
  }

  /**
   * Keeps the process alive until the lease ends, or `leave` is called. No gathered call has to go first.
   * @param {number} lease
   */
  attend(lease) {
    return this.#native.attend(lease)
  }

  /**
   * How long a lease has been held, in milliseconds; -1 if it has ended. No gathered call has to go first.
   * @param {number} lease
   */
  heldMs(lease) {
    return this.#native.heldMs(lease)
  }

  /**
   * The server that has all leases of a strategy, as it was reached last, if there is one.
   * @param {StrategyInfo} strategy
   */
  server({ number, sync }) {
    if (sync) return NO_SERVER
    const known = this.#servers[number]
    if (known?.turn === turn) return known.server
    const epoch = this.#native.serverEpoch(number)
    if (known?.epoch === epoch) {
      known.turn = turn
      return known.server
    }
    const server = epoch > 0 ? (this.#native.server(number) ?? NO_SERVER) : NO_SERVER
    this.#servers[number] = { turn, epoch, server }
    return server
  }

  /** The reverse of `attend`. */
  leave() {
    this.#native.leave()
  }

  /**
   * The manager's native side, for every other call. Gathered calls were made before it, so they go first.
   */
  get direct() {
    try {
      flush()
    } catch {
      // As in add(). This call can succeed even if those fail.
    }
    return this.#native
  }
}

module.exports = { ManagerCalls, beginTurn, endTurn }
