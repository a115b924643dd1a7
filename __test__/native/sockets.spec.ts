/** How the event loop reads a socket for the addon, and reports its end: here a pipe, which has two ends. */
import { execFileSync } from 'node:child_process'
import { closeSync, constants, fstatSync, openSync, writeSync } from 'node:fs'
import { createRequire } from 'node:module'
import { Socket } from 'node:net'
import { join } from 'node:path'
import { describe, expect, it, onTestFinished } from 'vitest'

import { onBun } from '../fixtures/processes/runtimes'
import { eventually, tempDir } from '../fixtures/temp'

interface Reader {
  begin: (socket: number) => void
  read: (socket: number, bytes: Uint8Array, count: number) => void
  end: (socket: number, why: string, isLocal: boolean) => void
}
type ReadSocket = (number: number, fd: number, reader: WeakRef<Reader>) => void

const { canRead, readSocket } = createRequire(import.meta.url)('../../lib/native/sockets.js') as {
  canRead: boolean
  readSocket: ReadSocket
}

describe.skipIf(onBun || !canRead)('a socket that the event loop reads', () => {
  /** What happens to a reader of a pipe into which one word is written, and which then ends. */
  const read = async (onEnd: () => void = () => undefined): Promise<{ fd: number; seen: string[] }> => {
    const path = join(tempDir(), 'pipe')
    execFileSync('mkfifo', [path])
    const fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK)
    const writer = openSync(path, 'w')
    const seen: string[] = []
    const reader: Reader = {
      begin: () => seen.push('begin'),
      read: (_socket, bytes, count) => seen.push(Buffer.from(bytes.subarray(0, count)).toString()),
      end: (_socket, why) => {
        seen.push(why)
        onEnd()
      },
    }
    onTestFinished(() => void reader)
    readSocket(1, fd, new WeakRef(reader))
    writeSync(writer, 'word')
    await eventually('it is read', () => seen.includes('word'))
    closeSync(writer)
    await eventually('its end is reported', () => seen.length > 2)
    await eventually('it is closed', () => isClosed(fd))
    return { fd, seen }
  }

  const isClosed = (fd: number): boolean => {
    try {
      fstatSync(fd)
      return false
    } catch {
      return true
    }
  }

  const ALL_SEEN = ['begin', 'word', 'the server closed the connection']

  it('reports its end once', async () => {
    const { seen } = await read()
    await new Promise(setImmediate)
    expect(seen).toEqual(ALL_SEEN)
  })

  it('reports its end even if Node.js calls none of the methods that are replaced', async () => {
    for (const name of ['_destroy', 'push'] as const) {
      const method: unknown = Reflect.get(Socket.prototype, name)
      const inherited = Object.getOwnPropertyDescriptor(Socket.prototype, name)
      Object.defineProperty(Socket.prototype, name, {
        configurable: true,
        get: () => method,
        set() {},
      })
      onTestFinished(() => {
        if (inherited === undefined) Reflect.deleteProperty(Socket.prototype, name)
        else Object.defineProperty(Socket.prototype, name, inherited)
      })
    }
    const { seen } = await read()
    expect(seen).toEqual(ALL_SEEN)
  })

  it('is closed even if reporting its end throws', async () => {
    const { seen } = await read(() => {
      throw new Error('the reader fails')
    })
    expect(seen).toEqual(ALL_SEEN)
  })
})
