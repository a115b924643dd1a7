'use strict'

/**
 * Reads the sockets of calls that are made one after another, on the event loop of their caller: their
 * replies need no other thread.
 *
 * Requires nothing of this library: a socket that is read lives as long as its connection, and would keep a
 * copy of lib/ from being collected that nothing else uses.
 */

/** Replies are small. */
const CAPACITY = 16 * 1024

/** Whether sockets can be read here. Windows opens none by number; Bun and Deno read nothing. */
const canRead =
  process.platform !== 'win32' && process.versions.bun === undefined && process.versions.deno === undefined

/**
 * Loaded only where it is used: on Bun that takes a third of what loading this library takes. And not as late
 * as a socket comes: what tests put in the place of modules must not keep calls from ending.
 */
const { Socket } = /** @type {typeof import('node:net')} */ (
  canRead ? (process.getBuiltinModule?.('node:net') ?? require('node:net')) : {}
)

/**
 * @typedef {object} Reader what reads a socket; must not throw
 * @property {(socket: number) => void} begin
 * @property {(socket: number, bytes: Uint8Array, count: number) => void} read
 * @property {(socket: number, why: string, isLocal: boolean) => void} end why no more comes
 */

/**
 * Reads a socket until it ends or the reader was collected, and then closes it. It does not keep the process
 * alive.
 * @param {number} number the addon's, of the socket
 * @param {number} fd
 * @param {WeakRef<Reader>} reader
 */
function readSocket(number, fd, reader) {
  const buffer = new Uint8Array(CAPACITY)
  /** @type {InstanceType<typeof Socket>} */
  let socket
  /** @type {import('node:net').SocketConstructorOpts & import('node:net').ConnectOpts} */
  const options = {
    fd,
    readable: true,
    writable: false,
    onread: {
      buffer,
      callback(count) {
        const current = reader.deref()
        if (current === undefined) return (socket.destroy(), false)
        current.read(number, buffer, count)
        return true
      },
    },
  }
  try {
    socket = new Socket(options)
  } catch (error) {
    // It is still the addon's.
    reader.deref()?.end(number, `this runtime cannot read the socket: ${String(error)}`, true)
    return
  }
  reader.deref()?.begin(number)
  try {
    socket.unref()
    onceEnded(socket, (error) => {
      const why = error === null ? 'the server closed the connection' : `cannot read: ${error.message}`
      reader.deref()?.end(number, why, false)
    })
  } catch (error) {
    // A test may have put a class of its own in the place of Node's.
    reader.deref()?.end(number, `this runtime cannot read the socket: ${String(error)}`, true)
  }
}

/**
 * Closes a socket once it has ended, and reports that once. Node's events alone would not do: they come
 * through process.nextTick, which tests replace, and then a call would wait for its time limit. So two of the
 * socket's own methods are replaced that Node calls directly. The event is only a second way.
 * @param {InstanceType<typeof Socket>} socket
 * @param {(error: Error | null) => void} report
 */
function onceEnded(socket, report) {
  let isReported = false
  /** @param {Error | null} error */
  const reportOnce = (error) => {
    if (isReported) return
    isReported = true
    report(error)
  }
  // The error is reported with the end.
  socket.on('error', () => {})
  if (socket.destroyed) return reportOnce(socket.errored)
  socket.once('close', () => reportOnce(socket.errored))
  const { _destroy: destroy } = socket
  // oxlint-disable-next-line no-underscore-dangle -- Node's name for it.
  socket._destroy = (error, done) => {
    try {
      reportOnce(error)
    } finally {
      destroy.call(socket, error, done)
    }
  }
  // Node pushes only the end of what is read: the bytes go to `onread`.
  socket.push = () => {
    socket.destroy()
    return false
  }
}

module.exports = { canRead, readSocket }
