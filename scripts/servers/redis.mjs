/**
 * Redis and Valkey servers, each on a free port of 127.0.0.1 with a folder of its own. Used by the tests, the
 * benchmark, the demo and the smoke test of the binaries.
 */
import { execFileSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'

import { freePort } from './free-port.mjs'
import { end, launcher } from './processes.mjs'
import { RespClient } from './resp.mjs'
import { eventually } from './wait.mjs'

/** @typedef {import('./processes.mjs').Launcher} Launcher */
/** @typedef {import('./resp.mjs').Reply} Reply */

/**
 * @typedef {object} RedisServerOptions
 * @property {string[]} [config] lines of redis.conf; they override what is set here
 * @property {string} [password] of the default user
 * @property {string[]} [users] for example `alice on >secret ~fencelock:* &fencelock:* +@all`; the default
 *   user stays as it is
 * @property {boolean} [unixSocket] listens on a Unix socket, too: `socketUrl`
 * @property {{ ca: string, cert: string, key: string, clientAuth?: boolean }} [tls] files of certificates:
 *   listens with TLS, too (`tlsUrl`); `clientAuth` asks clients for a certificate
 * @property {boolean} [cluster] a node of a cluster
 * @property {NodeJS.ProcessEnv} [env] added to the environment, for example that of a faked clock
 * @property {string} [program] the server program; default {@link redisProgram}
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
export class RedisServer {
  /** The server this one replicates from. @type {{ port: number } | undefined} */
  primary
  host = '127.0.0.1'
  #options
  #launcher
  #adminPassword = randomBytes(8).toString('hex')
  /** @type {import('node:child_process').ChildProcess | undefined} */
  #child
  /** @type {Promise<RespClient> | undefined} */
  #admin

  /**
   * @param {{ port: number, tlsPort: number | undefined, folder: string }} place
   * @param {RedisServerOptions} options
   * @param {Launcher} start
   */
  constructor({ port, tlsPort, folder }, options, start) {
    this.port = port
    this.tlsPort = tlsPort
    this.folder = folder
    this.#options = options
    this.#launcher = start
  }

  get url() {
    return `redis://127.0.0.1:${this.port}`
  }
  get socketPath() {
    return join(this.folder, 's')
  }
  get socketUrl() {
    return `redis+unix://${this.socketPath}`
  }
  get tlsUrl() {
    return `rediss://localhost:${this.tlsPort}`
  }
  get pid() {
    return this.#child?.pid
  }

  /**
   * Starts it, or starts it again on the same port with what it had on disk (nothing, unless `config` says
   * so).
   */
  async start() {
    const config = join(this.folder, 'redis.conf')
    writeFileSync(config, configLines(this, this.#options, this.#adminPassword).join('\n'))
    const child = this.#launcher.start(this.#options.program ?? redisProgram, [config], {
      cwd: this.folder,
      env: { ...process.env, ...this.#options.env },
      stdio: 'ignore',
    })
    this.#child = child
    /** @type {string | undefined} */
    let ended
    child.once('error', (error) => (ended = error.message))
    child.once('exit', (code, signal) => (ended = `ended with ${signal ?? code}`))
    await eventually('the Redis server replies', async () => {
      if (ended !== undefined)
        throw new Error(`the Redis server did not start: ${ended}\n${this.log().slice(-500)}`)
      return this.cmd('PING').catch(() => false)
    })
  }

  /** What it has logged so far. */
  log() {
    try {
      return readFileSync(join(this.folder, 'redis.log'), 'utf8')
    } catch {
      return ''
    }
  }

  /**
   * Runs a command with all rights.
   *
   * @param {...(string | number | bigint | Buffer)} args
   * @returns {Promise<Reply>}
   */
  async cmd(...args) {
    if (this.#admin === undefined || (await this.#admin.catch(() => undefined))?.closed !== false) {
      this.#admin = this.connect()
    }
    return (await this.#admin).cmd(...args)
  }

  /** A new connection with all rights: WAIT, SUBSCRIBE or a blocking command needs one of its own. */
  async connect() {
    const client = await RespClient.connect({ host: this.host, port: this.port })
    const { users, password } = this.#options
    if (users) await client.cmd('AUTH', 'fixture', this.#adminPassword)
    else if (password !== undefined) await client.cmd('AUTH', password)
    return client
  }

  /** Shuts it down; kills it when that takes over two seconds. */
  async stop() {
    const child = this.#child
    if (child?.exitCode !== null || child.signalCode !== null) return
    this.resume()
    await Promise.race([end(child, 'SIGTERM'), sleep(2000)])
    await end(child)
  }

  /** Kills it without a warning. */
  async kill() {
    if (this.#child) await end(this.#child)
  }

  /**
   * Kills it and starts it again on the same port; it remembers nothing, unless `config` turned persistence
   * on.
   */
  async restart() {
    await this.kill()
    await this.start()
  }

  /** Suspends it (SIGSTOP): connections stay open and it does not reply. */
  pause() {
    this.#child?.kill('SIGSTOP')
  }

  /** Ends a pause. */
  resume() {
    this.#child?.kill('SIGCONT')
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

  /** A section of INFO as an object. @param {string} section @returns {Promise<Record<string, string>>} */
  async info(section) {
    const lines = String(await this.cmd('INFO', section)).split('\r\n')
    return Object.fromEntries(
      lines
        .filter((line) => line.includes(':'))
        .map((line) => [line.slice(0, line.indexOf(':')), line.slice(line.indexOf(':') + 1)]),
    )
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
  if (tls) {
    lines.push(
      `tls-port ${tlsPort}`,
      `tls-cert-file ${tls.cert}`,
      `tls-key-file ${tls.key}`,
      `tls-ca-cert-file ${tls.ca}`,
      `tls-auth-clients ${tls.clientAuth ? 'yes' : 'no'}`,
    )
  }
  if (primary) lines.push(`replicaof 127.0.0.1 ${primary.port}`)
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
