/**
 * When the steps of a failover happen, as the servers and Sentinels themselves report them.
 */
import { setTimeout as sleep } from 'node:timers/promises'

import { eventually } from '../wait.mjs'

/** @typedef {import('../redis.mjs').RedisServer} RedisServer */
/** @typedef {import('../redis-process.mjs').RedisProcess} RedisProcess */
/** @typedef {import('../resp.mjs').Reply} Reply */
/** @typedef {import('../resp.mjs').RespClient} RespClient */
/** @typedef {import('./sentinel.mjs').SentinelDeployment} SentinelDeployment */

/**
 * The steps: another server calls itself the primary (`promoted`); the first Sentinel tells its address
 * (`told`), all that serve do (`agreed`); the new primary has a replica that is online (`online`); a replica
 * says that its link to the new primary is up (`linked`); the old primary says that it is a replica
 * (`demoted`).
 *
 * A primary calls a replica online as soon as it has sent its data. Before the replica has loaded them, which
 * takes up to a second on Valkey even if there are few, it acknowledges nothing.
 *
 * @typedef {'promoted' | 'told' | 'agreed' | 'online' | 'linked' | 'demoted'} Step
 */

const limitMs = 30_000

/** Asks each process every few milliseconds over a connection of its own, until {@link stop}. */
export class FailoverTimeline {
  /** The instants of the steps, by `performance.now()`. @type {Partial<Record<Step, number>>} */
  times = {}
  /** The server that was promoted. @type {RedisServer | undefined} */
  to
  #deployment
  #from
  /** What each Sentinel told last. @type {Map<RedisProcess, string | undefined>} */
  #told = new Map()
  #ended = false
  /** @type {Map<RedisProcess, RespClient>} */
  #clients = new Map()

  /**
   * @param {SentinelDeployment} deployment
   * @param {RedisServer} from
   */
  constructor(deployment, from) {
    this.#deployment = deployment
    this.#from = from
  }

  /**
   * Returns when each process that serves has replied once.
   *
   * @param {SentinelDeployment} deployment
   * @param {RedisServer} from the primary before the failover
   */
  static async begin(deployment, from) {
    const timeline = new FailoverTimeline(deployment, from)
    const { name, servers, sentinels } = deployment
    /** @type {Set<RedisProcess>} */
    const seen = new Set()
    for (const server of servers) {
      const take = (/** @type {Reply} */ role) => {
        seen.add(server)
        timeline.#takeRole(server, role)
      }
      void timeline.#observe(server, ['ROLE'], take)
    }
    for (const sentinel of sentinels) {
      const take = (/** @type {Reply} */ address) => {
        seen.add(sentinel)
        timeline.#takeAddress(sentinel, Array.isArray(address) ? address.join(':') : undefined)
      }
      const question = ['SENTINEL', 'GET-MASTER-ADDR-BY-NAME', name]
      void timeline.#observe(sentinel, question, take)
    }
    await eventually('all processes reply', () =>
      [...servers, ...sentinels].every((each) => seen.has(each) || !each.serving),
    )
    return timeline
  }

  /** Waits until a step has happened, and returns its instant by `performance.now()`. @param {Step} step */
  async until(step) {
    return eventually(`the failover comes to: ${step}`, () => this.times[step], limitMs)
  }

  /** Ends the observation. */
  stop() {
    this.#ended = true
    // Questions without a reply end, too.
    for (const client of this.#clients.values()) client.close()
  }

  /** @param {RedisProcess} process @param {string[]} question @param {(reply: Reply) => void} take */
  async #observe(process, question, take) {
    for (; !this.#ended; await sleep(5)) {
      if (!process.serving) continue
      try {
        const client = this.#clients.get(process) ?? (await process.connect())
        this.#clients.set(process, client)
        // A process that is paused now replies after its pause.
        take(await client.cmd(...question))
      } catch {
        this.#clients.get(process)?.close()
        this.#clients.delete(process)
      }
    }
    this.#clients.get(process)?.close()
  }

  /** @param {Step} step */
  #mark(step) {
    this.times[step] ??= performance.now()
  }

  /** @param {RedisServer} server @param {Reply} role */
  #takeRole(server, role) {
    if (!Array.isArray(role)) return
    const primary = role[0] === 'master'
    if (server === this.#from && !primary && this.times.promoted !== undefined) this.#mark('demoted')
    const follows =
      this.to !== undefined && role.slice(1, 3).join(':') === this.#deployment.addressOf(this.to)
    if (!primary && follows && role[3] === 'connected') this.#mark('linked')
    if (!primary || server === this.#from) return
    this.to ??= server
    if (server !== this.to) return
    this.#mark('promoted')
    // ROLE names the replicas that are online.
    if (Array.isArray(role[2]) && role[2].length > 0) this.#mark('online')
  }

  /** @param {RedisProcess} sentinel @param {string | undefined} address */
  #takeAddress(sentinel, address) {
    this.#told.set(sentinel, address)
    const old = this.#deployment.addressOf(this.#from)
    if (address === undefined || address === old) return
    this.#mark('told')
    const serving = this.#deployment.sentinels.filter((each) => each.serving)
    if (serving.every((each) => this.#told.get(each) === address)) this.#mark('agreed')
  }
}
