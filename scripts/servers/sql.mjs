/**
 * PostgreSQL and MariaDB servers, each on a free port of 127.0.0.1 with a folder of its own. As root they run
 * as the user that their packages made, because they refuse to run as root. Used by the tests and the
 * benchmark.
 */
import { execFileSync } from 'node:child_process'
import { chmodSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'

import { findProgram } from '../lib/tools.mjs'
import { freePort } from './free-port.mjs'
import { end, launcher } from './processes.mjs'
import { eventually } from './wait.mjs'

/** @typedef {import('./processes.mjs').Launcher} Launcher */

/** @typedef {{ host: string, port: number, user: string, password: string, database: string }} Server */

/**
 * @typedef {object} Prepared a server whose data is there
 * @property {string} name
 * @property {string} command
 * @property {string[]} args
 * @property {string} cwd a folder that its user may enter
 * @property {() => boolean | Promise<boolean>} ready whether it accepts connections
 * @property {NodeJS.Signals} endSignal ends it at once, with its child processes
 * @property {Server} server where to reach it: what the clients call their options
 */

/** @typedef {{ server: Server, stop: () => Promise<void> }} Running */

/** The server may have to recover first. */
const START_LIMIT_MS = 20_000

const isRoot = process.getuid?.() === 0

export function isPostgresInstalled() {
  return findProgram('initdb') !== null && findProgram('postgres') !== null
}

export function isMariadbInstalled() {
  return findProgram('mariadb-install-db') !== null && findProgram('mariadbd') !== null
}

/**
 * Starts PostgreSQL.
 *
 * @param {string[]} [config] settings such as `max_connections=200`
 * @param {Launcher} [start] as root its folders must lie below folders that every user may enter
 */
export async function startPostgres(config = [], start = launcher) {
  return run(preparePostgres(start.makeFolder(), await freePort(), config), start)
}

/**
 * Starts MariaDB.
 *
 * @param {string[]} [config] options such as `--max-connections=200`
 * @param {Launcher} [start] as for {@link startPostgres}
 */
export async function startMariadb(config = [], start = launcher) {
  return run(prepareMariadb(start.makeFolder(), await freePort(), config), start)
}

/**
 * Waits until the server accepts connections.
 *
 * @param {Prepared} prepared
 * @param {Launcher} start
 * @returns {Promise<Running>}
 */
async function run({ name, command, args, cwd, ready, endSignal, server }, start) {
  const child = start.start(command, args, { cwd, stdio: 'ignore' })
  /** @type {string | undefined} */
  let ended
  child.once('error', (error) => (ended = error.message))
  child.once('exit', (code, signal) => (ended = `ended with ${signal ?? code}`))
  const stop = async () => {
    await Promise.race([end(child, endSignal), sleep(3_000)])
    await end(child)
  }
  try {
    await eventually(
      `${name} accepts connections`,
      () => {
        if (ended !== undefined) throw new Error(`${name} did not start: ${ended}`)
        return ready()
      },
      START_LIMIT_MS,
    )
  } catch (error) {
    await stop()
    throw error
  }
  return { server, stop }
}

/** The full path of an installed program. @param {string} name */
function need(name) {
  const found = findProgram(name)
  if (found === null) throw new Error(`${name} is not installed`)
  return found
}

/**
 * How to run a command as another user. It is replaced by exec: the process is the program itself.
 *
 * @param {string} user
 * @param {string} command
 * @param {string[]} args
 * @returns {[string, string[]]}
 */
function asUser(user, command, args) {
  if (!isRoot) return [command, args]
  return ['setpriv', [`--reuid=${user}`, `--regid=${user}`, '--clear-groups', command, ...args]]
}

/** A folder inside `outer` that belongs to the server's user. @param {string} outer @param {string} user */
function folderOf(outer, user) {
  if (!isRoot) return outer
  // The user must be able to enter it.
  chmodSync(outer, 0o711)
  const folder = join(outer, 'd')
  mkdirSync(folder)
  execFileSync('chown', [`${user}:`, folder])
  return folder
}

/**
 * Creates the data of a PostgreSQL server.
 *
 * @param {string} outer an empty folder
 * @param {number} port
 * @param {string[]} config
 * @returns {Prepared}
 */
function preparePostgres(outer, port, config) {
  const folder = folderOf(outer, 'postgres')
  const data = join(folder, 'data')
  const how = ['-D', data, '-A', 'trust', '-U', 'tester', '-E', 'UTF8', '--no-sync', '--no-locale']
  execFileSync(...asUser('postgres', need('initdb'), how), { cwd: folder, stdio: 'pipe' })
  const settings = ['fsync=off', 'listen_addresses=127.0.0.1', `unix_socket_directories=${folder}`, ...config]
  const options = settings.flatMap((line) => ['-c', line])
  const [command, args] = asUser('postgres', need('postgres'), ['-D', data, '-p', String(port), ...options])
  return {
    name: 'PostgreSQL',
    command,
    args,
    cwd: folder,
    // It listens before it accepts sessions; the last line of this file says when it does.
    ready: () => /^ready/m.test(read(join(data, 'postmaster.pid'))),
    endSignal: 'SIGQUIT',
    server: { host: '127.0.0.1', port, user: 'tester', password: '', database: 'postgres' },
  }
}

/**
 * Creates the data of a MariaDB server.
 *
 * @param {string} outer an empty folder
 * @param {number} port
 * @param {string[]} config
 * @returns {Prepared}
 */
function prepareMariadb(outer, port, config) {
  const folder = folderOf(outer, 'mysql')
  const data = join(folder, 'data')
  const user = isRoot ? ['--user=mysql'] : []
  const how = [`--datadir=${data}`, '--skip-test-db', '--auth-root-authentication-method=normal', ...user]
  execFileSync(need('mariadb-install-db'), ['--no-defaults', ...how], { cwd: folder, stdio: 'pipe' })
  const init = join(folder, 'init.sql')
  writeFileSync(
    init,
    "CREATE DATABASE tests;\nCREATE USER tester@'%' IDENTIFIED BY 'secret';\nGRANT ALL ON *.* TO tester@'%';\n",
  )
  chmodSync(init, 0o644)
  const args = [
    '--no-defaults',
    `--datadir=${data}`,
    `--port=${port}`,
    '--bind-address=127.0.0.1',
    `--socket=${join(folder, 's')}`,
    `--pid-file=${join(folder, 'pid')}`,
    `--init-file=${init}`,
    '--skip-name-resolve',
    '--innodb-flush-log-at-trx-commit=0',
    '--innodb-buffer-pool-size=32M',
    ...user,
    ...config,
  ]
  return {
    name: 'MariaDB',
    command: need('mariadbd'),
    args,
    cwd: folder,
    ready: () => accepts(port),
    endSignal: 'SIGKILL',
    server: { host: '127.0.0.1', port, user: 'tester', password: 'secret', database: 'tests' },
  }
}

/** @param {string} file */
function read(file) {
  try {
    return readFileSync(file, 'utf8')
  } catch {
    return ''
  }
}

/** @param {number} port @returns {Promise<boolean>} */
function accepts(port) {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1')
    socket.once('connect', () => {
      resolve(true)
      socket.destroy()
    })
    socket.once('error', () => resolve(false))
    socket.unref()
  })
}
