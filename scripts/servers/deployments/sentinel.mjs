import { freePort } from '../free-port.mjs'
import { launcher } from '../processes.mjs'
import { redisProgram, RedisServer } from '../redis.mjs'
import { eventually } from '../wait.mjs'
/**
 * A primary, its replicas and the Sentinels that watch them, as real processes on free ports of 127.0.0.1.
 */
import { FailoverTimeline } from './failover-timeline.mjs'
import { Keeper, keeperFor } from './keeper.mjs'
import { SentinelProcess } from './sentinel-process.mjs'

/** @typedef {import('../processes.mjs').Launcher} Launcher */
/** @typedef {import('../redis-process.mjs').TlsFiles} TlsFiles */
/** @typedef {import('./sentinel-process.mjs').SentinelOptions} SentinelOptions */
/** @typedef {import('./sentinel-process.mjs').Watch} Watch */

/**
 * @typedef {object} SentinelDeploymentOptions
 * @property {string} [program] of all servers; default Redis as `FENCELOCK_REDIS_SERVER` names it
 * @property {number} [replicas] default 2
 * @property {number} [sentinels] default 3
 * @property {string} [name] of the group, default `locks`
 * @property {number} [quorum] default the majority of the Sentinels
 * @property {number} [downAfterMs] default 1000
 * @property {number} [failoverTimeoutMs] default 10_000
 * @property {boolean} [appendonly] the data servers keep what they have when they are restarted
 * @property {TlsFiles} [tls] all servers listen with TLS, too, announce that port, and talk to each other so
 * @property {string} [hostname] all servers announce it in place of 127.0.0.1, for example `localhost`
 * @property {{ password?: string, users?: string[], config?: string[] }} [data] of the data servers: see
 *   `startRedis`
 * @property {{ password?: string, users?: string[], config?: string[] }} [watchers] of the Sentinels
 */

/** How many milliseconds a failover may take, with all pauses that the products make. */
const failoverLimitMs = 30_000

/** Made by {@link startSentinel}. */
export class SentinelDeployment {
  /** The group's name at the Sentinels. @type {string} */
  name
  /** The data servers; the first one was the primary at the start. @type {RedisServer[]} */
  servers
  /** @type {SentinelProcess[]} */
  sentinels
  #host

  /** @param {{ name: string, servers: RedisServer[], sentinels: SentinelProcess[], host: string }} parts */
  constructor({ name, servers, sentinels, host }) {
    this.name = name
    this.servers = servers
    this.sentinels = sentinels
    this.#host = host
  }

  /** The URLs of the Sentinels; those for TLS if they have a port for it. */
  get sentinelUrls() {
    return this.sentinels.map((each) => (each.tlsPort === undefined ? each.url : each.tlsUrl))
  }

  /** The address that Sentinels tell for a server. @param {RedisServer} server */
  addressOf(server) {
    return `${this.#host}:${server.tlsPort ?? server.port}`
  }

  /** The server at an address that a Sentinel told. @param {string | undefined} address */
  serverAt(address) {
    return this.servers.find((server) => this.addressOf(server) === address)
  }

  /** The servers that call themselves a primary; during a failover these may be none or two. */
  async primaries() {
    const serving = this.servers.filter((server) => server.serving)
    const roles = await Promise.all(
      serving.map((server) => server.cmd('ROLE').then((role) => Array.isArray(role) && role[0] === 'master')),
    )
    return serving.filter((_, index) => roles[index])
  }

  /** The one server that calls itself a primary: waits until there is only one. */
  async primary() {
    const [primary] = await eventually(
      'there is one primary',
      async () => {
        const found = await this.primaries().catch(() => [])
        return found.length === 1 ? found : undefined
      },
      failoverLimitMs,
    )
    if (primary === undefined) throw new Error('unreachable')
    return primary
  }

  /** The servers that are not this one. @param {RedisServer} primary */
  replicasOf(primary) {
    return this.servers.filter((server) => server !== primary)
  }

  /**
   * Waits until all Sentinels that serve tell the same primary, and it calls itself one. Returns it.
   *
   * @param {(primary: RedisServer) => boolean} [expected] further condition, for example that it is a new one
   */
  async agree(expected = () => true) {
    return eventually(
      'the Sentinels agree',
      async () => {
        const serving = this.sentinels.filter((sentinel) => sentinel.serving)
        const told = await Promise.all(serving.map((each) => each.tells(this.name)))
        const primary = this.serverAt(told[0])
        if (primary === undefined || !primary.serving || !expected(primary)) return undefined
        if (new Set(told).size !== 1) return undefined
        const role = await primary.cmd('ROLE')
        return Array.isArray(role) && role[0] === 'master' ? primary : undefined
      },
      failoverLimitMs,
    )
  }

  /**
   * Waits until every Sentinel that serves can fail over: enough others, and replicas in a good state. After
   * a failover this takes ten seconds or more, because Sentinels look at replicas that rarely.
   */
  async ready() {
    const primary = await this.agree()
    const replicas = this.replicasOf(primary).filter((server) => server.serving).length
    const isReady = async () => {
      const serving = this.sentinels.filter((sentinel) => sentinel.serving)
      const states = await Promise.all(serving.map((sentinel) => this.#isReady(sentinel, replicas)))
      return states.every(Boolean)
    }
    await eventually('the Sentinels are ready to fail over', isReady, failoverLimitMs)
  }

  /** @param {SentinelProcess} sentinel @param {number} replicas */
  async #isReady(sentinel, replicas) {
    const { flags } = await sentinel.master(this.name)
    const good = (await sentinel.replicas(this.name)).filter(
      (each) => each.flags === 'slave' && each['master-link-status'] === 'ok',
    )
    // CKQUORUM counts those to which there is no connection yet, too. Valkey keeps `master_down`, a vote
    // about the primary before, as long as the new one is up.
    const connected = (await sentinel.others(this.name)).filter(
      (each) => !/\b(s_down|disconnected)\b/.test(each.flags ?? ''),
    )
    const others = this.sentinels.filter((each) => each.serving && each !== sentinel).length
    return flags === 'master' && good.length >= replicas && connected.length >= others
  }

  /**
   * Has a Sentinel begin a planned failover, and returns at once.
   *
   * @param {{ by?: SentinelProcess, coordinated?: boolean }} [options] `coordinated` hands the role over
   *   without two primaries, which Valkey 9 can
   */
  async failOver({ by = this.sentinels.find((each) => each.serving), coordinated = false } = {}) {
    if (by === undefined) throw new Error('no Sentinel serves')
    await by.cmd('SENTINEL', 'FAILOVER', this.name, ...(coordinated ? ['COORDINATED'] : []))
  }

  /**
   * Observes the next failover away from this primary: when the first Sentinel tells the new one, when a
   * replica is online there. Begin it before the fault.
   *
   * @param {RedisServer} [from] default: the present primary
   * @returns {Promise<FailoverTimeline>}
   */
  async watch(from) {
    return FailoverTimeline.begin(this, from ?? (await this.primary()))
  }

  /** Kills all processes. */
  async stop() {
    await Promise.all([...this.sentinels, ...this.servers].map((each) => each.kill()))
  }
}

/**
 * Starts a deployment that is ready to fail over.
 *
 * @param {SentinelDeploymentOptions} [options]
 * @param {Launcher} [start]
 * @returns {Promise<SentinelDeployment>}
 */
export async function startSentinel(options = {}, start = launcher) {
  const { program = redisProgram, replicas = 2, sentinels: count = 3, name = 'locks', hostname } = options
  const host = hostname ?? '127.0.0.1'
  const keeper = keeperFor(options.data ?? {})
  const servers = await startServers({ ...options, program, replicas }, keeper, start)
  const addresses = servers.map(({ port, tlsPort }) => `${host} ${tlsPort ?? port}`)
  const watch = {
    name,
    address: addresses[0] ?? '',
    replicas: addresses.slice(1),
    quorum: options.quorum ?? Math.floor(count / 2) + 1,
    downAfterMs: options.downAfterMs ?? 1000,
    failoverTimeoutMs: options.failoverTimeoutMs ?? 10_000,
    dataLogin: keeper,
  }
  const { tls, watchers } = options
  const login = new Keeper()
  const sentinels = await Promise.all(
    Array.from({ length: count }, async () => {
      const place = { port: await freePort(), tlsPort: tls && (await freePort()), folder: start.makeFolder() }
      return new SentinelProcess(place, { program, tls, hostname, ...watchers }, login, start)
    }),
  )
  await Promise.all(
    sentinels.map((each) =>
      each.begin(
        watch,
        sentinels.filter((other) => other !== each),
      ),
    ),
  )
  const deployment = new SentinelDeployment({ name, servers, sentinels, host })
  await deployment.ready()
  return deployment
}

/**
 * The data servers, the primary first.
 *
 * @param {SentinelDeploymentOptions & { program: string, replicas: number }} options
 * @param {Keeper | undefined} keeper
 * @param {Launcher} start
 */
async function startServers({ program, replicas: count, data = {}, ...options }, keeper, start) {
  const { appendonly = false, hostname, tls } = options
  const config = [
    ...(appendonly ? ['appendonly yes', 'appendfsync everysec'] : []),
    ...(hostname === undefined ? [] : [`replica-announce-ip ${hostname}`]),
    ...(tls ? ['tls-replication yes'] : []),
    ...(keeper?.replicaLines ?? []),
    ...(data.config ?? []),
  ]
  const users = keeper && [keeper.rule, ...(data.users ?? [])]
  const each = { program, tls, password: data.password, users, config, keepConfig: true }
  const servers = await Promise.all(
    Array.from({ length: 1 + count }, async () => {
      const place = { port: await freePort(), tlsPort: tls && (await freePort()), folder: start.makeFolder() }
      return new RedisServer(place, each, start)
    }),
  )
  const [primary, ...replicas] = servers
  if (primary === undefined) throw new Error('unreachable')
  const address = { host: hostname ?? '127.0.0.1', port: primary.tlsPort ?? primary.port }
  // In the configuration from the beginning: a command after the start would be lost when one restarts.
  for (const replica of replicas) replica.primary = address
  await Promise.all(servers.map((server) => server.start()))
  await primary.waitForReplicas(count)
  if (appendonly) await Promise.all(servers.map((server) => server.waitForAppendOnlyFile()))
  return servers
}
