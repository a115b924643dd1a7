/** One Sentinel. */
import { randomBytes } from 'node:crypto'

import { RedisProcess, tlsLines } from '../redis-process.mjs'

/** @typedef {import('../processes.mjs').Launcher} Launcher */
/** @typedef {import('../redis-process.mjs').Place} Place */
/** @typedef {import('../redis-process.mjs').TlsFiles} TlsFiles */
/** @typedef {import('../resp.mjs').Reply} Reply */

/**
 * What a Sentinel watches, and how.
 *
 * @typedef {object} Watch
 * @property {string} name of the group
 * @property {string} address of the primary, such as `127.0.0.1 6379`
 * @property {number} quorum
 * @property {number} downAfterMs
 * @property {number} failoverTimeoutMs
 * @property {{ username: string, password: string }} [dataLogin] at the data servers
 * @property {string[]} replicas their addresses
 */

/**
 * @typedef {object} SentinelOptions
 * @property {string} program
 * @property {NodeJS.ProcessEnv} [env]
 * @property {string} [password] `requirepass`, of the default user
 * @property {string[]} [users] of the Sentinel, for example
 *   `alice on >secret resetchannels &+switch-master -@all +auth +subscribe`
 * @property {TlsFiles} [tls]
 * @property {string} [hostname] that it announces in place of its IP address
 * @property {string[]} [config] further lines
 */

/** A Sentinel. Made by `startSentinel`. */
export class SentinelProcess extends RedisProcess {
  /** As Sentinels call it, and as it calls itself. */
  id = randomBytes(20).toString('hex')
  #login
  #options
  /** @type {{ watch: Watch, others: SentinelProcess[] } | undefined} */
  #task

  /**
   * @param {Place} place
   * @param {SentinelOptions} options
   * @param {import('./keeper.mjs').Keeper} login a user with all rights, the same at all Sentinels
   * @param {Launcher} launcher
   */
  constructor(place, options, login, launcher) {
    const { program, env, password, users } = options
    const secured = password !== undefined || users !== undefined
    const needs = { program, env, args: ['--sentinel'], lines: () => this.#lines(), keepConfig: true }
    super(place, { ...needs, login: secured ? [login.username, login.password] : undefined }, launcher)
    this.#options = options
    this.#login = secured ? login : undefined
  }

  /** The port that it announces: that for TLS, if it has one. */
  get announcedPort() {
    return this.tlsPort ?? this.port
  }

  /** Starts it with a task. @param {Watch} watch @param {SentinelProcess[]} others */
  async begin(watch, others) {
    this.#task = { watch, others }
    await this.start()
  }

  /** The address that it tells for the group's primary, such as `127.0.0.1:6379`. @param {string} name */
  async tells(name) {
    const reply = await this.cmd('SENTINEL', 'GET-MASTER-ADDR-BY-NAME', name)
    return Array.isArray(reply) ? reply.join(':') : undefined
  }

  /** The fields of `SENTINEL MASTER`. @param {string} name */
  async master(name) {
    return fieldsOf(await this.cmd('SENTINEL', 'MASTER', name))
  }

  /** The fields of each replica. @param {string} name */
  async replicas(name) {
    const reply = await this.cmd('SENTINEL', 'SLAVES', name)
    return Array.isArray(reply) ? reply.map(fieldsOf) : []
  }

  /** The fields of each other Sentinel. @param {string} name */
  async others(name) {
    const reply = await this.cmd('SENTINEL', 'SENTINELS', name)
    return Array.isArray(reply) ? reply.map(fieldsOf) : []
  }

  /** @returns {string[]} */
  #lines() {
    const { password, users = [], tls, hostname, config = [] } = this.#options
    const login = this.#login
    const lines = [
      `port ${this.port}`,
      'bind 127.0.0.1',
      `dir ${this.folder}`,
      'logfile redis.log',
      `sentinel myid ${this.id}`,
    ]
    if (tls) lines.push(...tlsLines(this.tlsPort, tls), 'tls-replication yes')
    if (hostname !== undefined) {
      lines.push(
        'sentinel resolve-hostnames yes',
        'sentinel announce-hostnames yes',
        `sentinel announce-ip ${hostname}`,
      )
    }
    if (password !== undefined) lines.push(`requirepass ${password}`)
    if (login) {
      lines.push(
        `user ${login.rule}`,
        `sentinel sentinel-user ${login.username}`,
        `sentinel sentinel-pass ${login.password}`,
      )
    }
    lines.push(...users.map((user) => `user ${user}`))
    if (this.#task) lines.push(...watchLines(this.#task.watch, this.#task.others, hostname))
    return [...lines, ...config]
  }
}

/**
 * The task of a Sentinel, with the other Sentinels and the replicas: otherwise it would take seconds to find
 * them.
 *
 * @param {Watch} watch
 * @param {SentinelProcess[]} others
 * @param {string} [hostname]
 */
function watchLines({ name, dataLogin, ...watch }, others, hostname = '127.0.0.1') {
  const lines = [
    `sentinel monitor ${name} ${watch.address} ${watch.quorum}`,
    `sentinel down-after-milliseconds ${name} ${watch.downAfterMs}`,
    `sentinel failover-timeout ${name} ${watch.failoverTimeoutMs}`,
    `sentinel parallel-syncs ${name} ${Math.max(1, watch.replicas.length)}`,
  ]
  if (dataLogin) {
    lines.push(
      `sentinel auth-user ${name} ${dataLogin.username}`,
      `sentinel auth-pass ${name} ${dataLogin.password}`,
    )
  }
  for (const address of watch.replicas) lines.push(`sentinel known-replica ${name} ${address}`)
  for (const { announcedPort, id } of others) {
    lines.push(`sentinel known-sentinel ${name} ${hostname} ${announcedPort} ${id}`)
  }
  return lines
}

/** The pairs of a flat list. @param {Reply} reply @returns {Record<string, string>} */
function fieldsOf(reply) {
  const list = Array.isArray(reply) ? reply.map(String) : []
  return Object.fromEntries(
    list.flatMap((name, index) => (index % 2 === 0 ? [[name, list[index + 1] ?? '']] : [])),
  )
}
