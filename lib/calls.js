'use strict'

/**
 * Calls on their way to the addon. Those that are many, acquires and releases, go over some at a time, because a step
 * into native code costs more than what it does for one of them. The counterpart is src/js/calls.rs.
 */

const { STRATEGIES } = require('./options.js')

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
  const { native, count, records, names } = gathered
  if (count === 0) return
  native.call(count, records, names)
  forget()
}

function forget() {
  gathered.native = undefined
  gathered.count = 0
  gathered.names = []
}

/** Gives up what was gathered, and answers its slots. */
function giveUp() {
  const slots = Array.from({ length: gathered.count }, (_, index) => gathered.records[index * STRIDE])
  forget()
  return slots
}

/** Room for one more call. */
function next(native) {
  if (gathered.count === MOST || gathered.native !== native) handOver()
  gathered.native = native
  return gathered.count * STRIDE
}

/** A manager's side of the addon. */
class Calls {
  #native

  /** @param {import('../binding').NativeManager} native */
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
  }

  release(slot, strategy, lease) {
    const at = next(this.#native)
    const { records } = gathered
    records[at] = slot
    records[at + 1] = STRATEGIES[strategy]
    records[at + 2] = lease
    gathered.count++
  }

  /** For every other call: what was called before comes before it. */
  get direct() {
    handOver()
    return this.#native
  }
}

module.exports = { Calls, giveUp, handOver }
