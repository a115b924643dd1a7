/**
 * How PostgreSQL and MariaDB are started from nothing, for the tests and the benchmark: each on a port of 127.0.0.1, in a
 * folder of its own, and as the user that their packages made, for they refuse to run as root. Plain JavaScript, for the
 * benchmark loads it as it is.
 */
import { execFileSync } from 'node:child_process'
import { chmodSync, existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { join } from 'node:path'

/** @typedef {{ host: string, port: number, user: string, password: string, database: string }} Server */

/**
 * @typedef {object} Start a server whose data is there, to be started
 * @property {string} name
 * @property {string} command
 * @property {string[]} args
 * @property {string} cwd a folder that its user may be in
 * @property {() => boolean | Promise<boolean>} ready whether it takes connections
 * @property {NodeJS.Signals} end what ends it at once, with its children
 * @property {Server} server where to reach it: what the clients call their options
 */

const isRoot = process.getuid?.() === 0

/** The full path of a program: on PATH, or where Debian keeps PostgreSQL's. @param {string} name */
function find(name) {
  const debian = '/usr/lib/postgresql'
  const versions = existsSync(debian) ? readdirSync(debian).toSorted((a, b) => Number(b) - Number(a)) : []
  return [
    ...(process.env.PATH ?? '').split(':'),
    '/usr/sbin',
    ...versions.map((version) => join(debian, version, 'bin')),
  ]
    .map((folder) => join(folder, name))
    .find((file) => existsSync(file))
}

const [initdb, postgres] = [find('initdb'), find('postgres')]
const [installDb, mariadbd] = [find('mariadb-install-db'), find('mariadbd')]

export const isPostgresThere = initdb !== undefined && postgres !== undefined
export const isMariadbThere = installDb !== undefined && mariadbd !== undefined

/**
 * A command as another user, by exec: the process is the program itself.
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

/** A folder below `outer` that belongs to the server's user. @param {string} outer @param {string} user */
function folderOf(outer, user) {
  if (!isRoot) return outer
  // The user must be able to walk through it.
  chmodSync(outer, 0o711)
  const folder = join(outer, 'd')
  mkdirSync(folder)
  execFileSync('chown', [`${user}:`, folder])
  return folder
}

/**
 * Makes the data of a PostgreSQL server.
 *
 * @param {string} outer an empty folder; as root, one below folders that everybody can walk through
 * @param {number} port
 * @param {string[]} [config] settings such as `max_connections=200`
 * @returns {Start}
 */
export function makePostgres(outer, port, config = []) {
  if (!initdb || !postgres) throw new Error('PostgreSQL is not installed')
  const folder = folderOf(outer, 'postgres')
  const data = join(folder, 'data')
  const how = ['-D', data, '-A', 'trust', '-U', 'tester', '-E', 'UTF8', '--no-sync', '--no-locale']
  execFileSync(...asUser('postgres', initdb, how), { cwd: folder, stdio: 'pipe' })
  const settings = ['fsync=off', 'listen_addresses=127.0.0.1', `unix_socket_directories=${folder}`, ...config]
  const options = settings.flatMap((line) => ['-c', line])
  const [command, args] = asUser('postgres', postgres, ['-D', data, '-p', String(port), ...options])
  return {
    name: 'PostgreSQL',
    command,
    args,
    cwd: folder,
    // It listens before it lets anybody in; the last line of this file tells.
    ready: () => /^ready/m.test(read(join(data, 'postmaster.pid'))),
    end: 'SIGQUIT',
    server: { host: '127.0.0.1', port, user: 'tester', password: '', database: 'postgres' },
  }
}

/**
 * Makes the data of a MariaDB server.
 *
 * @param {string} outer as for {@link makePostgres}
 * @param {number} port
 * @param {string[]} [config] options such as `--max-connections=200`
 * @returns {Start}
 */
export function makeMariadb(outer, port, config = []) {
  if (!installDb || !mariadbd) throw new Error('MariaDB is not installed')
  const folder = folderOf(outer, 'mysql')
  const data = join(folder, 'data')
  const user = isRoot ? ['--user=mysql'] : []
  const how = [`--datadir=${data}`, '--skip-test-db', '--auth-root-authentication-method=normal', ...user]
  execFileSync(installDb, ['--no-defaults', ...how], { cwd: folder, stdio: 'pipe' })
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
    command: mariadbd,
    args,
    cwd: folder,
    ready: () => answers(port),
    end: 'SIGKILL',
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
function answers(port) {
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
