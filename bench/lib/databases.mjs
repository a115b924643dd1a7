/**
 * PostgreSQL and MariaDB, on free ports of loopback, for the measures of the guards.
 */
import { chmodSync, mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'

import { PlainError } from '../../scripts/lib/shell.mjs'
import { end, makeFolder, startProgram } from './children.mjs'
import { freePort } from './servers.mjs'

/** @typedef {import('../../scripts/servers/sql.mjs').Server} Server */

/** @typedef {{ postgres: Server | null, mariadb: Server | null, stop: () => Promise<void> }} Databases null: not installed */

const PATIENCE_MS = 20_000

/** @returns {Promise<Databases>} */
export async function startDatabases() {
  // Only now: it looks for programs that may have been installed since this one began.
  const { isMariadbThere, isPostgresThere, makeMariadb, makePostgres } =
    await import('../../scripts/servers/sql.mjs')
  // Not below the run's own folder, which only we can walk through.
  const folder = makeFolder()
  chmodSync(folder, 0o711)
  const [postgres, mariadb] = await Promise.all([
    isPostgresThere ? start(makePostgres(below(folder, 'postgres'), await freePort())) : null,
    isMariadbThere ? start(makeMariadb(below(folder, 'mariadb'), await freePort())) : null,
  ])
  return {
    postgres: postgres && postgres.server,
    mariadb: mariadb && mariadb.server,
    async stop() {
      await Promise.all([postgres?.stop(), mariadb?.stop()])
    },
  }
}

/** @param {string} folder @param {string} name */
function below(folder, name) {
  const path = join(folder, name)
  mkdirSync(path)
  return path
}

/** @param {import('../../scripts/servers/sql.mjs').Start} how */
async function start({ name, command, args, ready, end: signal, server }) {
  const child = startProgram(command, args)
  const limit = performance.now() + PATIENCE_MS
  while (!(await ready())) {
    if (child.exitCode !== null || performance.now() > limit) throw new PlainError(`${name} did not start`)
    await sleep(50)
  }
  return { server, stop: () => end(child, signal) }
}
