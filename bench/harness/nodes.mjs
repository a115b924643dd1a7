/**
 * Independent Redis servers, and proxies that put them at a distance.
 */
import { startNodes as startServers } from '../../scripts/servers/redis.mjs'
import { startRemote } from './remote.mjs'

/** @typedef {Awaited<ReturnType<typeof startNodes>>} Nodes */

/** How long a round trip takes longer through a proxy, on average; up to a tenth more or less. */
export const DISTANCE_MS = 5

/** The proxies run on this Node, whatever is measured. */
const runtime = {
  kind: /** @type {const} */ ('node'),
  label: '',
  version: '',
  path: process.execPath,
  env: {},
}

/**
 * @param {string} program
 * @param {number} count
 */
export async function startNodes(program, count) {
  const servers = await startServers(count, { program })
  const proxies = startRemote(runtime, import.meta.resolve('./delay-proxy.mjs'))
  const stop = async () => {
    await proxies.end()
    await Promise.all(servers.map((server) => server.kill()))
  }
  try {
    const distance = { delayMs: DISTANCE_MS * 0.45, jitterMs: DISTANCE_MS * 0.1 }
    /** @type {number[]} */
    const ports = await proxies.call(
      'open',
      servers.map(({ port }) => port),
      distance,
    )
    return {
      servers,
      near: servers.map(({ url }) => url),
      far: ports.map((port) => `redis://127.0.0.1:${port}`),
      stop,
    }
  } catch (error) {
    await stop()
    throw error
  }
}
