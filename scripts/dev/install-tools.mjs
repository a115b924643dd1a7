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
      chromium: 'chromium',
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
      chromium: 'chromium',
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
      chromium: 'chromium',
    },
  },
]

/** What the tests start, and what builds the addon. @type {readonly Tool[]} */
const tools = ['cc', 'python3', 'pip', 'openssl', 'redis-server', 'postgres', 'mariadbd']

/** The variables that may name a tool. @type {{ [name in Tool]?: string }} */
const variables = { 'redis-server': 'FENCELOCK_REDIS_SERVER', chromium: 'FENCELOCK_CHROMIUM' }

/**
 * Installs the tools that are missing.
 *
 * @returns {Promise<string[]>} why tools are still missing: one line for each
 */
export async function installTools() {
  if (process.platform === 'win32') return []
  const problems = []
  for (const name of tools) {
    const problem = await install(name)
    if (problem) problems.push(problem)
  }
  const problem = await install('chromium')
  if (problem) say(`the site is not looked at in a browser: ${problem}`)
  return problems
}

/**
 * Installs a tool, unless it is there.
 *
 * @param {Tool} name
 * @returns {Promise<string | undefined>} why it is still missing
 */
async function install(name) {
  const variable = variables[name]
  if (variable && process.env[variable]) return undefined
  const manager = process.getuid?.() === 0 ? managers.find(({ program }) => which(program)) : undefined
  if (manager && !(await find(name))) {
    say(`installing ${name} with ${manager.program}`)
    await run('sh', ['-c', `${manager.install} ${manager.packages[name]}`])
  }
  try {
    await need(name)
    return undefined
  } catch (error) {
    return error instanceof Error ? error.message : String(error)
  }
}
