import { RespClient } from '../../scripts/servers/resp.mjs'

/** @typedef {import('./index.mjs').Place} Place */
/** @typedef {import('./index.mjs').Subject} Subject */

/**
 * No lock: a round trip to a majority, which no quorum lock can beat.
 *
 * @param {Place} place
 * @returns {Promise<Subject>}
 */
export async function open({ nodes = [] }) {
  const clients = await Promise.all(
    nodes.map((url) => RespClient.connect({ host: '127.0.0.1', port: Number(new URL(url).port) })),
  )
  const majority = Math.floor(nodes.length / 2) + 1
  function ping() {
    return /** @type {Promise<void>} */ (
      new Promise((resolve, reject) => {
        let replies = 0
        const count = () => {
          if (++replies === majority) resolve()
        }
        for (const client of clients) client.cmd('PING').then(count, reject)
      })
    )
  }
  return {
    pair: ping,
    async hold() {
      await ping()
      return () => Promise.resolve()
    },
    close: () => {
      for (const client of clients) client.close()
    },
  }
}
