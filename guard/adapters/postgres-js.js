'use strict'

/** `postgres` (postgres.js), and `Bun.sql`, which has the same methods; for `Bun.sql` also with MySQL or MariaDB. */

/**
 * @param {any} client
 * @returns {import('../index').SqlAdapter<any> | undefined}
 */
function postgresJs(client) {
  if (
    typeof client !== 'function' ||
    typeof client.begin !== 'function' ||
    typeof client.unsafe !== 'function'
  ) {
    return undefined
  }
  return {
    transaction: (work, { isolation }) =>
      isolation === undefined ? client.begin(work) : client.begin(`isolation level ${isolation}`, work),
    async query(tx, text) {
      const rows = await tx.unsafe(text)
      return { rows, insertId: rows.lastInsertRowid }
    },
  }
}

module.exports = { postgresJs }
