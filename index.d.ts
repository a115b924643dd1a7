/// <reference lib="esnext.disposable" />

/**
 * fencelock: locks that say honestly what they guarantee.
 *
 * A lease alone is never a guarantee: a paused process can wake up after its lease ended. Pass the lock's
 * {@link Lock.token} to where the data lives and refuse writes with a lower one than the highest seen.
 *
 * @packageDocumentation
 */

/**
 * Which promise a lock keeps.
 *
 * - `'strong'`: a lease on one Redis primary that counts only when its replicas acknowledged it. Narrows the window in
 *   which a failover loses the lock; does not close it.
 * - `'local'`: a lease in a SQLite file, for the processes of one host, or of containers that share a volume on it.
 */
export type Strategy = 'strong' | 'local'

/** How to reach a Redis (6.2 or newer) or Valkey server, and what it is meant to look like. */
export interface RedisOptions {
  /**
   * `redis://[user:password@]host[:port][/db]`, `rediss://…` for TLS, or `redis+unix:///path/to/socket[?db=1]`.
   */
  url: string
  /**
   * How many replicas the server is MEANT to have: an integer from 0 to 1,000. Declared, because an isolated primary
   * sees none and would find that enough. 0 is for a development server.
   * @default 2
   */
  replicas?: number | undefined
  /** ACL user; overrides the URL's. */
  username?: string | undefined
  /** Overrides the URL's. */
  password?: string | undefined
  /** Database number; overrides the URL's. */
  db?: number | undefined
  /** For `rediss://` URLs. */
  tls?: TlsOptions | undefined
  /**
   * Time limit for connecting and logging in, in milliseconds: an integer from 1 to 600,000.
   * @default 5_000
   */
  connectTimeoutMs?: number | undefined
  /**
   * Time limit for a command, beyond the time that acknowledgements may take, in milliseconds: an integer from 1 to
   * 600,000. A connection that exceeds it is closed.
   * @default 2_000
   */
  commandTimeoutMs?: number | undefined
}

/** TLS for `rediss://` URLs. Certificates and keys are PEM, as text or as its bytes. */
export interface TlsOptions {
  /**
   * The certificate authorities to trust.
   * @default the Mozilla roots built into the addon
   */
  ca?: string | Uint8Array | undefined
  /** Client certificate chain; needs `key`. */
  cert?: string | Uint8Array | undefined
  /** The client certificate's private key. */
  key?: string | Uint8Array | undefined
  /**
   * The name the server's certificate must have.
   * @default the URL's host
   */
  serverName?: string | undefined
  /**
   * `false` takes any certificate: whoever is in between can read the password and grant locks.
   * @default true
   */
  rejectUnauthorized?: boolean | undefined
}

/** The file of local locks. */
export interface LocalOptions {
  /**
   * A SQLite file of fencelock's own, never your application's database. Made when it is missing; its directory must
   * exist and be writable. Relative paths count from the working directory at the time the manager is made. Containers
   * share the directory, not the file: one that has hard links or is mounted by itself gets {@link UnsupportedError}.
   * @default 'locks.sqlite'
   */
  path?: string | undefined
  /**
   * What a granted lease survives. `'normal'`: the death of any process. `'full'`: power loss too, at the price of a
   * disk flush for every commit.
   * @default 'normal'
   */
  durability?: 'normal' | 'full' | undefined
  /**
   * Take the file also on a network or FUSE file system, where SQLite's locks may not work: then without WAL, judged
   * by wall clocks alone, and without taking over from dead holders. Otherwise such a file gets `UnsupportedError`.
   * @default false
   */
  allowNetworkFilesystem?: boolean | undefined
}

/** What `new LockManager()` takes. */
export interface ManagerOptions {
  /**
   * The strategy of `acquire` and `tryAcquire`, and the default of `inspect`, `forceRelease` and `describe`.
   * @default 'strong' if `redis` is given, else 'local'
   */
  strategy?: Strategy | undefined
  /** For strong locks: a URL, or options. */
  redis?: string | RedisOptions | undefined
  /** For local locks: a path, or options. */
  local?: string | LocalOptions | undefined
  /**
   * Begins every Redis key: 1 to 64 bytes without braces, spaces and control characters. Services that share a server
   * and a prefix share their locks.
   * @default 'fencelock'
   */
  prefix?: string | undefined
  /**
   * For every acquire of this manager that does not say otherwise. What concerns strong locks only is checked, and
   * ignored for others.
   */
  defaults?: Omit<StrongOptions, 'signal' | 'minToken'> | undefined
}

/** How long a lease is kept alive. */
export interface RenewOptions {
  /**
   * How long the lease is renewed, in milliseconds, counted from the grant: an integer of at least 1, or `Infinity`.
   * From then on it runs out: it ends a TTL later at most. {@link Lock.signal} aborts in time and says so.
   * @default Infinity
   */
  maxHoldMs?: number | undefined
  /**
   * How long the event loop may be blocked, in milliseconds: an integer of at least 1, or `Infinity`. The lease is not
   * renewed while the event loop has given no sign of life for longer, so that a process that hangs for good gives up its
   * locks.
   * @default 30_000
   */
  maxStallMs?: number | undefined
}

/** What every acquire takes. */
export interface AcquireOptions {
  /**
   * How long the lease lasts, in milliseconds: an integer from 10 to 86,400,000 (24 h).
   * @default 10_000
   */
  ttlMs?: number | undefined
  /**
   * How long `acquire…` waits while somebody else has it, in milliseconds: an integer from 0, which is one attempt, or
   * `Infinity`. When it is over the call rejects with {@link LockHeldError}. Those who wait in one process for the same
   * resource are served in the order in which they came; across processes, with `fair`. The `tryAcquire…` methods do not
   * wait.
   *
   * Who was told that somebody else has it goes on waiting when the backend goes away or too few replicas acknowledge, and
   * gets that error if it is still so in the end; who finds it so with the first attempt is told at once. An attempt that is
   * under way is seen to its end, so with a server that hangs a call can take longer by the server's own time limits;
   * `signal` ends it at once.
   * @default 0, and 10_000 in {@link LockManager.withLock}
   */
  waitMs?: number | undefined
  /**
   * First come, first served, across processes: while fair waiters are in line for a resource nobody else gets it, not
   * even when it is free and by `tryAcquire…`. Costs each waiter a place in line in the backend.
   * @default false
   */
  fair?: boolean | undefined
  /**
   * Keeps the lease alive: a native thread extends it by `ttlMs`, first a third of that after the grant was asked for,
   * then a third after each renewal, with the same `acks`. It goes on while the event loop is blocked. A renewal that
   * fails is tried again until the lease is about to end. It ends with the release, the manager, or the loss of the lease,
   * when the handle is garbage-collected (which is not
   * before then if its {@link Lock.signal} was read), and at the limits that an object sets; `true` sets those of the manager's
   * `defaults`. It does not keep the process alive.
   * @default false, and true in {@link LockManager.withLock}
   * @example
   * const lock = await locks.acquire('migration', { ttlMs: 30_000, renew: { maxHoldMs: 3_600_000 } })
   */
  renew?: boolean | RenewOptions | undefined
  /**
   * Cancels the waiting, never the lease: the call rejects with `signal.reason`, and a grant that comes afterwards is
   * given back.
   */
  signal?: AbortSignal | undefined
  /**
   * The token must be above this: the high-water mark of the data it guards, after the lock service lost its memory.
   * From 0n to below 2^53 − 2^40.
   * @default 0n
   */
  minToken?: bigint | undefined
}

/** What acquires of strong locks take. */
export interface StrongOptions extends AcquireOptions {
  /**
   * How many replicas must acknowledge the lease: an integer from 0 to the declared `replicas`, `'all'` of them, or
   * `'majority'`, which is floor(replicas / 2) + 1, the majority of those left when the primary dies.
   * @default 'all'
   */
  acks?: number | 'majority' | 'all' | undefined
  /**
   * How long to wait for the acknowledgements, in milliseconds: an integer from 1 to half of `ttlMs`. A longer default
   * of the manager is cut to that.
   * @default the smaller of 50 and a quarter of `ttlMs`
   */
  ackTimeoutMs?: number | undefined
}

/** A lease, as its holder sees it. */
export interface Lock extends AsyncDisposable {
  /** The first of {@link Lock.resources}. */
  readonly resource: string
  /** What the lease covers, in the caller's order. */
  readonly resources: readonly string[]
  /** Which promise it keeps. */
  readonly strategy: Strategy
  /** 32 hexadecimal digits, new for every attempt. */
  readonly owner: string
  /**
   * The fencing token: strictly increasing per resource, across processes and restarts. Give it to where the data
   * lives, and refuse writes with a token lower than the highest seen.
   * @example
   * await db.query('UPDATE invoice SET state = $1, fence = $2 WHERE id = $3 AND fence <= $2', ['paid', lock.token, id])
   */
  readonly token: bigint
  /** Acknowledgements of the grant by replicas; `null` for local locks and when none were asked for. */
  readonly acks: { readonly required: number; readonly received: number } | null
  /** Whether the lease still counts, by its deadline; no I/O. `false` for ever once it was. */
  readonly held: boolean
  /** For how many milliseconds more the lease counts, by its deadline; 0 when it does not. No I/O. */
  readonly remainingMs: number
  /**
   * Aborts with a {@link LockLostError} before the lease ends (by 10 % of the TTL, 500 ms at most) unless it is extended
   * or renewed, as soon as its loss is known, or when the manager is closed. Not when the lock is released.
   *
   * Made on first read. It has aborted already when the lease has ended by then, and when the lease cannot be watched,
   * which the reason says; first read after a release, it never aborts. A lock whose signal was read stays in memory until its lease ends, so that
   * listeners are called; if it is renewed, that is when it is released, lost, or at a limit of `renew`. No extension takes
   * an abort back.
   * @example
   * await fetch('https://ledger.example/post', { method: 'POST', body, signal: lock.signal })
   */
  readonly signal: AbortSignal
  /**
   * Makes the lease last this long from now, never shorter than it would. Default: the TTL it was granted with.
   *
   * Rejects with {@link LockLostError} when the lease is no longer ours, which an extension never revives; with
   * {@link InsufficientReplicasError} or {@link OutcomeUnknownError} nothing is rolled back, and {@link Lock.held} and
   * the deadline stay as they were.
   * @example
   * for (const page of pages) {
   *   await lock.extend()
   *   await migrate(page, lock.token)
   * }
   */
  extend(ttlMs?: number): Promise<void>
  /**
   * Ends the lease. `false`: it had ended before, or somebody else has it now; that is no error. A second call returns
   * the first one's promise. When the backend cannot be reached it rejects, and the cleanup goes on in the background.
   * @example
   * if (!(await lock.release())) console.warn('the work outlived its lease')
   */
  release(): Promise<boolean>
  /** What `await using` calls: releases, and never rejects. */
  [Symbol.asyncDispose](): Promise<void>
  /** Plain data, with the token as a decimal string. */
  toJSON(): object
}

/** A lease in the lock file of this host. */
export interface LocalLock extends Lock, Disposable {
  /**
   * Like {@link Lock.release}, on the calling thread.
   * @example
   * const lock = manager.tryAcquireLocalSync('cache')
   * if (lock) try { rebuild() } finally { lock.releaseSync() }
   */
  releaseSync(): boolean
  /** What `using` calls: releases, and never throws. */
  [Symbol.dispose](): void
}

/** Who holds a resource. */
export interface LockInfo {
  readonly resource: string
  readonly strategy: Strategy
  /** The holder's {@link Lock.owner}. */
  readonly owner: string
  /** The holder's token; 0n if the backend has lost it. */
  readonly token: bigint
  /**
   * How long the lease still lasts, in milliseconds, unless it is extended. `Infinity` for a lock without TTL, which is
   * not one of ours: it ends by {@link LockManager.forceRelease}, or whoever made it.
   */
  readonly remainingMs: number
  /** Plain data, with the token as a decimal string. JSON writes a `remainingMs` of `Infinity` as `null`. */
  toJSON(): object
}

/**
 * Whether mutual exclusion survives something.
 * - `'yes'`: nobody else gets the lock while its holder may still work.
 * - `'with a guard'`: somebody else may get it while its holder still works, so the lock alone is not enough. What is
 *   written stays right where a guard checks the token, because tokens go on rising.
 * - `'not applicable'`: it cannot happen here.
 */
export type Verdict = 'yes' | 'with a guard' | 'not applicable'

/** A verdict, and why. */
export interface Survival {
  readonly verdict: Verdict
  /** In plain words. */
  readonly words: string
}

/** What a deployment's locks survive. */
export interface Survives {
  /** The holder's process dies. */
  readonly processCrash: Survival
  /** The holder's process stands still for longer than its lease lasts, and goes on. */
  readonly pause: Survival
  /** The primary's process dies, and comes back. */
  readonly primaryCrash: Survival
  /** A replica takes the primary's place. */
  readonly failover: Survival
  /** Some of the hosts cannot reach the others. */
  readonly partition: Survival
  /** A wall clock is set. */
  readonly clockStep: Survival
  /** All of the deployment loses power. */
  readonly powerLoss: Survival
}

/** What a Redis server says about itself; `null` is what it does not tell, or its provider keeps back. */
export interface ServerInfo {
  readonly product: 'Redis' | 'Valkey'
  readonly version: string | null
  readonly role: 'primary' | 'replica' | null
  readonly persistence: {
    /** Whether it writes an append-only file. */
    readonly aof: boolean | null
    /** When that is flushed to disk: `'always'`, `'everysec'` or `'no'`. Set also while `aof` is false. */
    readonly fsync: string | null
    /** Whether it writes snapshots by itself. */
    readonly rdb: boolean | null
  }
  /** Its `maxmemory-policy`. A lock store must not evict: `'noeviction'`, or no limit. */
  readonly evictionPolicy: string | null
  /** The limit that it evicts at, in bytes; 0 for none. */
  readonly maxMemoryBytes: number | null
  /** Its clock against this host's: how far it is ahead in milliseconds, and how exact that is (half a round trip). */
  readonly clock: { readonly skewMs: number; readonly errorMs: number } | null
}

/** What is seen of a lock file. */
export interface LockFileInfo {
  /** Absolute. */
  readonly path: string
  /** Whether it is there already; if not, the rest is what it will be. */
  readonly exists: boolean
  /** For example `'ext4'`, `'tmpfs'`, `'NFS'`; `null` for one without a name that we know. */
  readonly filesystem: string | null
  /** Whether other hosts, or another program, can see it too. */
  readonly network: boolean
  /** Whether a commit survives power loss (`'full'`), or only the end of processes. */
  readonly durability: 'normal' | 'full'
  /** SQLite's journal: `'wal'`, or `'delete'` on a network file system. */
  readonly journal: string
}

/** What a deployment guarantees. */
export interface Guarantee {
  readonly strategy: Strategy
  /** How many acknowledgements an acquire asks for by default; `null` for local locks. */
  readonly acks: number | null
  /** Replicas as declared and as connected right now; `null` for local locks. */
  readonly replicas: { readonly declared: number; readonly connected: number | null } | null
  /** In plain words. */
  readonly summary: string
  /** What the locks survive, by themselves or with a guard. */
  readonly survives: Survives
  /** The server; `null` for local locks. */
  readonly server: ServerInfo | null
  /** The lock file; `null` for locks of a server. */
  readonly file: LockFileInfo | null
  /** What to look at, each with what to do. */
  readonly warnings: readonly string[]
}

/** What a manager has done since it was made. */
export interface ManagerStats {
  /** Leases in hand right now: granted, and neither released nor dropped. */
  readonly held: number
  /** Calls of `acquire…` and `tryAcquire…` that are not answered yet. */
  readonly pending: number
  /** Those of them that may wait for somebody else's lease to end: calls with `waitMs`. */
  readonly waiting: number
  /** Unknown outcomes that are still being cleaned up in the background. */
  readonly cleanups: number
  /** Attempts that got the lease. */
  readonly granted: number
  /** Calls that ended because somebody else has it. Those who wait are `waiting`. */
  readonly busy: number
  /** Attempts that too few replicas acknowledged. */
  readonly insufficient: number
  /** Attempts whose outcome is unknown. */
  readonly unknown: number
  /** Attempts that failed in any other way. */
  readonly failed: number
  /** Extensions that were acknowledged, renewals among them. */
  readonly extended: number
  /** Releases that ended a lease. */
  readonly released: number
  /** Leases that were found lost. */
  readonly lost: number
}

/**
 * Takes locks. Make one for a process and keep it: it shares connections among all its locks.
 *
 * Every asynchronous method rejects with a {@link ClosedError} after {@link LockManager.close}, and with a `TypeError`
 * or `RangeError` of code `'INVALID_OPTION'` for arguments it cannot take. A resource is a string of 1 to 512 bytes of
 * well-formed Unicode. Where several are given (1,000 at most), all of them are locked or none, with one token.
 *
 * @example
 * const locks = new LockManager({ redis: 'redis://127.0.0.1:6379' })
 * const lock = await locks.acquire('invoice:42', { ttlMs: 30_000 })
 * try {
 *   await pay(42, lock.token)
 * } finally {
 *   await lock.release()
 * }
 */
export class LockManager implements AsyncDisposable {
  /**
   * Checks the options and throws at once; connects on first use.
   * @example
   * new LockManager() // local locks in ./locks.sqlite
   * new LockManager({ redis: { url: 'redis://127.0.0.1:6379', replicas: 0 } }) // a development server
   */
  constructor(options?: ManagerOptions)

  /**
   * Connects to Redis if it is configured, and opens the lock file if it is named or the default strategy is local, so
   * that a wrong configuration shows early. Every other call connects by itself.
   * @example
   * await locks.connect()
   */
  connect(): Promise<void>

  /**
   * Takes a strong lock: with one attempt, or as many as `waitMs` allows.
   *
   * Rejects with {@link LockHeldError}, {@link InsufficientReplicasError}, {@link OutcomeUnknownError},
   * {@link BackendUnavailableError}, {@link UnsupportedError}; with {@link LockLostError} if the grant took longer to
   * arrive than its lease lasts.
   * @example
   * const lock = await locks.acquireStrong(['account:1', 'account:2'], { ttlMs: 5_000, acks: 'majority' })
   */
  acquireStrong(resource: string | readonly string[], options?: StrongOptions): Promise<Lock>
  /**
   * Like {@link LockManager.acquireStrong}, but resolves with `null` when somebody else has it.
   * @example
   * const lock = await locks.tryAcquireStrong('nightly-report')
   * if (lock === null) return // another instance is at it
   */
  tryAcquireStrong(resource: string | readonly string[], options?: StrongOptions): Promise<Lock | null>

  /**
   * Takes a local lock: with one attempt, or as many as `waitMs` allows. The lease of a holder that died is taken over at once.
   *
   * Rejects with {@link LockHeldError}, {@link BackendUnavailableError}, {@link UnsupportedError}.
   * @example
   * await using lock = await locks.acquireLocal('import', { ttlMs: 60_000 })
   */
  acquireLocal(resource: string | readonly string[], options?: AcquireOptions): Promise<LocalLock>
  /**
   * Like {@link LockManager.acquireLocal}, but resolves with `null` when somebody else has it.
   * @example
   * const lock = await locks.tryAcquireLocal('thumbnails')
   */
  tryAcquireLocal(resource: string | readonly string[], options?: AcquireOptions): Promise<LocalLock | null>
  /**
   * Like {@link LockManager.tryAcquireLocal}, on the calling thread. It blocks it for the time of a small SQLite
   * transaction; when another process keeps the file busy, for two seconds at most.
   * @example
   * using lock = locks.tryAcquireLocalSync('compile-cache')
   */
  tryAcquireLocalSync(resource: string | readonly string[], options?: AcquireOptions): LocalLock | null

  /**
   * Takes a lock of the manager's `strategy`: with one attempt, or as many as `waitMs` allows.
   * @example
   * const lock = await locks.acquire('order:7')
   */
  acquire(resource: string | readonly string[], options?: StrongOptions): Promise<Lock>
  /**
   * Like {@link LockManager.acquire}, but resolves with `null` when somebody else has it.
   * @example
   * const lock = await locks.tryAcquire('order:7')
   */
  tryAcquire(resource: string | readonly string[], options?: StrongOptions): Promise<Lock | null>

  /**
   * Takes a lock of the manager's `strategy`, runs the function with it, and releases it. The lease is renewed until then
   * (`renew: true`), and `waitMs` is 10,000, unless the options or the manager's `defaults` say otherwise.
   *
   * Resolves with what the function returned; rejects with what it threw, whatever became of the lock. If the lock was
   * lost before the function was done and it did not throw, rejects with a {@link LockLostError} whose `result` is what
   * the function returned. An unreachable backend at the end is no error: the lease is cleaned up in the background.
   * Rejects like the acquire when there is no lock; then the function is not called. `signal` cancels the waiting, not
   * the function: give it {@link Lock.signal}.
   * @example
   * const total = await locks.withLock('ledger', async (lock) => {
   *   const rows = await readAll({ signal: lock.signal })
   *   return write(rows, lock.token)
   * })
   */
  withLock<T>(resource: string | readonly string[], fn: (lock: Lock) => T | PromiseLike<T>): Promise<T>
  /**
   * The same with options.
   * @example
   * await locks.withLock(['account:1', 'account:2'], { ttlMs: 5_000, renew: { maxHoldMs: 60_000 } }, transfer)
   */
  withLock<T>(
    resource: string | readonly string[],
    options: StrongOptions | undefined,
    fn: (lock: Lock) => T | PromiseLike<T>,
  ): Promise<T>

  /**
   * Who holds a resource; `null` when it is free. An error is never told as free.
   * @example
   * const info = await locks.inspect('order:7')
   * if (info) console.log(`held with token ${info.token} for ${info.remainingMs} ms more`)
   */
  inspect(resource: string, options?: { strategy?: Strategy | undefined }): Promise<LockInfo | null>
  /**
   * Ends whatever lease the resource has, whosever it is; `false`: it was free. The holder is not stopped: only the
   * fence protects the data from it.
   * @example
   * await locks.forceRelease('order:7')
   */
  forceRelease(resource: string, options?: { strategy?: Strategy | undefined }): Promise<boolean>
  /**
   * What this deployment guarantees, as far as can be seen now: what its locks survive by themselves and what they need
   * a guard for, in words and fields. For locks that ask for the manager's default `acks`. It makes no lock file.
   *
   * Rejects with {@link BackendUnavailableError} or {@link UnsupportedError}.
   * @example
   * const { summary, survives, warnings } = await locks.describe()
   * for (const warning of warnings) console.warn(warning)
   * if (survives.failover.verdict !== 'yes') console.log(survives.failover.words)
   */
  describe(options?: { strategy?: Strategy | undefined }): Promise<Guarantee>
  /**
   * What this manager has done so far. No I/O.
   * @example
   * const { held, pending } = locks.stats()
   */
  stats(): ManagerStats
  /**
   * Takes no further call, releases what is held, waits for attempts that are still under way, and gives up connections
   * and files. Never rejects; idempotent.
   *
   * With a backend that answers, that takes milliseconds. With one that is away, releases take as long as their time
   * limits let them (`connectTimeoutMs`, `commandTimeoutMs`), and then attempts that are still under way up to 10
   * seconds more. What is left is cleaned up in the background, or runs out.
   * @example
   * process.once('SIGTERM', () => {
   *   server.close() // whatever else keeps the process alive
   *   void locks.close()
   * })
   */
  close(): Promise<void>
  /** What `await using` calls: {@link LockManager.close}. */
  [Symbol.asyncDispose](): Promise<void>
}

/** The `code` of an error. Branch on it; `instanceof` works too, also across two copies of this package. */
export type LockErrorCode =
  | 'LOCK_HELD'
  | 'INSUFFICIENT_REPLICAS'
  | 'OUTCOME_UNKNOWN'
  | 'LOCK_LOST'
  | 'BACKEND_UNAVAILABLE'
  | 'UNSUPPORTED'
  | 'STALE_TOKEN'
  | 'CLOSED'

/** What every error of a lock is. Wrong arguments are native `TypeError`s and `RangeError`s of code `INVALID_OPTION`. */
export abstract class LockError extends Error {
  readonly code: LockErrorCode
  /** The (first) resource, where there is one. */
  readonly resource: string | undefined
  readonly strategy: Strategy | undefined
  /** The underlying failure, where there is one. */
  readonly cause?: unknown
  toJSON(): object
}

/** Somebody else holds it; nothing was granted. */
export class LockHeldError extends LockError {
  readonly code: 'LOCK_HELD'
  /** How long the holder's lease still lasts, in milliseconds, unless it is extended; undefined if unknown. */
  readonly remainingMs: number | undefined
}

/**
 * Too few replicas acknowledged in time. A grant does not count then, and is rolled back. Of an extension nothing is
 * rolled back, and the lease keeps the deadline it had.
 */
export class InsufficientReplicasError extends LockError {
  readonly code: 'INSUFFICIENT_REPLICAS'
  /** How many acknowledgements were asked for. */
  readonly required: number
  /** How many came. */
  readonly received: number
  /** How many replicas the primary said were connected; undefined if it could not be asked. */
  readonly connected: number | undefined
  /**
   * Whether this primary confirmed that nothing of the attempt is left on it. If not, cleanup goes on. Always `false`
   * for an extension: there is nothing to roll back.
   */
  readonly rolledBack: boolean
}

/**
 * The connection broke after the request was sent: the grant may stand until its TTL. Cleanup goes on. From a guard: the
 * write may stand or not; advance the fence under the same lock, then read.
 */
export class OutcomeUnknownError extends LockError {
  readonly code: 'OUTCOME_UNKNOWN'
}

/** The lease ended or was taken: the reason of {@link Lock.signal}. */
export class LockLostError extends LockError {
  readonly code: 'LOCK_LOST'
  /** From {@link LockManager.withLock} only: what the routine returned, although its lock was lost. Not enumerable. */
  readonly result?: unknown
}

/** The backend cannot be reached, opened or logged into, or refuses to serve; nothing was granted. From a guard: nothing was written. */
export class BackendUnavailableError extends LockError {
  readonly code: 'BACKEND_UNAVAILABLE'
}

/** The backend lacks something that the strategy needs; nothing was granted. From a guard: nothing was written. */
export class UnsupportedError extends LockError {
  readonly code: 'UNSUPPORTED'
}

/**
 * The guarded data has seen a higher token: somebody else got the lock after this holder's lease had ended. Nothing was
 * written. Thrown by the guards of `fencelock/guard`.
 */
export class StaleTokenError extends LockError {
  readonly code: 'STALE_TOKEN'
  /** The token that was refused. */
  readonly token: bigint
  /** The highest token that the data has seen. */
  readonly current: bigint
}

/** The manager was closed. */
export class ClosedError extends LockError {
  readonly code: 'CLOSED'
}
