import { freePort } from '../free-port.mjs'
import { launcher } from '../processes.mjs'
import { parseInfo } from '../redis-process.mjs'
import { redisProgram, RedisServer, versionOf } from '../redis.mjs'
import { eventually } from '../wait.mjs'
/**
 * A cluster of Redis or Valkey, as real processes on free ports of 127.0.0.1.
 */
import { contains, parseNodes, slotCount, slotOf } from './cluster-map.mjs'
import { keeperFor } from './keeper.mjs'
import { SlotMigration } from './slot-migration.mjs'

/** @typedef {import('./cluster-map.mjs').NodeLine} NodeLine */
/** @typedef {import('./keeper.mjs').Keeper} Keeper */
/** @typedef {import('../processes.mjs').Launcher} Launcher */
/** @typedef {import('../redis-process.mjs').Place} Place */
/** @typedef {import('../redis-process.mjs').TlsFiles} TlsFiles */

/**
 * @typedef {object} ClusterOptions
 * @property {string} [program] default Redis as `FENCELOCK_REDIS_SERVER` names it
 * @property {number} [primaries] default 3
 * @property {number} [replicas] in all, default one for each primary
 * @property {number} [nodeTimeoutMs] default 2000
 * @property {boolean} [appendonly] nodes keep what they have when they are restarted
 * @property {string} [password] of the default user
 * @property {string[]} [users] see `startRedis`
 * @property {TlsFiles} [tls] nodes listen with TLS, too, announce that port, and talk to each other so
 * @property {string} [hostname] that nodes announce in place of their IP address (Redis 7); with
 *   `endpoint: 'unknown-endpoint'` they announce neither
 * @property {'ip' | 'hostname' | 'unknown-endpoint'} [endpoint] default `hostname` if there is one
 * @property {string[]} [config] further lines
 */

const limitMs = 30_000

/** A node of a cluster. Made by {@link startRedisCluster}. */
export class ClusterNode extends RedisServer {
  /** Its name in the cluster, for life. */
  id = ''

  /** The port that it announces: that for TLS, if it has one. */
  get announcedPort() {
    return this.tlsPort ?? this.port
  }

  /** What it reports about all nodes; `myself` is about it. */
  async nodes() {
    return parseNodes(await this.cmd('CLUSTER', 'NODES'))
  }

  /** What it reports about itself. @returns {Promise<NodeLine>} */
  async self() {
    const own = (await this.nodes()).find((line) => line.myself)
    if (own === undefined) throw new Error('a node that does not know itself')
    return own
  }

  /** The fields of CLUSTER INFO. */
  async clusterInfo() {
    return parseInfo(await this.cmd('CLUSTER', 'INFO'))
  }
}

/** Made by {@link startRedisCluster}. */
export class RedisCluster {
  /** All nodes; those that were primaries at the start are the first. @type {ClusterNode[]} */
  nodes
  #keeper
  #placeOf

  /**
   * @param {ClusterNode[]} nodes
   * @param {Keeper | undefined} keeper
   * @param {() => Promise<Omit<Place, 'folder'>>} placeOf new ports for a node
   */
  constructor(nodes, keeper, placeOf) {
    this.nodes = nodes
    this.#keeper = keeper
    this.#placeOf = placeOf
  }

  /** The nodes that run and are not paused. */
  get serving() {
    return this.nodes.filter((node) => node.serving)
  }

  /** The URLs of all nodes; those for TLS if they have a port for it. */
  get urls() {
    return this.nodes.map((node) => (node.tlsPort === undefined ? node.url : node.tlsUrl))
  }

  /**
   * What each node that serves says about itself.
   *
   * @returns {Promise<(NodeLine & { node: ClusterNode })[]>}
   */
  async claims() {
    return Promise.all(this.serving.map(async (node) => ({ node, ...(await node.self()) })))
  }

  /** The nodes that call themselves primaries and have slots. */
  async primaries() {
    const claims = await this.claims()
    return claims.filter(({ role, slots }) => role === 'primary' && slots.length > 0).map(({ node }) => node)
  }

  /** The nodes that call themselves replicas of this one. @param {ClusterNode} primary */
  async replicasOf(primary) {
    return (await this.claims()).filter(({ primaryId }) => primaryId === primary.id).map(({ node }) => node)
  }

  /**
   * The node that has a slot, or that of a key, as the nodes themselves say; waits until there is one.
   *
   * @param {number | string} slotOrKey
   */
  async ownerOf(slotOrKey) {
    const slot = typeof slotOrKey === 'number' ? slotOrKey : slotOf(slotOrKey)
    const find = async () => {
      const claims = await this.claims()
      const owners = claims.filter(({ role, slots }) => role === 'primary' && contains(slots, slot))
      return owners.toSorted((a, b) => b.epoch - a.epoch)[0]?.node
    }
    return eventually(`slot ${slot} has an owner`, find, limitMs)
  }

  /**
   * Waits until all nodes that serve are content with the cluster, agree on the slots' owners, and replicas
   * are in sync.
   */
  async ready() {
    await eventually('the cluster is ready', () => this.#isReady().catch(() => false), limitMs)
  }

  async #isReady() {
    const { serving } = this
    const infos = await Promise.all(serving.map((node) => node.clusterInfo()))
    if (infos.some(({ cluster_state: state }) => state !== 'ok')) return false
    const views = await Promise.all(serving.map(async (node) => mapOf(await node.nodes(), serving)))
    if (views.includes(undefined) || new Set(views).size !== 1) return false
    const links = await Promise.all(serving.map((node) => node.info('replication')))
    return links.every(({ role, master_link_status: link }) => role === 'master' || link === 'up')
  }

  /**
   * Makes a primary of a replica, and waits until it is one.
   *
   * @param {ClusterNode} replica
   * @param {'FORCE' | 'TAKEOVER'} [how] by default the primary, which must serve, hands over
   */
  async failOver(replica, how) {
    await replica.cmd('CLUSTER', 'FAILOVER', ...(how ? [how] : []))
    await eventually('the replica is a primary', async () => (await replica.self()).role === 'primary')
  }

  /** Kills a node and starts it on other ports; the other nodes learn them. @param {ClusterNode} node */
  async restartElsewhere(node) {
    const { port, tlsPort } = await this.#placeOf()
    node.tlsPort = tlsPort
    await node.restart(port)
  }

  /** A move of a slot key by key, which the caller leads. @param {number} slot @param {ClusterNode} target */
  async migrate(slot, target) {
    const source = await this.ownerOf(slot)
    const others = (await this.primaries()).filter((node) => node !== source && node !== target)
    return new SlotMigration({ slot, source, target, others }, this.#keeper)
  }

  /** Moves a slot key by key, all steps at once. @param {number} slot @param {ClusterNode} target */
  async moveSlot(slot, target) {
    const migration = await this.migrate(slot, target)
    await migration.begin()
    await migration.finish()
  }

  /**
   * Moves slots at once, which Valkey 9 can, and waits until the target has them.
   *
   * @param {[first: number, last: number]} range
   * @param {ClusterNode} target
   */
  async moveSlotsAtomically([first, last], target) {
    const source = await this.ownerOf(first)
    await source.cmd('CLUSTER', 'MIGRATESLOTS', 'SLOTSRANGE', first, last, 'NODE', target.id)
    await eventually('the slots have moved', async () => {
      const [log] = /** @type {unknown[]} */ (await source.cmd('CLUSTER', 'GETSLOTMIGRATIONS'))
      const text = String(log)
      if (/,(failed|canceled),/.test(text)) throw new Error(`the slots did not move: ${text}`)
      return contains((await target.self()).slots, first)
    })
  }

  /** Kills all nodes. */
  async stop() {
    await Promise.all(this.nodes.map((node) => node.kill()))
  }
}

/**
 * The owners of slots and the replicas' primaries as text, from one node's view; undefined if it misses a
 * node or the link to one.
 *
 * @param {NodeLine[]} lines
 * @param {ClusterNode[]} serving
 */
function mapOf(lines, serving) {
  const found = serving.map((node) => lines.find(({ id }) => id === node.id))
  if (found.some((line) => !line?.connected || line.flags.some((flag) => /fail|handshake/.test(flag)))) {
    return undefined
  }
  const known = lines.map(({ id, role, primaryId, slots }) => `${id} ${role} ${primaryId} ${slots.join()}`)
  return known.toSorted().join('\n')
}

/**
 * Starts a cluster that is ready.
 *
 * @param {ClusterOptions} [options]
 * @param {Launcher} [start]
 * @returns {Promise<RedisCluster>}
 */
export async function startRedisCluster(options = {}, start = launcher) {
  const { program = redisProgram, primaries: count = 3, replicas = count, tls, password } = options
  const keeper = keeperFor(options)
  const users = keeper && [keeper.rule, ...(options.users ?? [])]
  const modern = (versionOf(program)?.[0] ?? 0) >= 7
  const placeOf = () => freePlace(tls !== undefined, modern)
  const nodes = await Promise.all(
    Array.from({ length: count + replicas }, async () => {
      const { bus, ...ports } = await placeOf()
      const config = [...clusterLines(options), ...(keeper?.replicaLines ?? [])]
      if (modern) config.push(`cluster-port ${bus}`)
      const place = { ...ports, folder: start.makeFolder() }
      const each = { program, tls, password, users, config: [...config, ...(options.config ?? [])] }
      const node = new ClusterNode(place, each, start)
      await node.start()
      node.id = String(await node.cmd('CLUSTER', 'MYID'))
      return { node, bus }
    }),
  )
  const cluster = new RedisCluster(
    nodes.map(({ node }) => node),
    keeper,
    placeOf,
  )
  await join(nodes, count)
  await cluster.ready()
  if (options.appendonly) await Promise.all(cluster.nodes.map((node) => node.waitForAppendOnlyFile()))
  return cluster
}

/** @param {ClusterOptions} options */
function clusterLines({ nodeTimeoutMs = 2000, appendonly = false, tls, hostname, endpoint }) {
  const lines = [
    'cluster-enabled yes',
    `cluster-node-timeout ${nodeTimeoutMs}`,
    // Otherwise a replica that was away too long would never stand for election.
    'cluster-replica-validity-factor 0',
  ]
  if (appendonly) lines.push('appendonly yes')
  if (tls) lines.push('tls-cluster yes', 'tls-replication yes')
  if (hostname !== undefined) lines.push(`cluster-announce-hostname ${hostname}`)
  const type = endpoint ?? (hostname === undefined ? undefined : 'hostname')
  if (type) lines.push(`cluster-preferred-endpoint-type ${type}`)
  return lines
}

/**
 * Ports for a node. Before Redis 7, the one for other nodes is that for clients plus 10,000.
 *
 * @param {boolean} tls
 * @param {boolean} modern
 */
async function freePlace(tls, modern) {
  for (;;) {
    const port = await freePort()
    const tlsPort = tls ? await freePort() : undefined
    if (modern) return { port, tlsPort, bus: await freePort() }
    const bus = (tlsPort ?? port) + 10_000
    // Below those that the kernel gives to outgoing connections.
    if (bus < 32_000 && (await freePort(bus)) === bus) return { port, tlsPort, bus }
  }
}

/**
 * Makes one cluster of nodes, of which the first `count` share the slots.
 *
 * @param {{ node: ClusterNode, bus: number }[]} nodes
 * @param {number} count
 */
async function join(nodes, count) {
  const [first, ...others] = nodes.map(({ node }) => node)
  if (first === undefined) throw new Error('a cluster without nodes')
  await Promise.all(nodes.map(({ node }, index) => node.cmd('CLUSTER', 'SET-CONFIG-EPOCH', index + 1)))
  for (const { node, bus } of nodes.slice(1)) {
    await first.cmd('CLUSTER', 'MEET', node.host, node.announcedPort, bus)
  }
  const primaries = [first, ...others].slice(0, count)
  await Promise.all(
    primaries.map((node, index) => {
      const begin = Math.ceil((index * slotCount) / count)
      const end = Math.ceil(((index + 1) * slotCount) / count)
      return node.cmd('CLUSTER', 'ADDSLOTS', ...Array.from({ length: end - begin }, (_, at) => begin + at))
    }),
  )
  await Promise.all(
    [first, ...others].slice(count).map((replica, index) =>
      eventually('the replica knows its primary', async () => {
        const primary = primaries[index % count]
        const reply = await replica.cmd('CLUSTER', 'REPLICATE', primary?.id ?? '').catch(String)
        return reply === 'OK'
      }),
    ),
  )
}
