/**
 * The programs that the tests start: found, or installed where that is possible without asking anybody.
 */
import { existsSync, readdirSync } from 'node:fs'
import { join } from 'node:path'

import { capture, PlainError, run, say, which } from './shell.mjs'

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
      pip: 'python3-pip',
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
      pip: 'py3-pip',
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
      pip: 'python3-pip',
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
  pip: 'apt install python3-pip, or brew install python',
  cc: 'apt install build-essential, or xcode-select --install',
  postgres: 'apt install postgresql, or brew install postgresql',
  mariadbd: 'apt install mariadb-server, or brew install mariadb',
}

/** Python as this system calls it, or null. */
export function python() {
  return which('python3') ?? which('python')
}

/** Distributions have Python without it. */
async function findPip() {
  const program = python()
  return program && (await capture(program, ['-m', 'pip', '--version'])) ? program : null
}

/**
 * The full path of a program, or null: on PATH, or where distributions keep the programs that users do not call.
 *
 * @param {string} name
 */
export function findProgram(name) {
  const folders = ['/usr/sbin', '/usr/libexec']
  const debian = '/usr/lib/postgresql'
  const versions = existsSync(debian) ? readdirSync(debian) : []
  // The newest first.
  folders.push(
    ...versions.toSorted((a, b) => Number(b) - Number(a)).map((version) => join(debian, version, 'bin')),
  )
  return which(name) ?? folders.map((folder) => join(folder, name)).find((file) => existsSync(file)) ?? null
}

/** @param {string} name */
async function find(name) {
  return name === 'pip' ? findPip() : findProgram(name)
}

/**
 * Finds a program; installs it with the system's package manager when we are root; otherwise says how to get it.
 *
 * @param {keyof typeof hints} name
 * @param {string} [variable] an environment variable that may name another place
 * @returns {Promise<string>} its path; pip's is that of the Python that has it as a module
 */
export async function need(name, variable) {
  const named = variable ? process.env[variable] : undefined
  if (named) {
    if (!existsSync(named)) throw new PlainError(`${variable} names ${named}, which is not there`)
    return named
  }
  const manager = managers.find(({ program }) => which(program))
  if (!(await find(name)) && process.getuid?.() === 0 && manager) {
    say(`installing ${name} with ${manager.program}`)
    await run('sh', ['-c', `${manager.install} ${manager.packages[name]}`])
  }
  const found = await find(name)
  if (!found) throw new PlainError(`${name} is missing: ${hints[name]}`)
  return found
}
