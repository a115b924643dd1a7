/**
 * The database clients that the guards are tested and measured with, behind one interface: tests, child
 * processes and the benchmark do the same few things to the table `data (id, value)` with all of them.
 */
import guards from '../../guard/index.js'

const { mysqlGuard, postgresGuard, sqliteGuard } = guards

/** @typedef {{ host: string, port: number, user: string, password: string, database: string }} Server */

/**
 * @typedef {object} Client
 * @property {(options?: object) => any} guard of this client
 * @property {(tx: any, text: string) => any} rows the result of a statement inside a transaction: a promise,
 *   or the rows themselves where the client is synchronous
 * @property {(text: string) => any} direct the same without a transaction
 * @property {(work: (tx: any) => any) => any} transaction the caller's own transaction, without a guard, as
 *   the client's manual describes it
 * @property {(text: string) => any[]} [all] of SQLite: the rows of any statement
 * @property {(text: string, values: any[]) => number | bigint} [change] of SQLite: how many rows a statement
 *   changed
 * @property {() => any} end
 */

export const TABLE =
  'CREATE TABLE IF NOT EXISTS data (id VARCHAR(100) NOT NULL PRIMARY KEY, value BIGINT NOT NULL)'

/** @type {Record<string, (server: any) => Promise<Client>>} */
const clients = {
  async pg(server) {
    const { default: pg } = await import('pg')
    const pool = new pg.Pool({ ...server, max: 8 })
    return {
      guard: (options) => postgresGuard({ client: pool, ...options }),
      rows: rowsOfPg,
      direct: (text) => rowsOfPg(pool, text),
      async transaction(work) {
        const tx = await pool.connect()
        await ownPostgres(tx, work)
        tx.release()
      },
      end: () => pool.end(),
    }
  },
  async 'pg.Client'(server) {
    const { default: pg } = await import('pg')
    const client = new pg.Client(server)
    await client.connect()
    return {
      guard: (options) => postgresGuard({ client, ...options }),
      rows: rowsOfPg,
      direct: (text) => rowsOfPg(client, text),
      transaction: (work) => ownPostgres(client, work),
      end: () => client.end(),
    }
  },
  async postgres(server) {
    const { default: postgres } = await import('postgres')
    const sql = postgres({
      ...server,
      max: 8,
      // The tests' own statements cause notices; the guard's must not.
      onnotice: ({ message }) => {
        if (!message?.includes('"data"')) console.warn(message)
      },
    })
    return {
      guard: (options) => postgresGuard({ client: sql, ...options }),
      rows: (tx, text) => tx.unsafe(text),
      direct: (text) => sql.unsafe(text),
      transaction: (work) => sql.begin(work),
      // Otherwise it would wait for transactions whose connection broke.
      end: () => sql.end({ timeout: 1 }),
    }
  },
  'Bun.sql': (server) => bunSql('postgres', postgresGuard, server),
  'Bun.sql (MySQL)': (server) => bunSql('mysql', mysqlGuard, server),
  async mysql2(server) {
    const { default: mysql } = await import('mysql2/promise')
    return mysql2(mysql.createPool({ ...server, connectionLimit: 8 }))
  },
  async 'mysql2 connection'(server) {
    const { default: mysql } = await import('mysql2/promise')
    return mysql2(await mysql.createConnection(server))
  },
  async 'mysql2 with callbacks'(server) {
    const { default: mysql } = await import('mysql2')
    const pool = mysql.createPool({ ...server, connectionLimit: 8 })
    return { ...mysql2(pool.promise()), guard: (options) => mysqlGuard({ client: pool, ...options }) }
  },
  async mariadb(server) {
    const { default: mariadb } = await import('mariadb')
    return mariadbClient(mariadb.createPool({ ...server, connectionLimit: 8 }))
  },
  async 'mariadb connection'(server) {
    const { default: mariadb } = await import('mariadb')
    return mariadbClient(await mariadb.createConnection(server))
  },
  async 'better-sqlite3'(file) {
    const { default: Database } = await import('better-sqlite3')
    return sqlite(new Database(file))
  },
  async 'node:sqlite'(file) {
    const { DatabaseSync } = await load('node:sqlite')
    return sqlite(new DatabaseSync(file))
  },
  async 'bun:sqlite'(file) {
    const { Database } = await load('bun:sqlite')
    return sqlite(new Database(file))
  },
}

/**
 * Imports a module of this runtime that the type checker does not know.
 *
 * @param {string} name
 * @returns {Promise<any>}
 */
function load(name) {
  return import(/* @vite-ignore */ name)
}

/** @param {string} name @param {Server | string} server the file's path for SQLite */
export function openClient(name, server) {
  const open = clients[name]
  if (open === undefined) throw new Error(`there is no client ${name}`)
  return open(server)
}

/** @param {'postgres' | 'mysql'} adapter @param {any} makeGuard @param {Server} server */
async function bunSql(adapter, makeGuard, { host, user, ...server }) {
  const { SQL } = /** @type {any} */ (globalThis).Bun
  const sql = new SQL({ adapter, hostname: host, username: user, max: 8, ...server })
  return {
    guard: (/** @type {object | undefined} */ options) => makeGuard({ client: sql, ...options }),
    rows: (/** @type {any} */ tx, /** @type {string} */ text) => tx.unsafe(text),
    direct: (/** @type {string} */ text) => sql.unsafe(text),
    transaction: (/** @type {(tx: any) => any} */ work) => sql.begin(work),
    end: () => sql.end(),
  }
}

/** @param {any} tx @param {string} text */
async function rowsOfPg(tx, text) {
  return (await tx.query(text)).rows
}

/** @param {any} tx @param {string} text */
async function rowsOfMysql2(tx, text) {
  return (await tx.query(text))[0]
}

/** @param {any} tx @param {string} text */
function rowsOfSqlite(tx, text) {
  if (/^\s*SELECT/.test(text)) return tx.prepare(text).all()
  tx.exec(text)
  return []
}

/** @param {any} tx @param {(tx: any) => any} work */
async function ownPostgres(tx, work) {
  await tx.query('BEGIN')
  await work(tx)
  await tx.query('COMMIT')
}

/** @param {any} client */
function mysql2(client) {
  return {
    guard: (/** @type {object | undefined} */ options) => mysqlGuard({ client, ...options }),
    rows: rowsOfMysql2,
    direct: (/** @type {string} */ text) => rowsOfMysql2(client, text),
    transaction: (/** @type {(tx: any) => any} */ work) => ownMysql(client, work),
    end: () => client.end(),
  }
}

/** @param {any} client */
function mariadbClient(client) {
  return {
    guard: (/** @type {object | undefined} */ options) => mysqlGuard({ client, ...options }),
    rows: (/** @type {any} */ tx, /** @type {string} */ text) => tx.query(text),
    direct: (/** @type {string} */ text) => client.query(text),
    transaction: (/** @type {(tx: any) => any} */ work) => ownMysql(client, work),
    end: () => client.end(),
  }
}

/** @param {any} client @param {(tx: any) => any} work */
async function ownMysql(client, work) {
  const isPool = typeof client.getConnection === 'function'
  const tx = isPool ? await client.getConnection() : client
  await tx.beginTransaction()
  await work(tx)
  await tx.commit()
  if (isPool) await tx.release()
}

/** @param {any} db */
function sqlite(db) {
  db.exec('PRAGMA busy_timeout = 2000')
  db.prepare('PRAGMA journal_mode = WAL').all()
  db.exec('PRAGMA synchronous = OFF')
  return {
    guard: (/** @type {object | undefined} */ options) => sqliteGuard({ client: db, ...options }),
    rows: rowsOfSqlite,
    direct: (/** @type {string} */ text) => rowsOfSqlite(db, text),
    transaction(/** @type {(tx: any) => any} */ work) {
      db.exec('BEGIN IMMEDIATE')
      work(db)
      db.exec('COMMIT')
    },
    change: (/** @type {string} */ text, /** @type {any[]} */ values) =>
      db.prepare(text).run(...values).changes,
    all(/** @type {string} */ text) {
      const statement = db.prepare(text)
      // better-sqlite3 requires this distinction.
      return statement.reader === false ? (statement.run(), []) : statement.all()
    },
    end: () => db.close(),
  }
}
