/** The guards take the types of the real clients, and give their own to the callback. Compiled, never run. */
import type Database from 'better-sqlite3'
import type * as mariadb from 'mariadb'
import type mysqlWithCallbacks from 'mysql2'
import type mysql from 'mysql2/promise'
import type pg from 'pg'
import type { Sql, TransactionSql } from 'postgres'

import type { FencedLock } from '../../guard/index.js'
import { mysqlGuard, postgresGuard, sqliteGuard } from '../../guard/index.js'

/** A callback that asks for more than it gets does not compile. */
declare const lock: FencedLock
export function compiled(
  pool: pg.Pool,
  client: pg.Client,
  sql: Sql,
  mysqlPool: mysql.Pool,
  mysqlConnection: mysql.Connection,
  callbackPool: mysqlWithCallbacks.Pool,
  callbackConnection: mysqlWithCallbacks.Connection,
  mariadbPool: mariadb.Pool,
  mariadbConnection: mariadb.Connection,
  better: Database.Database,
): void {
  void postgresGuard({ client: pool }).run(lock, (tx: pg.PoolClient) => tx)
  void postgresGuard({ client }).run(lock, (tx: pg.Client) => tx)
  void postgresGuard({ client: sql }).run(lock, (tx: TransactionSql) => tx)
  void mysqlGuard({ client: mysqlPool }).run(lock, (tx: mysql.PoolConnection) => tx)
  void mysqlGuard({ client: mysqlConnection }).run(lock, (tx: mysql.Connection) => tx)
  void mysqlGuard({ client: callbackPool }).run(lock, (tx: mysql.PoolConnection) => tx)
  void mysqlGuard({ client: callbackConnection }).run(lock, (tx: mysql.Connection) => tx)
  void mysqlGuard({ client: mariadbPool }).run(lock, (tx: mariadb.PoolConnection) => tx)
  void mysqlGuard({ client: mariadbConnection }).run(lock, (tx: mariadb.Connection) => tx)
  void sqliteGuard({ client: better }).run(lock, (db: Database.Database) => db)
}
