/**
 * Packages of Debian, unpacked into a folder below target/: nothing is installed, and the system's own
 * package lists are neither used nor changed.
 */
import { existsSync, mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

import { capture, PlainError, root, run, say, which } from '../../lib/shell.mjs'

const home = join(root, 'target/cross/debian')
const keyring = '/usr/share/keyrings/debian-archive-keyring.gpg'
const suites = ['bookworm-backports', 'trixie', 'trixie-backports']

/**
 * The environment for apt with lists and a configuration of its own, for both architectures. Made once per
 * run.
 */
let configured = /** @type {Promise<NodeJS.ProcessEnv> | undefined} */ (undefined)

function configuration() {
  configured ??= configure()
  return configured
}

async function configure() {
  if (!which('apt-get') || !which('dpkg-deb') || !existsSync(keyring)) {
    throw new PlainError('this system is not Debian: its packages are not available here')
  }
  // The mirror that this machine is configured with.
  const sites = await capture('apt-get', ['indextargets', '--format', '$(SITE)', 'Created-By: Packages'])
  const mirror = sites?.split('\n').find((site) => /\/debian\/?$/.test(site))
  if (!mirror) throw new PlainError('apt has no mirror of Debian configured')
  for (const folder of ['sources', 'state/lists/partial', 'cache/archives/partial', 'packages']) {
    mkdirSync(join(home, folder), { recursive: true })
  }
  writeFileSync(
    join(home, 'sources/debian.sources'),
    `Types: deb\nURIs: ${mirror}\nSuites: ${suites.join(' ')}\nComponents: main\nArchitectures: amd64 arm64\nSigned-By: ${keyring}\n`,
  )
  const settings = join(home, 'apt.conf')
  writeFileSync(
    settings,
    `Dir::Etc::sourcelist "/dev/null";
Dir::Etc::sourceparts "${home}/sources";
Dir::State "${home}/state";
Dir::State::status "/dev/null";
Dir::Cache "${home}/cache";
APT::Architectures { "amd64"; "arm64"; };
APT::Sandbox::User "root";
Acquire::Languages "none";
Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";
`,
  )
  const env = { ...process.env, APT_CONFIG: settings }
  say('reading the lists of Debian packages')
  if ((await capture('apt-get', ['update', '-q'], { env, limitMs: 300_000 })) === null) {
    throw new PlainError('the lists of Debian packages cannot be fetched')
  }
  return env
}

/**
 * The versions of a package, the newest first.
 *
 * @param {string} name
 */
export async function versionsOf(name) {
  const text = await capture('apt-cache', ['madison', name], { env: await configuration() })
  return [...new Set((text ?? '').split('\n').map((line) => line.split('|')[1]?.trim() ?? ''))].filter(
    Boolean,
  )
}

/**
 * Downloads a package, unless that was done before, and unpacks it.
 *
 * @param {string} wanted  name, `name:architecture` or `name=version`
 * @param {string} into  the folder to unpack to
 */
export async function unpack(wanted, into) {
  const folder = join(home, 'packages', wanted.replaceAll(/[:=~+]/g, '_'))
  const archive = () =>
    existsSync(folder) ? readdirSync(folder).find((name) => name.endsWith('.deb')) : undefined
  if (!archive()) {
    const env = await configuration()
    mkdirSync(folder, { recursive: true })
    say(`getting ${wanted} from Debian`)
    const { ok, why } = await run('apt-get', ['download', '-q', wanted], {
      cwd: folder,
      env,
      limitMs: 600_000,
    })
    if (!ok) {
      rmSync(folder, { recursive: true, force: true })
      throw new PlainError(`Debian's ${wanted} cannot be fetched: ${why}`)
    }
  }
  mkdirSync(into, { recursive: true })
  const { ok, why } = await run('dpkg-deb', ['-x', join(folder, archive() ?? ''), into])
  if (ok) return
  // The download may be damaged, and a partial folder would pass for a complete one.
  for (const each of [folder, into]) rmSync(each, { recursive: true, force: true })
  throw new PlainError(`Debian's ${wanted} cannot be unpacked: ${why}`)
}
