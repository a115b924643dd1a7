/**
 * PostgreSQL and MariaDB, for the scenario of the guards.
 */
import {
  isMariadbInstalled,
  isPostgresInstalled,
  startMariadb,
  startPostgres,
} from '../../../scripts/servers/sql.mjs'

/** @typedef {import('../../../scripts/servers/sql.mjs').Server} Server */

/**
 * @typedef {{ postgres: Server | null, mariadb: Server | null, stop: () => Promise<void> }} Databases null:
 *   not installed
 */

/** @returns {Promise<Databases>} */
export async function startDatabases() {
  const [postgres, mariadb] = await Promise.all([
    isPostgresInstalled() ? startPostgres() : null,
    isMariadbInstalled() ? startMariadb() : null,
  ])
  return {
    postgres: postgres && postgres.server,
    mariadb: mariadb && mariadb.server,
    async stop() {
      await Promise.all([postgres?.stop(), mariadb?.stop()])
    },
  }
}
