/**
 * Guards check fencing tokens where the data lives: in PostgreSQL, MySQL, SQLite, Redis, or behind HTTP.
 *
 * @packageDocumentation
 */

import {
  BackendUnavailableError,
  LockError,
  LockLostError,
  OutcomeUnknownError,
  StaleTokenError,
  UnsupportedError,
} from '../index.js'
import { FencedLock } from './fenced-lock.js'

export * from './http.js'
export * from './fenced-lock.js'
export * from './redis.js'
export {
  BackendUnavailableError,
  LockError,
  LockLostError,
  OutcomeUnknownError,
  StaleTokenError,
  UnsupportedError,
}

/**
 * The options of every SQL guard. Invalid or unknown ones throw a `TypeError` or `RangeError` with the code
 * `INVALID_OPTION`. These errors, and those of the guards, have a {@link LockError.help}: the section of the
 * documentation that explains them.
 */
export interface GuardOptions {
  /**
   * The table with the fences: a name, not SQL. The guard quotes it.
   * @default 'fencelock_fences'
   */
  table?: string | undefined
  /**
   * The schema (in MySQL and SQLite: the database) of the table, quoted as well. Default: that of the
   * connection.
   */
  schema?: string | undefined
  /**
   * Whether to roll back with {@link LockLostError} if, before the commit, the lock's `signal` has aborted or
   * it is no longer `held`. The fence alone keeps the data safe: a late write does no harm as long as the
   * data has not seen a higher token. This is checked when the callback is done; pass `lock.signal` to the
   * callback's work to end it sooner.
   * @default false
   */
  abortOnLoss?: boolean | undefined
}

/** The isolation level of a guard's transactions. */
export type IsolationLevel = 'read uncommitted' | 'read committed' | 'repeatable read' | 'serializable'

/** The options of guards whose store has isolation levels. */
export interface IsolatedGuardOptions extends GuardOptions {
  /** Default: that of the server. A guard works with all levels. */
  isolation?: IsolationLevel | undefined
}

/**
 * A guard: writes go through it, and those of a stale holder are rejected.
 *
 * All methods reject with the client's own error when the database refuses or cannot be reached; nothing was
 * written then. `Tx` is the object that the client uses inside a transaction.
 */
export interface SqlGuard<Tx> {
  /**
   * Runs `fn` in a transaction that begins with the fence: it raises the stored token to the lock's, and
   * later calls with a lower token, or an equal one of another owner, are rejected. Commits when `fn`
   * resolves, rolls back when it rejects. The fences of several resources advance together or not at all.
   *
   * Do everything in `fn` with the `tx` that it gets, and await it. Reads that a write depends on belong in
   * `fn`, too, or after {@link SqlGuard.advance}: an earlier holder may change what was read before the
   * fence.
   *
   * Conflicts with other transactions (deadlocks, serialization failures) at the fence are retried, up to 30
   * times within about 2 seconds. Later conflicts reject, because the guard never calls `fn` twice. On a
   * single connection (not a pool) guards run one at a time. Do not use it for anything else meanwhile: those
   * statements would become part of the transaction. A guard inside `fn` is rejected if it would wait for the
   * outer one: on the same connection, for the same resource, or on a pool whose connections are all held by
   * the guards around it. Not detected: that of a pool of `mariadb`, which does not say how large it is; a
   * pool that others exhaust in the same way; the same table through another client object or under another
   * spelling of its name.
   *
   * `fn` must not end the transaction. If it does, this rejects with {@link OutcomeUnknownError}, also when
   * `fn` begins another transaction, or rejects afterwards; with `Bun.sql` on PostgreSQL only when it
   * rejects, and not with an `adapter`. To detect it, `fn` runs in a savepoint called `fencelock`, except
   * with `mysql2` and `Bun.sql` on PostgreSQL.
   *
   * Rejects with
   * - {@link StaleTokenError}: the data has seen a higher token, or this one from another owner. `fn` was not
   *   called
   * - {@link UnsupportedError}: the table does not exist, because {@link SqlGuard.migrate} was not called
   * - {@link LockLostError}: the lock is not `held`; nothing was sent. Or, with `abortOnLoss`, it was lost
   *   meanwhile
   * - {@link OutcomeUnknownError}: COMMIT got no clear answer (the connection broke, or with SQLite the disk
   *   failed), or the transaction ended before `fn` did. The writes of `fn`, and the fence, may or may not
   *   have been committed: `advance` under the same lock, then read
   * - the error of `fn` or of the client: rolled back, unless `fn` had ended the transaction before and that
   *   could not be detected (see above)
   * @example
   * await guard.run(lock, async (tx) => {
   *   const { rows } = await tx.query('SELECT balance FROM account WHERE id = 1')
   *   await tx.query('UPDATE account SET balance = $1 WHERE id = 1', [rows[0].balance + 5])
   * })
   */
  run<T>(lock: FencedLock, fn: (tx: Tx) => T | PromiseLike<T>): Promise<T>
  /**
   * Only advances the fence. After that no holder of a lower token can write, so what you read now remains
   * unchanged until there is a higher token. Then write with {@link SqlGuard.run}. Rejects as `run` does.
   * @example
   * await guard.advance(lock)
   * const report = await expensiveReport(pool)
   * await guard.run(lock, (tx) => save(tx, report))
   */
  advance(lock: FencedLock): Promise<void>
  /**
   * The highest token that the data has seen for a resource; `null` if none. Pass it as `minToken` when the
   * store of the locks lost its data and its clock is behind.
   * @example
   * const lock = await locks.acquire('order:7', { minToken: (await guard.highWater('order:7')) ?? 0n })
   */
  highWater(resource: string): Promise<bigint | null>
  /**
   * The statement that creates the table, for your own migrations. Without a semicolon.
   * @example
   * console.log(guard.ddl())
   */
  ddl(): string
  /**
   * Creates the table unless it exists, and adds the columns of the owner to one of an earlier version.
   * Several processes may do so at the same time. Adding the columns waits for the transactions that use the
   * table. A table without them works on, but there every equal token passes; a guard looks again after
   * five minutes, or at once after its own `migrate`.
   * @example
   * await guard.migrate()
   */
  migrate(): Promise<void>
}

/**
 * The guard of a synchronous SQLite client. `fn` must be synchronous. An async function is rejected with a
 * `TypeError` with the code `INVALID_OPTION` before anything is done; if a function returns a promise, the
 * transaction is rolled back with the same error. With an `await` in the transaction, statements of other
 * code on the connection would become part of it.
 */
export interface SqliteGuard<Client> extends Omit<SqlGuard<Client>, 'run'> {
  /**
   * As in {@link SqlGuard.run}, in one synchronous step. If another process keeps the database locked for
   * longer than the client's own busy timeout, this retries for about 2 seconds. Each attempt blocks the
   * event loop for that timeout; between attempts there are short pauses.
   * @example
   * await guard.run(lock, (db) => db.prepare('UPDATE account SET balance = ?').run(10))
   */
  run<T>(lock: FencedLock, fn: (db: Client) => T): Promise<T>
  /**
   * The same without a promise; throws. Does not retry: a locked database is an error after the client's busy
   * timeout.
   * @example
   * guard.runSync(lock, (db) => db.prepare('UPDATE account SET balance = ?').run(10))
   */
  runSync<T>(lock: FencedLock, fn: (db: Client) => T): T
  /**
   * {@link SqlGuard.advance} without a promise; throws.
   * @example
   * guard.advanceSync(lock)
   */
  advanceSync(lock: FencedLock): void
  /**
   * {@link SqlGuard.highWater} without a promise; throws.
   * @example
   * const token = guard.highWaterSync('order:7')
   */
  highWaterSync(resource: string): bigint | null
  /**
   * {@link SqlGuard.migrate} without a promise; throws.
   * @example
   * guard.migrateSync()
   */
  migrateSync(): void
}

/** The answer to a statement. */
export interface SqlAnswer {
  /** The rows as objects; missing or empty if there are none. */
  rows?: readonly any[] | undefined
  /** For MySQL and MariaDB: the insert id of the answer. */
  insertId?: number | bigint | string | null | undefined
}

/**
 * How a guard uses a client, for other clients and query builders: two functions.
 * @example
 * // Kysely, in TypeScript
 * const guard = postgresGuard<Transaction<Database>>({
 *   adapter: {
 *     transaction: (work) => db.transaction().execute((tx) => work(tx)),
 *     query: (tx, text) => sql.raw(text).execute(tx),
 *   },
 * })
 */
export interface SqlAdapter<Tx> {
  /**
   * Runs `work` once in a transaction on one connection. Commits when it resolves, and resolves with its
   * result; rolls back when it rejects, and rejects with its error.
   *
   * @param work takes the transaction, and the answer to `how.fence` if the adapter sent that together with
   *   its BEGIN
   * @param how `fence` is the first statement of the transaction; `work` sends it unless the adapter did.
   *   `question` is the second one, for several resources: an adapter that sends both at once passes the
   *   answer to this one instead. Only MySQL and MariaDB need it. `isolation` is the option of the guard; do
   *   not set that with an adapter that ignores it
   */
  transaction<T>(
    work: (tx: Tx, fenceAnswer?: SqlAnswer) => Promise<T>,
    how: {
      fence?: string | undefined
      question?: string | undefined
      isolation?: IsolationLevel | undefined
    },
  ): Promise<T>
  /** Sends one statement inside a transaction, unchanged and without parameters. */
  query(tx: Tx, text: string): Promise<SqlAnswer>
  /**
   * For a client that is a single connection: what identifies it. Guards of the same connection run one at a
   * time.
   */
  connection?: object | undefined
  /**
   * For a pool: how many connections it has at most. A guard inside so many others, which hold them all, is
   * rejected. Without it such a guard waits for itself until something times out.
   */
  maxConnections?: number | undefined
}

// The shapes of the known clients. Not their own types, because fencelock depends on none of them.

interface PgPool<Tx> {
  readonly totalCount: number
  connect(callback: (error: any, client: Tx | undefined, done: any) => void): void
}
interface PgClient {
  escapeIdentifier(text: string): string
  query(...args: any[]): any
}
interface PostgresJs<Tx> {
  begin(options: string, work: (tx: Tx) => any): Promise<any>
  unsafe(...args: any[]): any
}
interface MysqlPool<Tx> {
  getConnection(): Promise<Tx>
}
interface Mysql2CallbackPool<Tx> {
  promise(): { getConnection(): Promise<Tx> }
}
interface Mysql2CallbackConnection<Tx> {
  promise(): Tx
}
interface MysqlConnection {
  beginTransaction(): Promise<any>
  query(...args: any[]): Promise<any>
}
interface SyncSqliteClient {
  exec(text: string): any
  prepare(text: string): any
}

/**
 * A guard of data in PostgreSQL, for `pg` (a Pool, or a connected Client), `postgres` (postgres.js) and
 * `Bun.sql`; for any other client pass an `adapter` instead. With `pg`, BEGIN and the fence share a round
 * trip; with the others the fence takes another one. The guard never closes the pool.
 * @example
 * const guard = postgresGuard({ client: new pg.Pool() })
 * await guard.migrate()
 * await guard.run(lock, (tx) => tx.query('UPDATE account SET balance = 10 WHERE id = 1'))
 */
export function postgresGuard<Tx>(
  options: IsolatedGuardOptions & { client: PgPool<Tx> },
): SqlGuard<NonNullable<Tx>>
export function postgresGuard<Client extends PgClient>(
  options: IsolatedGuardOptions & { client: Client },
): SqlGuard<Client>
export function postgresGuard<Tx>(options: IsolatedGuardOptions & { client: PostgresJs<Tx> }): SqlGuard<Tx>
export function postgresGuard<Tx>(options: IsolatedGuardOptions & { adapter: SqlAdapter<Tx> }): SqlGuard<Tx>

/**
 * A guard of data in MySQL or MariaDB (InnoDB), for pools and connections of `mysql2`, `mysql2/promise` and
 * `mariadb` (its promise API), and for `Bun.sql`; for any other client pass an `adapter` instead. With
 * `mariadb`, START TRANSACTION and the fence share a round trip (unless `pipelining: false`); with the others
 * the fence takes another one, and one more with several resources. The callback gets a connection that
 * returns promises. Tested against MariaDB.
 *
 * The callback must not contain statements that commit implicitly in MySQL (`CREATE TABLE`, `ALTER TABLE`,
 * …). A single connection must not be in a transaction when a guard begins: the server would commit it.
 * @example
 * const guard = mysqlGuard({ client: mysql.createPool({ uri }) })
 * await guard.migrate()
 * await guard.run(lock, (tx) => tx.query('UPDATE account SET balance = 10 WHERE id = 1'))
 */
export function mysqlGuard<Tx>(
  options: IsolatedGuardOptions & { client: Mysql2CallbackPool<Tx> },
): SqlGuard<Tx>
export function mysqlGuard<Tx>(options: IsolatedGuardOptions & { client: MysqlPool<Tx> }): SqlGuard<Tx>
export function mysqlGuard<Tx>(
  options: IsolatedGuardOptions & { client: Mysql2CallbackConnection<Tx> },
): SqlGuard<Tx>
export function mysqlGuard<Client extends MysqlConnection>(
  options: IsolatedGuardOptions & { client: Client },
): SqlGuard<Client>
export function mysqlGuard<Tx>(options: IsolatedGuardOptions & { client: PostgresJs<Tx> }): SqlGuard<Tx>
export function mysqlGuard<Tx>(options: IsolatedGuardOptions & { adapter: SqlAdapter<Tx> }): SqlGuard<Tx>

/**
 * A guard of data in SQLite 3.35 or newer, on your own connection of better-sqlite3, `node:sqlite` or
 * `bun:sqlite`: then everything is synchronous, see {@link SqliteGuard}. For an asynchronous client pass an
 * `adapter` whose transactions have the connection to themselves. The transaction is `BEGIN IMMEDIATE`.
 * @example
 * const guard = sqliteGuard({ client: new Database('data.sqlite') })
 * guard.migrateSync()
 * await guard.run(lock, (db) => db.prepare('UPDATE account SET balance = ? WHERE id = ?').run(10, 1))
 */
export function sqliteGuard<Client extends SyncSqliteClient>(
  options: GuardOptions & { client: Client },
): SqliteGuard<Client>
export function sqliteGuard<Tx>(options: GuardOptions & { adapter: SqlAdapter<Tx> }): SqlGuard<Tx>

/** What {@link fencedUpdate} writes. All names are quoted. */
export interface FencedUpdate {
  /** The table of the row. */
  table: string
  /** The schema (in MySQL and SQLite: the database) of the table. Default: that of the connection. */
  schema?: string | undefined
  /** The columns to change, and their values. */
  set: Readonly<Record<string, unknown>>
  /** The columns that select the row, and their values. All must be equal, so none may be null. */
  where: Readonly<Record<string, unknown>>
  /** The lock's token. */
  token: bigint
  /**
   * The column with the highest token that the row has seen: a 64-bit integer, `NOT NULL DEFAULT 0`.
   * @default 'fence'
   */
  fence?: string | undefined
}

/**
 * The column form: an UPDATE that stores the token in the row that it protects, and changes nothing if the
 * row has seen a higher one: `… WHERE id = $1 AND fence <= $2`. It needs no transaction and no further table.
 * If it changes no row, either there is none or the token is stale: then stop. (With MySQL count the rows
 * found, not those changed, as its clients do by default.)
 *
 * It compares tokens, not owners: an equal token passes, as in guards with a lock that has no `owner`. Reads
 * that the write depends on must come after a fenced update, too. Throws a `TypeError` or `RangeError`
 * with the code `INVALID_OPTION` for invalid arguments.
 * @example
 * const { text, values } = fencedUpdate('postgres', {
 *   table: 'account',
 *   set: { balance: 10 },
 *   where: { id: 1 },
 *   token: lock.token,
 * })
 * const { rowCount } = await pool.query(text, values)
 * if (rowCount === 0) throw new Error('stale token')
 */
export function fencedUpdate(
  dialect: 'postgres' | 'mysql' | 'sqlite',
  update: FencedUpdate,
): { text: string; values: unknown[] }
