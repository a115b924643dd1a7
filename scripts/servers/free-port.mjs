import { createServer } from 'node:net'

/** The ports given out so far: servers that start together need different ones. @type {Set<number>} */
const given = new Set()

/**
 * Processes that run side by side take every eighth port, each its own: to the others, the port of a server
 * that is down for a while would be free. Ten thousand ports on, where old Redis Clusters have their bus, is
 * a port of the same process.
 */
const shares = 8
const share = Number(process.env.VITEST_POOL_ID ?? 0)
if (share >= shares) throw new Error(`ports for ${shares - 1} spec files at once: raise \`shares\``)

/**
 * A TCP port of 127.0.0.1 on which nothing listens, and which this process has not been given before.
 *
 * It lies outside the range from which the kernel takes the ports of outgoing connections, so that a server
 * can be restarted on its port later.
 *
 * @param {number} [wanted] is taken if it is free
 * @returns {Promise<number>}
 */
export async function freePort(wanted) {
  for (let port = wanted ?? randomPort(); ; port = randomPort()) {
    if (given.has(port)) continue
    given.add(port)
    if (await isFree(port)) return port
  }
}

function randomPort() {
  return 16_000 + shares * Math.floor(Math.random() * (16_000 / shares)) + share
}

/** @param {number} port @returns {Promise<boolean>} */
function isFree(port) {
  return new Promise((resolve) => {
    const server = createServer()
    server.once('error', () => resolve(false))
    server.listen(port, '127.0.0.1', () => server.close(() => resolve(true)))
  })
}
