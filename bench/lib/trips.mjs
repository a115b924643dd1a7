/**
 * Counts how often a client waits for its server.
 */
import { once } from 'node:events'
import { connect, createServer } from 'node:net'

/** Answers are late by so much, so that what does not wait for them is on its way before they come. */
const DELAY_MS = 10

/**
 * A way to a port of loopback, and how many round trips were made on it: how often something was sent after an answer.
 *
 * @param {number} target
 */
export async function startCounter(target) {
  let delay = 0
  /** By connection: a pool that makes more of them in the background waits for none. @type {{ trips: number }[]} */
  const links = []
  /** @type {Set<import('node:net').Socket>} */
  const sockets = new Set()
  const server = createServer((client) => {
    const remote = connect(target, '127.0.0.1')
    const link = { trips: 0 }
    let answered = true
    links.push(link)
    for (const socket of [client, remote]) {
      sockets.add(socket)
      socket.setNoDelay(true)
      socket.on('error', () => {})
      socket.on('close', () => (client.destroy(), remote.destroy()))
    }
    client.on('data', (data) => {
      if (answered) link.trips++
      answered = false
      remote.write(data)
    })
    remote.on('data', (data) => {
      setTimeout(() => {
        answered = true
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
      // Before, so that connections stand and statements are known.
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
