/**
 * Installs the tools that the build and the tests need, with the system's package manager, if this user is
 * root. Only `npm run setup` and `npm test` do this; other scripts report what is missing.
 */
import { run, say, which } from '../lib/shell.mjs'
import { find, need } from '../lib/tools.mjs'

/** @typedef {import('../lib/tools.mjs').Tool} Tool */

/** How each package manager installs without asking, and the names of its packages. */
const managers = [
  {
    program: 'apt-get',
    // RUNLEVEL: the packages would start servers where there is a service manager; the tests start their own.
    // DEBIAN_FRONTEND: PostgreSQL depends on the time zones, whose package asks for the local one.
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

/** What the tests start, and what builds the addon. @type {readonly Tool[]} */
const tools = ['cc', 'python3', 'pip', 'openssl', 'redis-server', 'postgres', 'mariadbd']

/**
 * Installs the tools that are missing.
 *
 * @returns {Promise<string[]>} why tools are still missing: one line for each
 */
export async function installTools() {
  if (process.platform === 'win32') return []
  const manager = process.getuid?.() === 0 ? managers.find(({ program }) => which(program)) : undefined
  const problems = []
  for (const name of tools) {
    if (name === 'redis-server' && process.env.FENCELOCK_REDIS_SERVER) continue
    if (manager && !(await find(name))) {
      say(`installing ${name} with ${manager.program}`)
      await run('sh', ['-c', `${manager.install} ${manager.packages[name]}`])
    }
    try {
      await need(name)
    } catch (error) {
      problems.push(error instanceof Error ? error.message : String(error))
    }
  }
  return problems
}
