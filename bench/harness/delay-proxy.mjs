/**
 * A process that puts Redis servers at a distance: whatever passes arrives later. `setTimeout` knows whole
 * milliseconds only, so the last millisecond before a piece is due is waited for in short steps.
 */
import { connect, createServer } from 'node:net'

/** @typedef {import('node:net').Socket} Socket */
/** @typedef {{ due: number, to: Socket, data: Buffer }} Piece */

/**
 * How a piece is delayed: always by `delayMs`, and by `jitterMs` at most on top. Pieces of one direction of a
 * connection stay in order.
 *
 * @typedef {{ delayMs: number, jitterMs: number }} Distance
 */

const STEP_MS = 0.1
const nothing = new Int32Array(new SharedArrayBuffer(4))

/** By the time at which they are due. @type {Piece[]} */
const pieces = []
let asleep = true
/** @type {NodeJS.Timeout | undefined} */
let timer

/** @param {Piece} piece */
function add(piece) {
  let at = pieces.length
  while (at > 0 && Number(pieces[at - 1]?.due) > piece.due) at--
  pieces.splice(at, 0, piece)
  if (!asleep || (timer && at > 0)) return
  clearTimeout(timer)
  wait()
}

function wait() {
  timer = undefined
  const left = (pieces[0]?.due ?? Infinity) - performance.now()
  asleep = left === Infinity || left > 2
  if (left === Infinity) return
  if (asleep) timer = setTimeout(wait, Math.floor(left - 1))
  else setImmediate(step)
}

/** Between two steps new pieces are read, so that they are not noticed late. */
function step() {
  const left = (pieces[0]?.due ?? Infinity) - performance.now()
  if (left > 0 && left < Infinity) Atomics.wait(nothing, 0, 0, Math.min(left, STEP_MS))
  const now = performance.now()
  let count = 0
  while (Number(pieces[count]?.due) <= now) count++
  for (const { to, data } of pieces.splice(0, count)) if (!to.destroyed) to.write(data)
  wait()
}

/** @param {Socket} from @param {Socket} to @param {Distance} distance */
function lead(from, to, { delayMs, jitterMs }) {
  let last = 0
  from.setNoDelay(true)
  from.on('data', (data) => {
    last = Math.max(last, performance.now() + delayMs + Math.random() * jitterMs)
    add({ due: last, to, data })
  })
  from.on('close', () => to.destroy()).on('error', () => to.destroy())
}

/**
 * Starts a proxy in front of each of these ports of 127.0.0.1.
 *
 * @param {number[]} targets
 * @param {Distance} distance in each direction
 * @returns {Promise<number[]>} their ports
 */
export function open(targets, distance) {
  return Promise.all(
    targets.map(
      (target) =>
        new Promise((resolve, reject) => {
          const server = createServer((client) => {
            const upstream = connect(target, '127.0.0.1')
            lead(client, upstream, distance)
            lead(upstream, client, distance)
          })
          server.once('error', reject).listen(0, '127.0.0.1', () => {
            const address = server.address()
            if (address && typeof address === 'object') resolve(address.port)
          })
        }),
    ),
  )
}
