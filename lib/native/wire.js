'use strict'

/** The records that JavaScript and the addon exchange: arrays of doubles. */

/** A call: its stride, and the places of its fields. */
const call = {
  stride: 12,
  slot: 0,
  strategy: 1,
  lease: 2,
  names: 3,
  ttlMs: 4,
  minToken: 5,
  acks: 6,
  ackTimeoutMs: 7,
  waitMs: 8,
  fair: 9,
  maxHoldMs: 10,
  maxStallMs: 11,
}

/** A completion. */
const completion = { stride: 8, slot: 0, kind: 1, value: 2 }

/** The kinds of completions. */
const kind = { granted: 0, busy: 1, value: 2, failed: 3, detail: 4, ends: 5, late: 6, nothing: 7 }

/** The numbers of a grant. */
const grant = { stride: 6, lease: 0, token: 1, received: 2, ownerHigh: 3, ownerMiddle: 4, ownerLow: 5 }

/** The numbers of the strategies. */
const strategy = { strong: 0, local: 1 }

module.exports = { call, completion, grant, kind, strategy }
