'use strict'

/** Where the locks are: flags and environment variables, as the options of a manager. */

const { readFileSync } = require('node:fs')

const { integer, text } = require('./arguments.js')
const { duration } = require('./durations.js')
const { BACKENDS, BELONGS, QUORUM, REDIS, WHERE, variableOf } = require('./backends.js')
const { UsageError } = require('../exit-codes.js')

/** @import { LocalOptions, LockManager, ManagerOptions, TlsOptions } from '../../index.js' */
/** @import { Call, Options } from './arguments.js' */
/** @import { Backend } from './backends.js' */

/**
 * @param {Call} call
 * @param {ManagerOptions['defaults']} [defaults]
 * @returns {{ options: ManagerOptions, place: string }} and the place in words, without secrets
 */
function managerOptions(call, defaults) {
  const backend = chosenBackend(call)
  refuseForeign(call, backend)
  const prefix = setting(call, REDIS, 'prefix')
  const holderName = setting(call, WHERE, 'holder-name')
  const common = {
    ...(prefix !== undefined && { prefix }),
    ...(holderName !== undefined && { holderName }),
    ...(defaults !== undefined && { defaults }),
  }
  if (backend === 'redis') {
    const url = redisUrl(call)
    return { options: { ...common, redis: { url, ...redis(call, url) } }, place: withoutSecrets(url) }
  }
  if (backend === 'quorum') {
    const nodes = quorumNodes(call)
    const options = { ...common, quorum: { nodes, ...quorum(call) } }
    return { options, place: nodes.map(withoutSecrets).join(', ') }
  }
  const local = localOptions(call)
  return { options: { ...common, local }, place: String(local.path) }
}

/**
 * A flag says more than a variable, and a flag of one backend more than the variable of another.
 * @param {Call} call
 * @returns {Backend}
 */
function chosenBackend({ values, env }) {
  const flags = BACKENDS.filter((name) => values[name] !== undefined)
  const variables = BACKENDS.filter((name) => env[variableOf(WHERE, name)] !== undefined)
  const [chosen, other] = flags.length > 0 ? flags : variables
  if (other !== undefined && chosen !== undefined) {
    const names = [chosen, other].map((name) => (flags.length > 0 ? `--${name}` : variableOf(WHERE, name)))
    const cure = flags.length > 0 ? 'give one of them' : `unset one of them, or say --${chosen} or --${other}`
    throw new UsageError(`${names.join(' and ')} exclude each other: ${cure}`)
  }
  if (chosen === undefined) refuseOrphans(env)
  return chosen ?? 'local'
}

/**
 * A variable for Redis without one that says where it is: what was forgotten must not choose local locks.
 * @param {NodeJS.ProcessEnv} env
 */
function refuseOrphans(env) {
  const variables = [REDIS, QUORUM].flatMap((options) =>
    Object.values(options).flatMap(({ variable }) => variable ?? []),
  )
  const orphan = variables.find((variable) => env[variable] !== undefined)
  if (orphan === undefined) return
  throw new UsageError(
    `${orphan} is set, but neither FENCELOCK_REDIS nor FENCELOCK_QUORUM: set one of them, or say --local <file>`,
  )
}

/**
 * @param {Call} call
 * @param {Backend} backend
 */
function refuseForeign({ values }, backend) {
  const own = BELONGS[backend]
  for (const options of Object.values(BELONGS).flat()) {
    const given = Object.keys(options).find((name) => values[name] !== undefined)
    if (given !== undefined && !own.includes(options)) {
      throw new UsageError(`--${given} does not apply to ${backend === 'redis' ? 'strong' : backend} locks`)
    }
  }
}

/**
 * A flag, or else its variable. An empty one is a mistake: it must not choose a default.
 * @param {Call} call
 * @param {Options} options
 * @param {string} name
 * @returns {string | undefined}
 */
function setting(call, options, name) {
  const flag = text(call, name)
  const value = flag ?? call.env[variableOf(options, name)]
  if (value === '')
    throw new UsageError(`${flag === undefined ? variableOf(options, name) : `--${name}`} is empty`)
  return value
}

/** @param {Call} call */
function redisUrl(call) {
  refusePassword('--redis', text(call, 'redis'))
  return setting(call, WHERE, 'redis') ?? ''
}

/** @param {Call} call */
function quorumNodes(call) {
  const flags = call.values.quorum
  if (Array.isArray(flags)) for (const flag of flags) refusePassword('--quorum', flag)
  const given = Array.isArray(flags) ? flags.join(',') : (setting(call, WHERE, 'quorum') ?? '')
  return given
    .split(',')
    .map((url) => url.trim())
    .filter((url) => url !== '')
}

/**
 * What is in an argument, every user of the host sees in the list of processes, and a shell keeps in its
 * history. A warning would leave it there.
 * @param {string} name
 * @param {string | undefined} url
 */
function refusePassword(name, url) {
  if (url === undefined || !hasPassword(url)) return
  const variable = name === '--redis' ? 'FENCELOCK_REDIS' : 'FENCELOCK_QUORUM'
  throw new UsageError(
    `${name} has a password in its URL, and arguments are visible to every user of the host: set ${variable} to ` +
      'the URL, or leave the password out and set FENCELOCK_PASSWORD or --password-file; change the password if ' +
      'others use this host',
  )
}

/** @param {string} url */
function hasPassword(url) {
  return /:\/\/(?!\/)[^?]*:.*@/.test(url) || /[?&]pass(?:word)?=./.test(url)
}

/**
 * @param {string} url
 */
function withoutSecrets(url) {
  return url.replace(/\/\/(?!\/).*@/, '//').replace(/\?.*$/, '')
}

/**
 * @param {Call} call
 * @param {string} url
 */
function redis(call, url) {
  const replicas = setting(call, REDIS, 'replicas')
  const sentinelUsername = setting(call, REDIS, 'sentinel-username')
  const sentinelPassword = secret(call, 'sentinel-password-file')
  const tls = tlsOptions(call)
  return {
    ...server(call, tls),
    ...(replicas !== undefined && { replicas: integer('--replicas', replicas, { min: 0, max: 1_000 }) }),
    ...(call.values.durable === true && { durable: true }),
    ...(sentinelUsername !== undefined && { sentinelUsername }),
    ...(sentinelPassword !== undefined && { sentinelPassword }),
    // One authority for all, as one URL turns TLS on for all.
    ...(tls !== undefined && url.includes('+sentinel:') && { sentinelTls: tls }),
  }
}

/** @param {Call} call */
function quorum(call) {
  const maxTtl = setting(call, QUORUM, 'max-ttl')
  const restartDelay = setting(call, QUORUM, 'restart-delay')
  return {
    ...server(call, tlsOptions(call)),
    ...(maxTtl !== undefined && { maxTtlMs: duration('--max-ttl', maxTtl, { min: '10ms', max: '1d' }) }),
    ...(restartDelay !== undefined && {
      restartDelayMs: duration('--restart-delay', restartDelay, { min: '0s', max: '1d' }),
    }),
  }
}

/**
 * @param {Call} call
 * @param {TlsOptions | undefined} tls
 */
function server(call, tls) {
  const username = setting(call, REDIS, 'username')
  const password = secret(call, 'password-file')
  const timeout = text(call, 'connect-timeout')
  return {
    ...(username !== undefined && { username }),
    ...(password !== undefined && { password }),
    ...(tls !== undefined && { tls }),
    ...(timeout !== undefined && {
      connectTimeoutMs: duration('--connect-timeout', timeout, { min: '1ms', max: '10m' }),
    }),
  }
}

/**
 * A password: the first line of a file, or a variable.
 * @param {Call} call
 * @param {string} name of the option with the file
 */
function secret(call, name) {
  const file = text(call, name)
  if (file === undefined) return setting(call, REDIS, name)
  const [line = ''] = readText(name, file).split(/\r?\n/)
  if (line === '') throw new UsageError(`the first line of the file of --${name} is empty`)
  return line
}

/**
 * @param {Call} call
 * @returns {TlsOptions | undefined}
 */
function tlsOptions(call) {
  const [ca, cert, key] = ['ca', 'cert', 'key'].map((name) => {
    const file = setting(call, REDIS, name)
    return file === undefined ? undefined : readText(name, file)
  })
  const serverName = text(call, 'server-name')
  const given = Object.entries({ ca, cert, key, serverName }).filter(([, value]) => value !== undefined)
  return given.length === 0 ? undefined : Object.fromEntries(given)
}

/**
 * @param {string} name
 * @param {string} file
 */
function readText(name, file) {
  try {
    return readFileSync(file, 'utf8')
  } catch (error) {
    const why = error instanceof Error && 'code' in error ? ` (${String(error.code)})` : ''
    throw new UsageError(`the file of --${name} cannot be read${why}`)
  }
}

/**
 * @param {Call} call
 * @returns {LocalOptions}
 */
function localOptions(call) {
  const path = setting(call, WHERE, 'local') ?? 'locks.sqlite'
  // In the memory of this process it would exclude none.
  if (path === ':memory:') throw new UsageError("':memory:' is the memory of one process: name a file")
  const mode = text(call, 'mode')
  if (mode !== undefined && !/^0?[0-7]{3}$/.test(mode))
    throw new UsageError('--mode must be octal, such as 660')
  return {
    path,
    ...(call.values.durability !== undefined && {
      durability: /** @type {'full'} */ (text(call, 'durability')),
    }),
    ...(call.values['allow-network-filesystem'] === true && { allowNetworkFilesystem: true }),
    ...(mode !== undefined && { mode: Number.parseInt(mode, 8) }),
  }
}

/**
 * Runs something with a manager, and closes it.
 * @template T
 * @param {ManagerOptions} options
 * @param {(locks: LockManager) => Promise<T>} body
 */
async function withManager(options, body) {
  // Not for --help.
  const { LockManager: Manager } = require('../../index.js')
  const locks = new Manager(options)
  try {
    return await body(locks)
  } finally {
    await locks.close({ drainMs: 0 })
  }
}

module.exports = { managerOptions, withManager }
