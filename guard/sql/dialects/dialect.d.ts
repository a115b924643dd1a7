import type { SqlAnswer } from '../../index.js'

/** What a row of the table says. */
export interface Stored {
  readonly token: bigint
  /** The owner in the row; undefined if there is none, or the answer does not contain it. */
  readonly owner: bigint | undefined
}

/**
 * The statements of a database. They contain their values as hexadecimal and decimal digits, which cannot
 * break out of a literal. Without parameters, `BEGIN` and the fence fit in one message of PostgreSQL's simple
 * protocol, no server-side prepared statement is left behind a connection pooler, and every client and query
 * builder can send them.
 *
 * The owner in a row counts only if `owner_token` is the row's token. Statements without an owner, such as
 * those of earlier versions, raise the token and leave both columns as they are.
 */
export interface Dialect {
  /** The table of the fences, quoted. */
  readonly table: string
  /** Creates the table. */
  readonly ddl: string
  /** The statements of a migration that create the table. */
  readonly creation: readonly string[]
  /** Finds the columns of the owner: a row for each, with its `name` or `Field`. */
  readonly columns: string
  /** Adds one of these columns to a table of an earlier version. */
  readonly addColumn: (name: string) => string
  /**
   * Raises the stored tokens to this one, and lowers none. With an owner it stores that beside a higher
   * token, and beside an equal one that has none yet.
   */
  readonly fence: (keys: readonly Buffer[], token: bigint, owner: bigint | undefined) => string
  /** Reads the tokens without waiting for other transactions. */
  readonly read: (keys: readonly Buffer[]) => string
  /** Reads the tokens, and if `owners` the owners, after the fence in the same transaction. */
  readonly select: (keys: readonly Buffer[], owners: boolean) => string
  /**
   * What is stored after the fence, by key in hexadecimal; undefined if the answer does not contain it. A
   * missing owner in it is not that of another lock.
   */
  readonly stored: (answer: SqlAnswer | undefined, keys: readonly Buffer[]) => Map<string, Stored> | undefined
  /** Another transaction was in the way: repeat this one. */
  readonly isConflict: (error: unknown) => boolean
  /** Another process is creating the table, or one of its columns, at the same time. */
  readonly isConcurrentCreate: (error: unknown) => boolean
  /** The table of the fences does not exist: the guard was not migrated. */
  readonly isMissingTable: (error: unknown) => boolean
  /** The table is of an earlier version, without columns for owners. */
  readonly isMissingColumn: (error: unknown) => boolean
  /** An error at COMMIT that says that nothing was committed. */
  readonly isRefusal: (error: unknown) => boolean
}
