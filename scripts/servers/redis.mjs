/**
 * Redis and Valkey servers, each on a free port of 127.0.0.1 with a folder of its own. Used by the tests, the
 * benchmark, the demo and the smoke test of the binaries.
 */
import { execFileSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { join } from 'node:path'

import { freePort } from './free-port.mjs'
import { launcher } from './processes.mjs'
import { RedisProcess, tlsLines } from './redis-process.mjs'
import { eventually } from './wait.mjs'

/** @typedef {import('./processes.mjs').Launcher} Launcher */
/** @typedef {import('./redis-process.mjs').Place} Place */
/** @typedef {import('./redis-process.mjs').TlsFiles} TlsFiles */

/**
 * @typedef {object} RedisServerOptions
 * @property {string[]} [config] lines of redis.conf; they override what is set here
 * @property {string} [password] of the default user
 * @property {string[]} [users] for example `alice on >secret ~fencelock:* &fencelock:* +@all`; the default
 *   user stays as it is
 * @property {boolean} [unixSocket] listens on a Unix socket, too: `socketUrl`
 * @property {TlsFiles} [tls] listens with TLS, too (`tlsUrl`)
 * @property {boolean} [cluster] a node of a cluster
 * @property {NodeJS.ProcessEnv} [env] added to the environment, for example that of a faked clock
 * @property {string} [program] the server program; default {@link redisProgram}
 * @property {boolean} [keepConfig] a restart uses the configuration as it was rewritten meanwhile
 */

/** The Redis server to use unless an option names another one. */
export const redisProgram = process.env.FENCELOCK_REDIS_SERVER ?? 'redis-server'

/** @typedef {[major: number, minor: number, patch: number]} Version */

/**
 * `[7, 0, 15]`, or undefined when the program cannot be run.
 *
 * @param {string} program
 * @returns {Version | undefined}
 */
export function versionOf(program) {
  try {
    const output = execFileSync(program, ['--version'], { encoding: 'utf8', stdio: 'pipe' })
    const found = /v=(\d+)\.(\d+)\.(\d+)/.exec(output)
    return found ? [Number(found[1]), Number(found[2]), Number(found[3])] : undefined
  } catch {
    return undefined
  }
}

/** One server. Made by {@link startRedis}. */
export class RedisServer extends RedisProcess {
  /** The server this one replicates from. @type {{ host?: string, port: number } | undefined} */
  primary

  /**
   * @param {Place} place
   * @param {RedisServerOptions} options
   * @param {Launcher} start
   */
  constructor(place, options, start) {
    const { program = redisProgram, env, users, password, keepConfig } = options
    const adminPassword = randomBytes(8).toString('hex')
    const login = users ? ['fixture', adminPassword] : password === undefined ? undefined : [password]
    const lines = () => configLines(this, options, adminPassword)
    super(place, { program, env, lines, login, keepConfig }, start)
  }

  get socketPath() {
    return join(this.folder, 's')
  }
  get socketUrl() {
    return `redis+unix://${this.socketPath}`
  }

  /** Makes a primary of a replica. */
  async promote() {
    this.primary = undefined
    await this.cmd('REPLICAOF', 'NO', 'ONE')
  }

  /** Makes it a replica of another server, or of a proxy in front of it. @param {{ port: number }} primary */
  async replicate(primary) {
    this.primary = primary
    await this.cmd('REPLICAOF', '127.0.0.1', primary.port)
  }

  /**
   * How often each command was called since the last {@link resetStats}, by lower-case name; calls by scripts
   * count, too.
   *
   * @returns {Promise<Record<string, number>>}
   */
  async calls() {
    const stats = Object.entries(await this.info('commandstats'))
    return Object.fromEntries(
      stats.map(([name, text]) => [name.replace('cmdstat_', ''), Number(/calls=(\d+)/.exec(text)?.[1])]),
    )
  }

  async resetStats() {
    await this.cmd('CONFIG', 'RESETSTAT')
  }

  /** Waits until its append-only file has everything: a replica begins it after its first synchronization. */
  async waitForAppendOnlyFile() {
    await eventually('the append-only file is complete', async () => {
      const info = await this.info('persistence')
      const busy = info.aof_rewrite_in_progress !== '0' || info.aof_rewrite_scheduled !== '0'
      return info.aof_enabled === '1' && !busy
    })
  }

  /**
   * Waits until `count` replicas are online and acknowledge writes, as WAIT sees it.
   *
   * @param {number} count
   */
  async waitForReplicas(count) {
    const client = await this.connect()
    try {
      await eventually(`${count} replicas acknowledge`, async () => {
        // A WAIT after a write at offset 0, from which nothing has been replicated, counts replicas that are
        // still loading, and those get no writes before their first acknowledgement. So the offset must have
        // moved before.
        const moved = Number((await this.info('replication')).master_repl_offset) > 0
        // Replicated like a write, but leaves no key.
        await client.cmd('PUBLISH', 'fixture', 'ping')
        return Number(await client.cmd('WAIT', count, 200)) >= count && moved
      })
    } finally {
      client.close()
    }
  }
}

/**
 * The lines of a server's redis.conf.
 *
 * @param {RedisServer} server
 * @param {RedisServerOptions} options
 * @param {string} adminPassword
 * @returns {string[]}
 */
function configLines({ port, tlsPort, folder, primary }, options, adminPassword) {
  const { config = [], password, users, unixSocket, tls, program = redisProgram } = options
  const lines = [
    `port ${port}`,
    'bind 127.0.0.1',
    `dir ${folder}`,
    'logfile redis.log',
    'save ""',
    'appendonly no',
    // A replica is online at once, and a lost one is noticed within a test.
    'repl-diskless-sync yes',
    'repl-diskless-sync-delay 0',
    'repl-ping-replica-period 1',
    'repl-timeout 10',
  ]
  if ((versionOf(program)?.[0] ?? 0) >= 7) lines.push('enable-debug-command local')
  if (password !== undefined) lines.push(`requirepass ${password}`, `masterauth ${password}`)
  if (users)
    lines.push(`user fixture on >${adminPassword} ~* &* +@all`, ...users.map((user) => `user ${user}`))
  if (unixSocket) lines.push('unixsocket s')
  if (tls) lines.push(...tlsLines(tlsPort, tls))
  if (primary) lines.push(`replicaof ${primary.host ?? '127.0.0.1'} ${primary.port}`)
  return [...lines, ...config]
}

/**
 * Starts one server without replicas.
 *
 * @param {RedisServerOptions} [options]
 * @param {Launcher} [start]
 */
export async function startRedis(options = {}, start = launcher) {
  const { cluster, config = [], tls } = options
  // By default the port for other nodes would be one that the kernel gives to outgoing connections.
  const bus = cluster ? ['cluster-enabled yes', `cluster-port ${await freePort()}`] : []
  const place = { port: await freePort(), tlsPort: tls && (await freePort()), folder: start.makeFolder() }
  const server = new RedisServer(place, { ...options, config: [...bus, ...config] }, start)
  await server.start()
  return server
}

/**
 * Starts `count` independent servers.
 *
 * @param {number} count
 * @param {RedisServerOptions} [options]
 * @param {Launcher} [start]
 */
export function startNodes(count, options = {}, start = launcher) {
  return Promise.all(Array.from({ length: count }, () => startRedis(options, start)))
}

/**
 * A primary with its replicas.
 *
 * @typedef {object} Deployment
 * @property {RedisServer} primary
 * @property {RedisServer[]} replicas
 * @property {string} url of the primary
 * @property {() => Promise<void>} stop kills all of them
 */

/**
 * @typedef {object} DeploymentOptions
 * @property {number} [replicas] default 2
 * @property {(primary: RedisServer, replica: RedisServer) => Promise<{ port: number }>} [route] what a
 *   replica connects to instead of the primary itself
 */

/**
 * Starts a primary whose replicas are online and acknowledge.
 *
 * @param {RedisServerOptions & DeploymentOptions} [options]
 * @param {Launcher} [start]
 * @returns {Promise<Deployment>}
 */
export async function startPrimary(options = {}, start = launcher) {
  const { replicas: count = 2, route = (server) => Promise.resolve(server), ...each } = options
  const [primary, ...replicas] = await startNodes(1 + count, each, start)
  if (primary === undefined) throw new Error('unreachable')
  await Promise.all(replicas.map(async (replica) => replica.replicate(await route(primary, replica))))
  await primary.waitForReplicas(count)
  return {
    primary,
    replicas,
    url: primary.url,
    async stop() {
      await Promise.all([primary, ...replicas].map((server) => server.kill()))
    },
  }
}
