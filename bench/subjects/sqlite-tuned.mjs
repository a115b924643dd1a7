/**
 * A tuned lock on SQLite: WAL, synchronous NORMAL, one b-tree, statements prepared once, and one upsert that
 * takes the lease only if it is free or has expired. A single statement is a transaction that takes the write
 * lock at its start, like BEGIN IMMEDIATE, and saves two statements.
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
  const database = await openDatabase(driver, join(folder, 'tuned.sqlite'))
  database.exec('PRAGMA journal_mode = WAL')
  database.exec('PRAGMA synchronous = NORMAL')
  database.exec(`CREATE TABLE leases (
    resource TEXT NOT NULL PRIMARY KEY, owner TEXT NOT NULL, expires INTEGER NOT NULL
  ) STRICT, WITHOUT ROWID`)
  const acquire = database.prepare(`INSERT INTO leases (resource, owner, expires) VALUES (?, ?, ?)
    ON CONFLICT (resource) DO UPDATE SET owner = excluded.owner, expires = excluded.expires
    WHERE expires <= ?`)
  const release = database.prepare('DELETE FROM leases WHERE resource = ? AND owner = ?')
  return {
    pairSync(resource) {
      const owner = randomUUID()
      const now = Date.now()
      expect(Number(acquire.run(resource, owner, now + TTL_MS, now).changes) === 1, 'not granted')
      expect(Number(release.run(resource, owner).changes) === 1, 'not released')
    },
    close: () => database.close(),
  }
}
