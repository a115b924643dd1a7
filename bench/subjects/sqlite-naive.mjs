/**
 * A naive lock on SQLite: read, then insert or replace, in a transaction, with the default settings.
 */
import { randomUUID } from 'node:crypto'
import { join } from 'node:path'

import { expect } from './common.mjs'
import { TTL_MS } from './conditions.mjs'
import { openDatabase } from './sqlite-driver.mjs'

/** @typedef {import('./index.mjs').Place} Place */
/** @typedef {import('./index.mjs').Subject} Subject */

/** @param {Place & { driver: string }} options @returns {Promise<Subject>} */
export async function open({ driver, folder }) {
  const database = await openDatabase(driver, join(folder, 'naive.sqlite'))
  database.exec('CREATE TABLE locks (resource TEXT PRIMARY KEY, owner TEXT, expires INTEGER)')

  /** @param {string} resource @param {string} owner */
  function acquire(resource, owner) {
    database.exec('BEGIN')
    const row = database.prepare('SELECT expires FROM locks WHERE resource = ?').get(resource)
    const free = !row || row.expires <= Date.now()
    if (free) {
      database
        .prepare('INSERT OR REPLACE INTO locks (resource, owner, expires) VALUES (?, ?, ?)')
        .run(resource, owner, Date.now() + TTL_MS)
    }
    database.exec('COMMIT')
    return free
  }

  return {
    pairSync(resource) {
      const owner = randomUUID()
      expect(acquire(resource, owner), 'not granted')
      const { changes } = database
        .prepare('DELETE FROM locks WHERE resource = ? AND owner = ?')
        .run(resource, owner)
      expect(Number(changes) === 1, 'not released')
    },
    close: () => database.close(),
  }
}
