/**
 * Counts how often a client waits for its server.
 */
import { once } from 'node:events'
import { connect, createServer } from 'node:net'

/** Replies are delayed by this much, so that whatever does not wait for them is sent before they arrive. */
const DELAY_MS = 10

/**
 * A way to a port of loopback, and how many round trips were made on it: how often something was sent after a
 * reply.
 *
 * @param {number} target
 */
export async function startCounter(target) {
  let delay = 0
  /**
   * By connection: a pool that makes more of them in the background waits for none.
   *
   * @type {{ trips: number }[]}
   */
  const links = []
  /** @type {Set<import('node:net').Socket>} */
  const sockets = new Set()
  const server = createServer((client) => {
    const remote = connect(target, '127.0.0.1')
    const link = { trips: 0 }
    let replied = true
    links.push(link)
    for (const socket of [client, remote]) {
      sockets.add(socket)
      socket.setNoDelay(true)
      socket.on('error', () => {})
      socket.on('close', () => (client.destroy(), remote.destroy()))
    }
    client.on('data', (data) => {
      if (replied) link.trips++
      replied = false
      remote.write(data)
    })
    remote.on('data', (data) => {
      setTimeout(() => {
        replied = true
        client.write(data)
      }, delay)
    })
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return {
    port: /** @type {import('node:net').AddressInfo} */ (server.address()).port,
    /** @param {() => unknown} work */
    async count(work) {
      // Warm-up, so that connections exist and statements are prepared.
      await work()
      await work()
      for (const link of links) link.trips = 0
      delay = DELAY_MS
      await work()
      delay = 0
      return Math.max(...links.map(({ trips }) => trips))
    },
    stop() {
      for (const socket of sockets) socket.destroy()
      server.close()
    },
  }
}
