'use strict'

/**
 * Calls on their way to the addon. Those that are many, acquires and releases, go over some at a time, because a step
 * into native code costs more than what it does for one of them. The counterpart is src/js/calls.rs.
 */

const { STRATEGIES } = require('../options/index.js')

/** src/js/calls.rs has the same: slot, strategy, lease, and what an acquire says. */
const STRIDE = 12
/** Enough to share the step, and few enough that a lock file's thread begins while more are asked for. */
const MOST = 16

/** What is gathered for the manager's side of the addon that `native` is. */
const gathered = {
  native: undefined,
  count: 0,
  // With a buffer of its own: old Bun gives addons a copy of a small array.
  records: new Float64Array(new ArrayBuffer(MOST * STRIDE * Float64Array.BYTES_PER_ELEMENT)),
  names: [],
}

/** Hands over what was gathered. If it throws, nothing was. */
function handOver() {
  if (gathered.count === 0) return
  gathered.native.call(gathered.count, gathered.records, gathered.names)
  // No function is called here, which could throw when little is left of the stack: all would go over once more.
  gathered.native = undefined
  gathered.count = 0
  gathered.names = []
}

/** Whether a lock file's thread has nothing of this turn. */
let idle = true

/** A call was gathered. The first of a turn for a lock file goes at once, for its thread has nothing to do. */
function startLocal(strategy) {
  if (!idle || strategy !== 'local') return
  idle = false
  handOver()
}

/** The turn ends. Answers the slots of the calls that cannot be handed over, and why. */
function endTurn() {
  idle = true
  try {
    handOver()
    return undefined
  } catch (error) {
    const { count, records } = gathered
    gathered.count = 0
    gathered.names = []
    return { error, slots: Array.from({ length: count }, (_, index) => records[index * STRIDE]) }
  }
}

/** Where to write one more call. */
function next(native) {
  if (gathered.count === MOST || gathered.native !== native) handOver()
  gathered.native = native
  return gathered.count * STRIDE
}

/** A manager's side of the addon. */
class Calls {
  #native

  /** @param {import('../../binding').NativeManager} native */
  constructor(native) {
    this.#native = native
  }

  acquire(slot, strategy, names, request, waitMs) {
    const at = next(this.#native)
    const { records } = gathered
    records[at] = slot
    records[at + 1] = STRATEGIES[strategy]
    // No lease has this number.
    records[at + 2] = 0
    records[at + 4] = request.ttlMs
    records[at + 5] = request.minToken
    records[at + 6] = request.acks
    records[at + 7] = request.ackTimeoutMs
    records[at + 8] = waitMs
    records[at + 9] = request.fair ? 1 : 0
    records[at + 10] = request.maxHoldMs
    records[at + 11] = request.maxStallMs
    if (typeof names === 'string') {
      records[at + 3] = 1
      gathered.names.push(names)
    } else {
      records[at + 3] = names.length
      gathered.names.push(...names)
    }
    gathered.count++
    try {
      startLocal(strategy)
    } catch {
      // It goes with the others.
    }
  }

  release(slot, strategy, lease) {
    const at = next(this.#native)
    const { records } = gathered
    records[at] = slot
    records[at + 1] = STRATEGIES[strategy]
    records[at + 2] = lease
    gathered.count++
    try {
      startLocal(strategy)
    } catch {
      // It goes with the others.
    }
  }

  /** For every other call: what was called before comes before it. */
  get direct() {
    try {
      handOver()
    } catch {
      // Those whose calls these are are told when the turn ends, if it fails again.
    }
    return this.#native
  }
}

module.exports = { Calls, endTurn }
