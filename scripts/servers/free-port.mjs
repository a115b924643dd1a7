import { createServer } from 'node:net'

/**
 * A TCP port of 127.0.0.1 on which nothing listens.
 *
 * It lies outside the range from which the kernel takes the ports of outgoing connections, so that a server
 * can be restarted on its port later.
 *
 * @returns {Promise<number>}
 */
export async function freePort() {
  for (;;) {
    const port = 16_000 + Math.floor(Math.random() * 16_000)
    if (await isFree(port)) return port
  }
}

/** @param {number} port @returns {Promise<boolean>} */
function isFree(port) {
  return new Promise((resolve) => {
    const server = createServer()
    server.once('error', () => resolve(false))
    server.listen(port, '127.0.0.1', () => server.close(() => resolve(true)))
  })
}
