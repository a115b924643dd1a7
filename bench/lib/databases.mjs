/**
 * PostgreSQL and MariaDB, on free ports of loopback, for the measures of the guards.
 */
import { chmodSync, mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'

import { makeMariadb, makePostgres } from '../../__test__/clients/servers.mjs'
import { PlainError } from '../../scripts/lib/shell.mjs'
import { end, makeFolder, startProgram } from './children.mjs'
import { freePort } from './servers.mjs'

/** @typedef {import('../../__test__/clients/servers.mjs').Server} Server */

/** @typedef {{ postgres: Server, mariadb: Server, stop: () => Promise<void> }} Databases */

const PATIENCE_MS = 20_000

/** @returns {Promise<Databases>} */
export async function startDatabases() {
  // Not below the run's own folder, which only we can walk through.
  const folder = makeFolder()
  chmodSync(folder, 0o711)
  const [postgres, mariadb] = await Promise.all([
    start(makePostgres(below(folder, 'postgres'), await freePort())),
    start(makeMariadb(below(folder, 'mariadb'), await freePort())),
  ])
  return {
    postgres: postgres.server,
    mariadb: mariadb.server,
    async stop() {
      await Promise.all([postgres.stop(), mariadb.stop()])
    },
  }
}

/** @param {string} folder @param {string} name */
function below(folder, name) {
  const path = join(folder, name)
  mkdirSync(path)
  return path
}

/** @param {import('../../__test__/clients/servers.mjs').Start} how */
async function start({ name, command, args, ready, end: signal, server }) {
  const child = startProgram(command, args)
  const limit = performance.now() + PATIENCE_MS
  while (!(await ready())) {
    if (child.exitCode !== null || performance.now() > limit) throw new PlainError(`${name} did not start`)
    await sleep(50)
  }
  return { server, stop: () => end(child, signal) }
}
