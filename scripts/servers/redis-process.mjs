/**
 * One process of Redis or Valkey, whether it holds data or is a Sentinel.
 */
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'

import { end } from './processes.mjs'
import { RespClient } from './resp.mjs'
import { eventually } from './wait.mjs'

/** @typedef {import('./processes.mjs').Launcher} Launcher */
/** @typedef {import('./resp.mjs').Reply} Reply */

/**
 * Where a process listens, and the folder that is its own.
 *
 * @typedef {{ port: number, tlsPort: number | undefined, folder: string }} Place
 */

/**
 * Files of certificates; `clientAuth` asks clients for a certificate, too.
 *
 * @typedef {{ ca: string, cert: string, key: string, clientAuth?: boolean }} TlsFiles
 */

/**
 * @typedef {object} ProcessOptions
 * @property {string} program
 * @property {string[]} [args] after the configuration file
 * @property {NodeJS.ProcessEnv} [env] added to the environment
 * @property {() => string[]} lines of the configuration file
 * @property {string[]} [login] the arguments of AUTH for all rights
 * @property {boolean} [keepConfig] a restart uses the configuration file as it is then, because Sentinels
 *   rewrite it
 */

/** A process on a port of 127.0.0.1. It ends when its launcher says so. */
export class RedisProcess {
  host = '127.0.0.1'
  /** @type {ProcessOptions} */
  #options
  #launcher
  /** @type {import('node:child_process').ChildProcess | undefined} */
  #child
  /** @type {Promise<RespClient> | undefined} */
  #admin
  #paused = false

  /**
   * @param {Place} place
   * @param {ProcessOptions} options
   * @param {Launcher} launcher
   */
  constructor({ port, tlsPort, folder }, options, launcher) {
    this.port = port
    this.tlsPort = tlsPort
    this.folder = folder
    this.#options = options
    this.#launcher = launcher
  }

  get url() {
    return `redis://127.0.0.1:${this.port}`
  }
  get tlsUrl() {
    return `rediss://localhost:${this.tlsPort}`
  }
  get pid() {
    return this.#child?.pid
  }

  /** Whether it runs and is not paused. */
  get serving() {
    const child = this.#child
    return child !== undefined && child.exitCode === null && child.signalCode === null && !this.#paused
  }

  /**
   * Starts it, or starts it again on the same port with what it had on disk (nothing, unless its
   * configuration says so).
   */
  async start() {
    const { program, args = [], env, lines, keepConfig = false } = this.#options
    const config = join(this.folder, 'redis.conf')
    if (!keepConfig || !existsSync(config)) writeFileSync(config, lines().join('\n'))
    const child = this.#launcher.start(program, [config, ...args], {
      cwd: this.folder,
      env: { ...process.env, ...env },
      stdio: 'ignore',
      detached: true,
    })
    child.once('exit', () => killGroup(child.pid))
    this.#child = child
    this.#paused = false
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
    const { login } = this.#options
    if (login) await client.cmd('AUTH', ...login)
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

  /** Kills it and starts it again on the same port, or on another one. @param {number} [port] */
  async restart(port = this.port) {
    await this.kill()
    this.port = port
    await this.start()
  }

  /** Suspends it (SIGSTOP): connections stay open and it does not reply. */
  pause() {
    this.#paused = true
    this.#child?.kill('SIGSTOP')
  }

  /** Ends a pause. */
  resume() {
    this.#paused = false
    this.#child?.kill('SIGCONT')
  }

  /** A section of INFO as an object. @param {string} section @returns {Promise<Record<string, string>>} */
  async info(section) {
    return parseInfo(await this.cmd('INFO', section))
  }
}

/**
 * Kills what a server has left: one that is killed while it rewrites its log, or saves, leaves a process
 * behind, which goes on writing to a folder that is about to be removed.
 *
 * @param {number | undefined} pid of the server, which leads a process group of its own
 */
function killGroup(pid) {
  if (pid === undefined) return
  try {
    process.kill(-pid, 'SIGKILL')
  } catch {
    // There is no such process, as nearly always.
  }
}

/** The lines `name:value` of a reply as an object. @param {Reply} reply @returns {Record<string, string>} */
export function parseInfo(reply) {
  const lines = String(reply).split('\r\n')
  return Object.fromEntries(
    lines
      .filter((line) => line.includes(':'))
      .map((line) => [line.slice(0, line.indexOf(':')), line.slice(line.indexOf(':') + 1)]),
  )
}

/**
 * The configuration lines that make a process listen with TLS, too.
 *
 * @param {number | undefined} port
 * @param {TlsFiles} files
 */
export function tlsLines(port, { ca, cert, key, clientAuth = false }) {
  return [
    `tls-port ${port}`,
    `tls-cert-file ${cert}`,
    `tls-key-file ${key}`,
    `tls-ca-cert-file ${ca}`,
    `tls-auth-clients ${clientAuth ? 'yes' : 'no'}`,
  ]
}
