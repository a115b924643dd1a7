/**
 * A primary with two replicas, at a distance from its clients and its replicas. The distance is adjusted
 * until a PING takes the round trip that is wanted, because waking a process takes time, too.
 */
import { startPrimary } from '../../../scripts/servers/redis.mjs'
import { RespClient } from '../../../scripts/servers/resp.mjs'
import { summary } from '../../harness/stats.mjs'
import { ACK_TIMEOUT_MS, REPLICAS } from '../../subjects/conditions.mjs'
import { compileDelayProxy, startDelayProxy } from './delay-proxy.mjs'

/** @typedef {import('./delay-proxy.mjs').Late} Late */
/** @typedef {Awaited<ReturnType<typeof startFar>>} Far */

/**
 * @typedef {object} Accuracy milliseconds
 * @property {number} roundTrip that was wanted; 0: loopback
 * @property {number} delay of one direction of the proxy
 * @property {{ p50: number, p99: number }} ping of a client of JavaScript, one after the other
 * @property {{ p50: number, p99: number }} wait SET and WAIT sent together: two round trips, if the replicas
 *   are at the same distance
 */

const CALIBRATIONS = 4
/** How long PINGs are sent for one of them, and how many at least. */
const CALIBRATION = { ms: 120, times: 100 }
const MEASURE = { ms: 400, times: 300 }
/** More than this, in one direction, is other work on the machine, not what waking a process takes. */
const MOST_FOR_WAKING_MS = 0.1

/**
 * @param {string} program of the servers
 * @param {string} folder
 */
export async function startFar(program, folder) {
  const compiled = await compileDelayProxy(folder)
  /** One for both replicas. @type {Promise<import('./delay-proxy.mjs').DelayProxy> | undefined} */
  let proxy
  const route = (/** @type {{ port: number }} */ { port }) => (proxy ??= startDelayProxy(compiled, port))
  const { primary, replicas, stop } = await startPrimary({ program, replicas: REPLICAS, route })
  const distant = await route(primary)
  return {
    url: `redis://127.0.0.1:${distant.port}`,
    port: distant.port,
    realTime: distant.realTime,
    late: () => distant.late(),
    pids: [primary, ...replicas].map(({ pid }) => Number(pid)),
    /** @param {number} roundTrip in milliseconds @returns {Promise<number>} the delay of one direction */
    async setRoundTrip(roundTrip) {
      let delay = roundTrip / 2
      for (let step = 0; step < CALIBRATIONS; step++) {
        await distant.setDelay(delay)
        const { p50 } = summary(await repeat(distant.port, CALIBRATION, ping))
        const waking = roundTrip / 2 - (delay - (p50 - roundTrip) / 2)
        delay = roundTrip / 2 - Math.min(Math.max(waking, 0), MOST_FOR_WAKING_MS, roundTrip / 2)
      }
      await distant.setDelay(delay)
      return delay
    },
    async stop() {
      await distant.stop()
      await stop()
    },
  }
}

/** @param {number} port @returns {Promise<Pick<Accuracy, 'ping' | 'wait'>>} */
export async function measureAccuracy(port) {
  const pings = summary(await repeat(port, MEASURE, ping))
  const waits = summary(await repeat(port, MEASURE, setAndWait))
  return { ping: { p50: pings.p50, p99: pings.p99 }, wait: { p50: waits.p50, p99: waits.p99 } }
}

/** @param {RespClient} client */
function ping(client) {
  return client.cmd('PING')
}

/** @param {RespClient} client */
function setAndWait(client) {
  return Promise.all([client.cmd('SET', 'accuracy', '1'), client.cmd('WAIT', 1, ACK_TIMEOUT_MS)])
}

/**
 * How long something takes, one after the other.
 *
 * @param {number} port
 * @param {{ ms: number, times: number }} least for how long, and how often
 * @param {(client: RespClient) => Promise<unknown>} work
 * @returns {Promise<number[]>} milliseconds
 */
async function repeat(port, { ms, times: least }, work) {
  const client = await RespClient.connect({ host: '127.0.0.1', port })
  try {
    const times = []
    for (const end = performance.now() + ms; performance.now() < end || times.length < least;) {
      const begin = performance.now()
      await work(client)
      times.push(performance.now() - begin)
    }
    return times
  } finally {
    client.close()
  }
}
