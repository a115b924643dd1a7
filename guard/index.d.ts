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

/** The options of every SQL guard. Wrong or unknown ones are a `TypeError` or `RangeError` of code `INVALID_OPTION`. */
export interface GuardOptions {
  /**
   * The table of the guard's fences, quoted by the guard: a name, not SQL.
   * @default 'fencelock_fences'
   */
  table?: string | undefined
  /** The schema (in MySQL and SQLite: the database) of the table, quoted too. Default: the connection's own. */
  schema?: string | undefined
  /**
   * Whether a transaction is rolled back with {@link LockLostError} when the lock's `signal` has aborted before its
   * commit, or it is not `held` any more. The fence alone keeps the data safe: as long as nobody with a higher token was there, a late writer does no
   * harm. It is looked at when the callback is done; give the callback `lock.signal` to end it sooner.
   * @default false
   */
  abortOnLoss?: boolean | undefined
}

/** The isolation level of a guard's transactions. */
export type IsolationLevel = 'read uncommitted' | 'read committed' | 'repeatable read' | 'serializable'

/** The options of guards whose store has isolation levels. */
export interface IsolatedGuardOptions extends GuardOptions {
  /** Default: the server's own. A guard works with each of them. */
  isolation?: IsolationLevel | undefined
}

/**
 * A guard: writes go through it, and those of a holder that was overtaken are refused.
 *
 * All methods reject with the client's own error when the database refuses or cannot be reached; nothing was written
 * then. `Tx` is what the client uses inside of a transaction.
 */
export interface SqlGuard<Tx> {
  /**
   * Runs `fn` in a transaction that begins with the fence: an equal or lower stored token becomes the lock's, and all who
   * come with a lower one afterwards are refused. Commits when `fn` resolves, rolls back when it rejects. Several
   * resources advance all or none.
   *
   * Everything in `fn` must be done with the `tx` that it gets, and awaited. Reads that a write depends on belong into
   * `fn`, too, or behind {@link SqlGuard.advance}: what was read before the fence may have been changed by an earlier
   * holder since.
   *
   * Conflicts with other transactions (dead-locks, serialization failures) at the fence are tried again, up to 30 times
   * within about 2 seconds; later ones are yours, for the guard does not call `fn` twice. A single connection (no pool)
   * runs one guard at a time, the next ones wait. Nothing else should use it meanwhile: its statements would become part
   * of the transaction. A guard inside of `fn` is refused where it would wait for the outer one: on the same connection, and
   * for the same resource. What it cannot see: a pool that is used up, and the same table through another client object or
   * under another spelling of its name.
   *
   * `fn` must not end the transaction. What does so is found out and told as {@link OutcomeUnknownError}, also when `fn`
   * begins another one, or rejects afterwards; with `Bun.sql` on PostgreSQL only when it rejects, and not with an `adapter`.
   * So `fn` runs in a savepoint called `fencelock`, except with `mysql2` and `Bun.sql` on PostgreSQL.
   *
   * Rejects with
   * - {@link StaleTokenError}: the data has seen a higher token. `fn` was not called
   * - {@link LockLostError}: the lock is not `held`; nothing was sent. Or, with `abortOnLoss`, it was lost meanwhile
   * - {@link OutcomeUnknownError}: COMMIT got no clear answer (the connection broke, or with SQLite the disk failed), or the
   *   transaction ended before `fn` did. What `fn` wrote may stand or not, and so may the fence: `advance` under the same
   *   lock, then read
   * - what `fn` rejected with, and the client's errors: rolled back, unless `fn` had ended the transaction before and that
   *   could not be seen (see above)
   * @example
   * await guard.run(lock, async (tx) => {
   *   const { rows } = await tx.query('SELECT balance FROM account WHERE id = 1')
   *   await tx.query('UPDATE account SET balance = $1 WHERE id = 1', [rows[0].balance + 5])
   * })
   */
  run<T>(lock: FencedLock, fn: (tx: Tx) => T | PromiseLike<T>): Promise<T>
  /**
   * Advances the fence, and nothing else. From then on no holder of a lower token can write, so what is read now stays as
   * it is until somebody with a higher token comes. Then write with {@link SqlGuard.run}. Rejects as `run` does.
   * @example
   * await guard.advance(lock)
   * const report = await expensiveReport(pool)
   * await guard.run(lock, (tx) => save(tx, report))
   */
  advance(lock: FencedLock): Promise<void>
  /**
   * The highest token that the data has seen for a resource; `null` if none. It seeds `minToken` when the store of the
   * locks lost its memory and its clock is behind.
   * @example
   * const lock = await locks.acquire('order:7', { minToken: (await guard.highWater('order:7')) ?? 0n })
   */
  highWater(resource: string): Promise<bigint | null>
  /**
   * The statement that creates the table, for your own migrations. Has no end: no semicolon.
   * @example
   * console.log(guard.ddl())
   */
  ddl(): string
  /**
   * Creates the table unless it is there. Several processes may do it at once.
   * @example
   * await guard.migrate()
   */
  migrate(): Promise<void>
}

/**
 * The guard of a synchronous SQLite client. `fn` must be synchronous: an async function is refused with a `TypeError` of
 * code `INVALID_OPTION` before anything is done, a function that returns a promise is rolled back with the same. With an
 * `await` in the transaction, statements of other code on the same connection would become part of it.
 */
export interface SqliteGuard<Client> extends Omit<SqlGuard<Client>, 'run'> {
  /**
   * As in {@link SqlGuard.run}, in one synchronous step. When another process has the database locked for longer than
   * the client's own busy timeout, it is tried again until about 2 seconds have passed. The event loop waits meanwhile, but
   * for short pauses: a try lasts as long as that timeout.
   * @example
   * await guard.run(lock, (db) => db.prepare('UPDATE account SET balance = ?').run(10))
   */
  run<T>(lock: FencedLock, fn: (db: Client) => T): Promise<T>
  /**
   * The same without a promise; throws. A locked database is an error at once, after the client's own busy timeout.
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

/** What a statement was answered with. */
export interface SqlAnswer {
  /** The rows as objects; missing or empty when it gives none. */
  rows?: readonly any[] | undefined
  /** For MySQL and MariaDB: the insert id that came with the answer. */
  insertId?: number | bigint | string | null | undefined
}

/**
 * How a guard uses a client, for clients and query builders that it does not know: two functions.
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
   * Runs `work` once in a transaction on one connection. Commits when it resolves, and resolves with its result; rolls
   * back when it rejects, and rejects with its error.
   *
   * @param work takes the transaction, and the answer to `how.fence` if the adapter sent that together with its BEGIN
   * @param how `fence` is the first statement of the transaction: sent by `work` unless the adapter did. `question` comes
   *   next, with several resources: an adapter that sends both at once gives the answer to this one instead; only MySQL and
   *   MariaDB need it. `isolation` is the level that was asked for; an adapter that does not heed it must not be given that
   *   option
   */
  transaction<T>(
    work: (tx: Tx, fenceAnswer?: SqlAnswer) => Promise<T>,
    how: {
      fence?: string | undefined
      question?: string | undefined
      isolation?: IsolationLevel | undefined
    },
  ): Promise<T>
  /** Sends one statement, as it is and without parameters, inside of a transaction. */
  query(tx: Tx, text: string): Promise<SqlAnswer>
  /** For a client that is one connection: what identifies it. Guards with the same one take turns. */
  connection?: object | undefined
}

// What the known clients look like. Their own types stay theirs: fencelock depends on none of them.

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
 * A guard of data in PostgreSQL, for `pg` (a Pool, or a connected Client), `postgres` (postgres.js) and `Bun.sql`; for any
 * other client give an `adapter` instead. BEGIN and fence are one round trip with `pg`; with the others the fence is one
 * more. The pool stays yours, the guard never ends it.
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
 * A guard of data in MySQL or MariaDB (InnoDB), for pools and connections of `mysql2`, `mysql2/promise` and `mariadb` (its
 * promise API), and for `Bun.sql`; for any other client give an `adapter` instead. START TRANSACTION and fence are one
 * round trip with `mariadb` (unless `pipelining: false`); with the others the fence is one more, and with several resources
 * another one. The callback gets a connection that gives promises. It is tested against MariaDB.
 *
 * What commits by itself in MySQL (`CREATE TABLE`, `ALTER TABLE`, …) must not be done in the callback. Neither may a
 * single connection be in a transaction when a guard begins: the server would commit it.
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
 * A guard of data in SQLite 3.35 or newer, on your own connection of better-sqlite3, `node:sqlite` or `bun:sqlite`: then
 * everything is synchronous, see {@link SqliteGuard}. For an asynchronous client give an `adapter`, whose transaction
 * must have its connection to itself. The transaction is `BEGIN IMMEDIATE`.
 * @example
 * const guard = sqliteGuard({ client: new Database('data.sqlite') })
 * guard.migrateSync()
 * await guard.run(lock, (db) => db.prepare('UPDATE account SET balance = ? WHERE id = ?').run(10, 1))
 */
export function sqliteGuard<Client extends SyncSqliteClient>(
  options: GuardOptions & { client: Client },
): SqliteGuard<Client>
export function sqliteGuard<Tx>(options: GuardOptions & { adapter: SqlAdapter<Tx> }): SqlGuard<Tx>

/** What {@link fencedUpdate} is to write. All names are quoted. */
export interface FencedUpdate {
  /** The table of the row. */
  table: string
  /** The schema (in MySQL and SQLite: the database) of the table. Default: the connection's own. */
  schema?: string | undefined
  /** The columns to change, and their values. */
  set: Readonly<Record<string, unknown>>
  /** The columns that choose the row, and their values; all of them must be equal, so none may be null. */
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
 * The column form, for those who keep the token in their own row: an UPDATE that stores the token with the data, and
 * changes nothing when the row has seen a higher one: `… WHERE id = $1 AND fence <= $2`. It needs no transaction and no
 * table. When it changed no row, there is none, or the token is stale: then stop. (With MySQL count the rows found, not
 * changed, as its clients do by default.)
 *
 * Reads that the write depends on must come after a fenced update, too. Throws a `TypeError` or `RangeError` of code
 * `INVALID_OPTION`.
 * @example
 * const { text, values } = fencedUpdate('postgres', {
 *   table: 'account',
 *   set: { balance: 10 },
 *   where: { id: 1 },
 *   token: lock.token,
 * })
 * const { rowCount } = await pool.query(text, values)
 * if (rowCount === 0) throw new Error('overtaken')
 */
export function fencedUpdate(
  dialect: 'postgres' | 'mysql' | 'sqlite',
  update: FencedUpdate,
): { text: string; values: unknown[] }
