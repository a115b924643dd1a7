/**
 * The three SQLite drivers behind one interface. They agree on `exec`, `prepare`, `run` and `get`, and
 * positional parameters are the fastest with all of them.
 */
import { load } from './common.mjs'

/**
 * @typedef {object} Statement
 * @property {(...values: (string | number)[]) => { changes: number | bigint }} run
 * @property {(...values: (string | number)[]) => any} get a row, or null or undefined
 */

/**
 * @typedef {object} Database
 * @property {(sql: string) => unknown} exec
 * @property {(sql: string) => Statement} prepare
 * @property {() => void} close
 */

/**
 * @param {string} driver
 * @param {string} file
 * @returns {Promise<Database>}
 */
export async function openDatabase(driver, file) {
  switch (driver) {
    case 'bun:sqlite': {
      if (!process.versions.bun) throw new Error('is a part of Bun')
      const { Database } = await load(driver)
      return new Database(file)
    }
    case 'node:sqlite': {
      const { DatabaseSync } = await load(driver)
      return new DatabaseSync(file)
    }
    default: {
      const { default: Database } = await load(driver)
      return new Database(file)
    }
  }
}
