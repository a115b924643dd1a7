import type { SqlAnswer } from '../../index.js'

/**
 * The statements of a database. They contain their values as hexadecimal and decimal digits, which cannot
 * break out of a literal. Without parameters, `BEGIN` and the fence fit in one message of PostgreSQL's simple
 * protocol, no server-side prepared statement is left behind a connection pooler, and every client and query
 * builder can send them.
 */
export interface Dialect {
  /** The table of the fences, quoted. */
  readonly table: string
  /** Creates the table. */
  readonly ddl: string
  /** The statements of a migration. */
  readonly migration: readonly string[]
  /** Raises the stored tokens to this one, and lowers none. */
  readonly fence: (keys: readonly Buffer[], token: bigint) => string
  /** Reads the tokens without waiting for other transactions. */
  readonly read: (keys: readonly Buffer[]) => string
  /** Reads the tokens after the fence in the same transaction. */
  readonly select: (keys: readonly Buffer[]) => string
  /** The stored tokens by key in hexadecimal; undefined if the answer does not contain them. */
  readonly tokens: (answer: SqlAnswer | undefined, keys: readonly Buffer[]) => Map<string, bigint> | undefined
  /** Another transaction was in the way: repeat this one. */
  readonly isConflict: (error: unknown) => boolean
  /** Another process is creating the table at the same time. */
  readonly isConcurrentCreate: (error: unknown) => boolean
  /** The table of the fences does not exist: the guard was not migrated. */
  readonly isMissingTable: (error: unknown) => boolean
  /** An error at COMMIT that says that nothing was committed. */
  readonly isRefusal: (error: unknown) => boolean
}
