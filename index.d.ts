/// <reference lib="esnext.disposable" />

/**
 * fencelock: locks with fencing tokens and guarantees you can check.
 *
 * A lease alone is never a guarantee: a paused process can wake up after its lease has ended. Pass the lock's
 * {@link Lock.token} to where the data lives, and refuse writes with a token lower than the highest seen.
 *
 * @packageDocumentation
 */

/**
 * Where a lock is kept, and so what it guarantees.
 *
 * - `'strong'`: a lease on one Redis primary that counts only once its replicas have acknowledged it. This
 *   narrows the window in which a failover loses the lock, but does not close it.
 * - `'quorum'`: a lease on a majority of independent Redis servers. It survives that a minority of them is
 *   down, cut off, or restarted without its data.
 * - `'local'`: a lease in a SQLite file, for the processes of one host, or of containers that share a volume
 *   on it.
 */
export type Strategy = 'strong' | 'quorum' | 'local'

/**
 * How to reach the Redis (6.2 or newer) or Valkey servers of strong locks: exactly one of `url`, `sentinels`
 * with `name`, and `cluster`. What is wrong is refused when the manager is created, with a `TypeError` or
 * `RangeError` whose `code` is `INVALID_OPTION`, and without showing any value.
 */
export type RedisOptions = RedisUrlOptions | RedisSentinelOptions | RedisClusterOptions

/** What all deployments have. */
export interface RedisServerOptions {
  /**
   * How many replicas each primary is MEANT to have (in a cluster: that of each shard): an integer from 0 to
   * 1,000. It is declared because an isolated primary sees no replica, and could not know that some are
   * missing. 0 is for a development server.
   * @default 2, and 0 with `durable`
   */
  replicas?: number | undefined
  /**
   * Declares that a reply to a write means that a quorum has it in a log on disk, as in Amazon MemoryDB, or
   * ElastiCache with synchronous durability: then no acknowledged write is lost in a failover. It is never
   * guessed, and wrong for every other server. Acknowledgements by replicas add nothing to it, so the default
   * of `acks` is 0.
   * @default false
   */
  durable?: boolean | undefined
  /** ACL user of the servers with the data; overrides the URL's. Sentinels never get it. */
  username?: string | undefined
  /** Overrides the URL's. Sentinels never get it. */
  password?: string | undefined
  /**
   * Returns username and password, or a promise of them, for those that change: short-lived tokens, as of IAM
   * or Entra ID, and rotated passwords. It excludes `username`, `password` and credentials in URLs
   * (`INVALID_OPTION`). Sentinels never get what it returns.
   *
   * It is called before the first connection, after about three quarters of `expiresInMs` (not more often
   * than once a second), and when a server refuses what it returned. New connections use the newest
   * credentials, and open ones log in again between commands. Until a server refuses them, old ones are used.
   *
   * If it throws, rejects, returns what is refused here, or does not settle within 30 seconds, it is called
   * again after a pause that grows from a fifth of a second to ten seconds. Calls that need the first
   * connection wait for it within `connectTimeoutMs`, and then fail with a {@link BackendUnavailableError},
   * whose `cause` has the message of the function's error. Later failures, and refusals of a server, are
   * process warnings (`FENCELOCK_CREDENTIALS`). It is not called after {@link LockManager.close}, so a long
   * `drainMs` needs credentials that last as long. It keeps no process alive.
   * @example
   * { url: 'rediss://cache.example', credentials: async () => ({ password: await newToken() }) }
   */
  credentials?: (() => RedisCredentials | PromiseLike<RedisCredentials>) | undefined
  /** Database number, an integer from 0; overrides the URL's. A cluster has only 0. */
  db?: number | undefined
  /**
   * TLS to the servers with the data; `true` for the defaults. Where URLs name these servers, they must say
   * `rediss://`; with `sentinels`, this option is what turns TLS on for the servers that they announce.
   */
  tls?: TlsOptions | true | undefined
  /**
   * What is reached instead of an address that Sentinels or a cluster announce, as behind NAT or in
   * containers. A plain object by `'host:port'` as announced; IPv6 addresses with or without brackets.
   * Refused for a URL of one server.
   * @example
   * { '10.0.0.1:6379': { host: 'redis-1.example', port: 7001 } }
   */
  nodeAddressMap?: Readonly<Record<string, Required<ServerAddress>>> | undefined
  /**
   * Time limit for connecting to a server and logging in, in milliseconds: an integer from 1 to 600,000.
   * @default 5_000
   */
  connectTimeoutMs?: number | undefined
  /**
   * Time limit for a command, in addition to the time that acknowledgements may take, in milliseconds: an
   * integer from 1 to 600,000. A connection that exceeds it is closed.
   * @default 2_000
   */
  commandTimeoutMs?: number | undefined
}

/** What {@link RedisServerOptions.credentials} and {@link QuorumNodeOptions.credentials} return. */
export interface RedisCredentials {
  /** ACL user. */
  username?: string | undefined
  /** Or token. Must not be empty. */
  password: string
  /**
   * How long they are good for from now on, in milliseconds: a finite number above 0.
   * @default until a server refuses them
   */
  expiresInMs?: number | undefined
}

/** How to log in to Sentinels, which decide where the locks are. None of it is taken from other options. */
export interface SentinelLoginOptions {
  /** ACL user of the Sentinels; needs `sentinelPassword`. */
  sentinelUsername?: string | undefined
  /** Of the Sentinels. The servers with the data never get it. */
  sentinelPassword?: string | undefined
  /**
   * TLS to the Sentinels; `true` for the defaults. Turns it on for those given as `{ host, port }`; URLs must
   * say `rediss://`.
   */
  sentinelTls?: TlsOptions | true | undefined
}

/** A deployment that one URL describes. */
export interface RedisUrlOptions extends RedisServerOptions, SentinelLoginOptions {
  /**
   * One of
   * - `redis://[user:password@]host[:port][/db]`: one primary at a fixed address, or at a name that always
   *   leads to it;
   * - `redis+unix:///path/to/socket[?db=1]`;
   * - `redis+sentinel://[user:password@]host[:port][,host[:port]…]/name[/db]`: the primary that these
   *   Sentinels (default port 26379) know by this name; user and password are those of the primary, not of
   *   the Sentinels;
   * - `redis+cluster://[user:password@]host[:port][,host[:port]…]`: a Redis Cluster, found through these
   *   nodes.
   *
   * With TLS `rediss://`, `rediss+sentinel://` (to the Sentinels, too) and `rediss+cluster://`. `valkey` and
   * `valkeys` mean the same as `redis` and `rediss`. Percent-encode special characters in the password. A
   * `URL` object cannot have several hosts.
   */
  url: string | URL
  sentinels?: undefined
  name?: undefined
  cluster?: undefined
}

/** The primary that Sentinels watch. */
export interface RedisSentinelOptions extends RedisServerOptions, SentinelLoginOptions {
  /**
   * The Sentinels: `redis://host[:port]`, `rediss://…` for TLS, or an object. One that answers is enough,
   * more are safer. No credentials in the URLs: see `sentinelUsername` and `sentinelPassword`. The port is
   * 26379 by default.
   */
  sentinels: readonly (string | URL | ServerAddress)[]
  /** The name by which they know the primary, such as `'mymaster'`. */
  name: string
  url?: undefined
  cluster?: undefined
}

/** A Redis Cluster. All resources of a lock must be in one slot: `'{order:5}:stock'`, `'{order:5}:bill'`. */
export interface RedisClusterOptions extends RedisServerOptions {
  /**
   * Its configuration endpoint, or some of its nodes: `redis://[user:password@]host[:port]`, or `rediss://…`
   * for TLS. All agree on TLS, user and password, which apply to every node of the cluster.
   */
  cluster: string | URL | readonly (string | URL)[]
  db?: 0 | undefined
  url?: undefined
  sentinels?: undefined
  name?: undefined
}

/** Where a server listens. */
export interface ServerAddress {
  /** A host name or an IP address. */
  host: string
  /** An integer from 1 to 65,535. */
  port?: number | undefined
}

/** TLS. Certificates and keys are PEM, as text or as bytes. */
export interface TlsOptions {
  /**
   * The certificate authorities to trust, or the certificates of the servers themselves, as self-signed ones.
   * @default the Mozilla roots built into the addon
   */
  ca?: string | Uint8Array | undefined
  /** Client certificate chain; needs `key`. */
  cert?: string | Uint8Array | undefined
  /** The client certificate's private key. */
  key?: string | Uint8Array | undefined
  /**
   * The name the server's certificate must have; for several servers, that of all of them. Sentinels and
   * clusters often announce IP addresses, which their certificates must then contain.
   * @default the host in the URL, or as it was announced
   */
  serverName?: string | undefined
  /**
   * `false` accepts any certificate: an attacker on the network can then read the password and grant locks.
   * @default true
   */
  rejectUnauthorized?: boolean | undefined
}

/** The file of local locks, or none. */
export interface LocalOptions {
  /**
   * A SQLite file of fencelock's own, never your application's database. It is created if it is missing; its
   * directory must exist and be writable. Give an absolute path: a relative one is resolved against the
   * working directory when the manager is created, and a process that is started in another directory gets
   * another file, and the same locks. Containers share the directory, not the file: a file that has hard
   * links or is a mount of its own causes an {@link UnsupportedError}. A URL must be of the scheme `file:`.
   *
   * Beside the file lie `-wal` and `-shm`, which belong to it; a `-live-…` for every process that uses it,
   * which shows that it lives; and for a moment `-create` and `-journal`. List `locks.sqlite*` in
   * `.gitignore` and `.dockerignore`, and back none of them up: leases mean nothing later. Do not write, cut
   * or delete them while processes use them: cutting `-shm` (as `cp` onto it does) kills those with SIGBUS,
   * because SQLite has it mapped, unless they notice before their next access. Deleting is noticed within a
   * second; then all leases in the file are lost.
   *
   * Every name that was locked keeps a row (some 150 bytes for a short one), also when it is free; the rows
   * of names that were not locked for seven days go, a few with each grant. So a file is about as large as
   * the names of a week need. It never shrinks, because its space is used again.
   *
   * `':memory:'` is for tests: no file, but the memory of this manager. No other manager, worker or process
   * sees these locks, and nothing outlives the manager. Otherwise they do all that local locks do. The other
   * options are about a file, and are refused with it. A file of that name is `'./:memory:'`.
   * @example
   * new LockManager({ local: join(import.meta.dirname, 'locks.sqlite') })
   * @example
   * const locks = new LockManager({ local: ':memory:' })
   * @default 'locks.sqlite'
   */
  path?: string | URL
  /**
   * What a granted lease survives. `'normal'`: the end of any process. `'full'`: power loss too, at the cost
   * of a disk flush for every commit.
   * @default 'normal'
   */
  durability?: 'normal' | 'full' | undefined
  /**
   * Allows the file to be on a network or FUSE file system, where SQLite's locks may not work. Such a file is
   * used without WAL, leases expire by wall clocks only, and those of dead holders are not taken over early.
   * Without this option it causes an {@link UnsupportedError}.
   * @default false
   */
  allowNetworkFilesystem?: boolean | undefined
  /**
   * The permissions of the lock file when it is created, whatever the umask says: `0o600` and any of `0o066`.
   * All files next to it have those of the lock file, also ones that a process with another umask creates.
   * For processes of several users use `0o660` and a directory that belongs to a common group and has the
   * setgid bit (`chmod 2770`). A sticky directory such as /tmp is for one user's processes only: Linux may
   * keep others from opening files there. Ignored on Windows.
   * @default what the umask leaves of 0o666
   */
  mode?: number | undefined
}

/** How to reach one node of a quorum. */
export interface QuorumNodeOptions {
  /** `redis://`, `rediss://`, `valkey://`, `valkeys://` or `redis+unix://`, of one server. */
  url: string | URL
  /** ACL user; overrides the URL's. */
  username?: string | undefined
  /** Overrides the URL's. */
  password?: string | undefined
  /**
   * Instead of username and password: as {@link RedisServerOptions.credentials}. A node's own function is
   * asked for that node; that of all nodes once for all of them, so they must accept the same credentials,
   * and all log in again when one of them refuses these. A node's own username, password or function
   * replaces what all nodes have.
   */
  credentials?: (() => RedisCredentials | PromiseLike<RedisCredentials>) | undefined
  /** An integer from 0; overrides the URL's. */
  db?: number | undefined
  /** For `rediss://`; `true` is TLS with the defaults. */
  tls?: boolean | TlsOptions | undefined
  /**
   * The time limit for connecting and logging in, in milliseconds: an integer from 1 to 600,000.
   * @default 5_000
   */
  connectTimeoutMs?: number | undefined
  /**
   * The time limit for a command, in milliseconds: an integer from 1 to 600,000.
   * @default 2_000
   */
  commandTimeoutMs?: number | undefined
}

/**
 * The nodes of quorum locks. All clients must have the same nodes and the same `maxTtlMs`; a client that
 * differs gets an {@link UnsupportedError} while another one is using the quorum. Login, TLS and time limits
 * apply to every node that has none of its own.
 */
export interface QuorumOptions extends Omit<QuorumNodeOptions, 'url'> {
  /**
   * 3, 5 or 7 independent servers, none of which has another's data: no replicas, Sentinels or nodes of a
   * cluster. With 3, one may fail; with 5, two; with 7, three.
   * @example
   * ['redis://10.0.1.1', 'redis://10.0.2.1', 'redis://10.0.3.1']
   */
  nodes: readonly (string | URL | QuorumNodeOptions)[]
  /**
   * The longest `ttlMs` of a quorum lock, in milliseconds: an integer from 10 to 86,400,000. A longer `ttlMs`
   * of an acquire, or of the manager's `defaults`, is refused with a `RangeError` (`INVALID_OPTION`), and not
   * shortened. A node that was restarted does not vote for this long.
   * @default 60_000
   */
  maxTtlMs?: number | undefined
  /**
   * How long a node does not vote after a restart, in milliseconds: an integer from 0. Anything shorter than
   * the default gives up mutual exclusion when a node loses its data, so it is for development only, and
   * `describe()` warns of it.
   * @default the larger of `maxTtlMs` and 2_000
   */
  restartDelayMs?: number | undefined
}

/** The options of `new LockManager()`. */
export interface ManagerOptions {
  /**
   * The strategy of `acquire` and `tryAcquire`, and the default of `inspect`, `list`, `forceRelease` and
   * `describe`.
   * @default 'strong' if `redis` is given, else 'quorum' if `quorum` is given, else 'local'
   */
  strategy?: Strategy | undefined
  /**
   * For strong locks: a URL, or options. To leave it out, leave out the key: `undefined`, `null` and `''` are
   * refused, so that a missing environment variable does not choose a weaker guarantee.
   * @example
   * new LockManager({ ...(url && { redis: url }) })
   */
  redis?: string | URL | RedisOptions
  /** For quorum locks: the nodes. As with `redis`, leave out the key, not the value. */
  quorum?: QuorumOptions
  /**
   * For local locks: a path, a `file:` URL, or options; `':memory:'` for tests. As with `redis`, leave out
   * the key, not the value.
   */
  local?: string | URL | LocalOptions
  /**
   * The start of every Redis key: 1 to 64 bytes without braces, spaces and control characters. Services that
   * share a server and a prefix share their locks.
   * @default 'fencelock'
   */
  prefix?: string | undefined
  /**
   * What {@link LockManager.inspect} and {@link LockManager.list} of other managers call this one: 1 to 256
   * bytes without control characters. It is stored beside the locks, with the names of host and process id,
   * once a minute at most and not with each lock. Everyone who can read the locks sees it.
   * @default the host's name and the process id, `web-3:4711`
   */
  holderName?: string | undefined
  /**
   * Defaults for every acquire of this manager. Options that apply to strong locks only are checked, and
   * ignored for other locks.
   */
  defaults?: Omit<StrongOptions, 'minHoldMs' | 'signal' | 'minToken'> | undefined
}

/** For how long a lease is renewed. */
export interface RenewOptions {
  /**
   * For how long the lease is renewed, in milliseconds from the grant: an integer of at least 1, or
   * `Infinity`. After that the lease is left to expire, at most one TTL later. {@link Lock.signal} aborts
   * shortly before.
   * @default Infinity
   */
  maxHoldMs?: number | undefined
  /**
   * For how long the event loop may be blocked, in milliseconds: an integer of at least 1, or `Infinity`. The
   * lease is not renewed while the event loop has been unresponsive for longer, so that a process that hangs
   * forever loses its locks.
   * @default 30_000
   */
  maxStallMs?: number | undefined
}

/** The options of every acquire. */
export interface AcquireOptions {
  /**
   * How long the lease lasts, in milliseconds: an integer from 10 to 86,400,000 (24 h); of a quorum lock to
   * {@link QuorumOptions.maxTtlMs}.
   * @default 10_000; of quorum locks the smaller of that and `maxTtlMs`
   */
  ttlMs?: number | undefined
  /**
   * Keeps others out for at least this long from the grant, however soon the lock is released, in
   * milliseconds: an integer from 0 to 86,400,000 (24 h); for quorum locks at most
   * {@link QuorumOptions.maxTtlMs}. For a job that every node starts at the same time and one of them shall
   * run: longer than their clocks differ, and shorter than the time between two runs.
   *
   * `release()` resolves as usual, and what is left stays: others find the lock held, with the rest as its
   * remaining time. So it does when a function throws, the manager closes or the process ends; only
   * {@link LockManager.forceRelease} ends it. It does not prolong the lease for its holder: `held`, `signal`
   * and `remainingMs` follow `ttlMs`, and a job that takes longer is renewed or extended as ever. It belongs
   * to one grant: the next owner, and one that adopts the lock, has none of it. A grant that its caller never
   * gets, because it came too late or was cancelled, is free at once.
   *
   * A call that waits gets the lock when the rest is over, and runs the job again: use `waitMs: 0`, or
   * `tryAcquire…`.
   * @default 0
   * @example
   * // Every node does this at the full minute, each by its own clock.
   * const lock = await locks.tryAcquire('send-reminders', { minHoldMs: 30_000, renew: true })
   * if (lock) {
   *   try {
   *     await sendReminders()
   *   } finally {
   *     await lock[Symbol.asyncDispose]() // releases, and never rejects
   *   }
   * }
   */
  minHoldMs?: number | undefined
  /**
   * How long `acquire…` waits while another owner holds the lock, in milliseconds: an integer from 0, which
   * means a single attempt, or `Infinity`. After that the call rejects with {@link LockHeldError}. Waiters in
   * one process are served in order of arrival; across processes, only with `fair`. The `tryAcquire…` methods
   * do not wait, and refuse it.
   *
   * Once a call has seen the lock held, it keeps waiting through outages and missing acknowledgements, and
   * rejects with that error only when `waitMs` runs out. A call whose first attempt fails rejects
   * immediately, unless another attempt may soon succeed: the server says that it is not the primary, or was
   * connected before and cannot be reached now, or no Sentinel knows a primary that can be. Then the call
   * waits for the end of the failover or the outage, or rejects with that error. An attempt in flight is
   * always completed, so if the server hangs, a call can exceed `waitMs` by the time limits of the
   * connection; `signal` ends it immediately.
   * @default 0, and 10_000 in {@link LockManager.withLock}
   */
  waitMs?: number | undefined
  /**
   * First come, first served, across processes: while fair waiters are queued for a resource, no other call
   * gets it, not even `tryAcquire…` when it is free. Costs each waiter an entry in a queue in the backend.
   * @default false
   */
  fair?: boolean | undefined
  /**
   * Keeps the lease alive: a native thread extends it by `ttlMs` every third of `ttlMs`, with the same
   * `acks`. It does so even while the event loop is blocked. A failed renewal is retried until the lease is
   * about to end. Renewal ends when the lock is released or lost, the manager is closed, or a limit is
   * reached: those of an object given here, or with `true` those of the manager's `defaults`. The manager
   * keeps the lease even if the handle is garbage-collected, and a process warning
   * (`FENCELOCK_LOCK_DROPPED`) then names it. It does not keep the process alive.
   * @default false, and true in {@link LockManager.withLock}
   * @example
   * const lock = await locks.acquire('migration', { ttlMs: 30_000, renew: { maxHoldMs: 3_600_000 } })
   */
  renew?: boolean | RenewOptions | undefined
  /**
   * Cancels the wait, never the lease: the call rejects with `signal.reason`, and a grant that arrives
   * afterwards is released.
   */
  signal?: AbortSignal | undefined
  /**
   * The token will be higher than this. Pass the highest token that the guarded data has seen if the lock
   * service has lost its data. From 0n to below 2^53 − 2^40.
   * @default 0n
   */
  minToken?: bigint | undefined
}

/** The options of acquires of strong locks. */
export interface StrongOptions extends AcquireOptions {
  /**
   * How many replicas must acknowledge the lease: an integer from 0 to the declared `replicas`, `'all'` of
   * them, or `'majority'`, which is floor(replicas / 2) + 1: a majority of the replicas that are left when
   * the primary dies.
   * @default 'all'
   */
  acks?: number | 'majority' | 'all' | undefined
  /**
   * How long to wait for the acknowledgements, in milliseconds: an integer from 1 to half of `ttlMs`. A
   * manager's default that is longer is reduced to that.
   * @default the smaller of 50 and a quarter of `ttlMs`; with `fsync`, of 2,000 and half of `ttlMs`
   */
  ackTimeoutMs?: number | undefined
  /**
   * The lease counts only once the primary and the replicas of `acks` have it on disk, in their append-only
   * files (`WAITAOF`, of Redis 7.2 or newer and Valkey). A server that flushes once a second (`appendfsync
   * everysec`) takes about that long, one with `appendfsync no` never has it. Against a power loss use
   * `appendfsync always`: with `everysec`, Valkey up to 9.1 and some versions of Redis 7.4 say up to a second
   * too early that a write is on disk. A server that lacks the command, or whose `appendonly` is off, causes
   * an {@link UnsupportedError}, and nothing is granted.
   * @default false
   */
  fsync?: boolean | undefined
}

/**
 * The options of the `tryAcquire…` methods, which make a single attempt: a `waitMs` other than 0 is refused.
 * That of the manager's `defaults` is for the methods that wait.
 */
export type TryOptions<Options extends AcquireOptions = AcquireOptions> = Omit<Options, 'waitMs'> & {
  waitMs?: 0 | undefined
}

/** The options of {@link LockManager.elect}. */
export interface ElectOptions extends Omit<StrongOptions, 'minHoldMs' | 'waitMs' | 'renew' | 'signal'> {
  /**
   * How the lease of a leader is renewed. At `maxHoldMs` its lock is lost, so that another can lead.
   * @default true
   */
  renew?: true | RenewOptions | undefined
  /** Ends the campaign, or the leadership: {@link Lock.signal} aborts with its reason. */
  signal?: AbortSignal | undefined
}

/** The options of {@link LockManager.adopt}. */
export interface AdoptOptions extends Pick<StrongOptions, 'minToken' | 'acks' | 'ackTimeoutMs' | 'fsync'> {
  /**
   * How long the lease lasts from now on, in milliseconds: an integer from 10 to 86,400,000 (24 h).
   * @default what the lease was granted with
   */
  ttlMs?: number | undefined
  /**
   * Keeps the lease alive, as in {@link AcquireOptions.renew}. It does not matter whether it was renewed
   * before.
   * @default false
   */
  renew?: boolean | RenewOptions | undefined
  /** Cancels the call: it rejects with `signal.reason`, and a lease that was adopted is released. */
  signal?: AbortSignal | undefined
}

/**
 * A lease that was granted: the handle of its holder. Two locks are never deeply equal. A lock cannot be
 * cloned (structuredClone, postMessage), and a copy by `{ ...lock }` has none of its fields: use {@link
 * Lock.toJSON}.
 */
export interface Lock extends AsyncDisposable {
  /** The first of {@link Lock.resources}. */
  readonly resource: string
  /** The resources that the lease covers, in the caller's order. */
  readonly resources: readonly string[]
  readonly strategy: Strategy
  /** 32 hexadecimal digits, new for every attempt. */
  readonly owner: string
  /**
   * The fencing token: strictly increasing per resource, across processes and restarts. Pass it to where the
   * data lives, and refuse writes with a token lower than the highest seen.
   * @example
   * await db.query('UPDATE invoice SET state = $1, fence = $2 WHERE id = $3 AND fence <= $2',
   *   ['paid', lock.token, id])
   */
  readonly token: bigint
  /**
   * Acknowledgements of the grant by replicas, or the votes of a quorum; `null` for local locks and when none
   * were required.
   */
  readonly acks: { readonly required: number; readonly received: number } | null
  /** Whether the lease is still valid, by its deadline; no I/O. Once `false`, it stays `false`. */
  readonly held: boolean
  /** How long the lease is still valid, in milliseconds, by its deadline; 0 when it is not. No I/O. */
  readonly remainingMs: number
  /**
   * Aborts with a {@link LockLostError} before the lease ends (by 10 % of the TTL, at most 500 ms) unless it
   * is extended or renewed; as soon as a loss is known; and when the lock is still held at the end of
   * {@link LockManager.close}. It does not abort on a release, nor when the lock is handed over.
   * That of a leader aborts with the reason of the `signal` of {@link LockManager.elect}, too.
   *
   * After a failover or a restart of Redis, strong locks are looked up on the server that answers then. The
   * signals of those it does not have abort at once. A failover is noticed when a connection breaks, by the
   * next call, or when a Sentinel or a node of the cluster announces it.
   *
   * Created on first access. Already aborted if the lease has ended or cannot be watched (see `reason`). If
   * first read after `release()` or `handOver()`, it never aborts. A lock whose signal was read stays in
   * memory until its lease ends, so that listeners are called; a renewed lease ends when it is released,
   * lost, or at a limit of `renew`. An extension does not undo an abort. Waiting for it keeps
   * the process alive only in a function of {@link LockManager.withLock}.
   * @example
   * await fetch('https://ledger.example/post', { method: 'POST', body, signal: lock.signal })
   */
  readonly signal: AbortSignal
  /**
   * Extends the lease to this long from now; never shortens it. Default: the TTL it was granted with.
   *
   * Rejects with {@link LockLostError} when the lease has ended or was taken; an extension never revives it.
   * With {@link InsufficientReplicasError} or {@link OutcomeUnknownError} nothing is rolled back, and
   * {@link Lock.held} and the deadline stay as they were.
   * @example
   * for (const page of pages) {
   *   await lock.extend()
   *   await migrate(page, lock.token)
   * }
   */
  extend(ttlMs?: number): Promise<void>
  /**
   * Gives the lease away, to be adopted with {@link LockManager.adopt} by another process, or here. Resolves
   * with a ticket: a string that names the lease. It is a secret, because it is all that it takes to adopt
   * the lease.
   *
   * Waits for an extension in flight, and ends renewal. From then on the lock is not held: nothing here
   * releases it, extends it or reports its end, neither {@link LockManager.close} nor the function of
   * {@link LockManager.withLock}, which resolves with the function's result. The lease lives by what is left
   * of its TTL, whatever happens to this process. A second call returns the promise of the first.
   *
   * Rejects with {@link LockLostError} when the lease has ended or was released, and with
   * {@link UnsupportedError} for quorum locks. After any other error the lock is held as before.
   * @example
   * const lock = await locks.acquire('report:7', { ttlMs: 60_000 })
   * await queue.publish({ report: 7, ticket: await lock.handOver() })
   */
  handOver(): Promise<string>
  /**
   * Ends the lease. Resolves with `false` if it had already ended or another owner has the lock now; that is
   * not an error. Also if a loss was reported before, even if the backend still had the lease. A second call
   * returns the promise of the first.
   *
   * Rejects when the backend does not confirm it. The lock is not held here any more all the same, and
   * cleanup continues in the background. In a `finally`, that rejection would replace the result or the error
   * of the block: use `lock[Symbol.asyncDispose]()` there, or {@link LockManager.withLock}.
   * @example
   * if (!(await lock.release())) console.warn('the work outlived its lease')
   */
  release(): Promise<boolean>
  /**
   * Releases, and never rejects: for `finally`. Called by `await using`, which needs Node.js 24, Bun or a
   * compiler.
   */
  [Symbol.asyncDispose](): Promise<void>
  /** Plain data, with the token as a decimal string. */
  toJSON(): object
}

/** The handle of a local lock, which can also be released on the calling thread. */
export interface LocalLock extends Lock, Disposable {
  /**
   * Like {@link Lock.release}, on the calling thread. `false` also when `release()` was called before,
   * whether or not it has finished.
   * @example
   * const lock = manager.tryAcquireLocalSync('cache')
   * if (lock) try { rebuild() } finally { lock.releaseSync() }
   */
  releaseSync(): boolean
  /** Called by `using` (Node.js 24, Bun, or a compiler): releases, and never throws. */
  [Symbol.dispose](): void
}

/** The manager that holds a lock, as it describes itself: once, not with each lock. */
export interface LockHolder {
  /** {@link ManagerOptions.holderName} */
  readonly name: string
  /** The name of its host. */
  readonly host: string
  /** The id of its process, as that sees it. */
  readonly pid: number
  /** When the manager was made, by the clock of its host. */
  readonly since: Date
}

/** Options of {@link LockManager.list}. */
export interface ListOptions {
  /** @default the manager's `strategy` */
  strategy?: Strategy | undefined
  /**
   * Only resources whose names begin with this. It is taken literally: `*` has no meaning.
   * @default ''
   */
  prefix?: string | undefined
  /** Ends the listing: the next lock rejects with the signal's reason. */
  signal?: AbortSignal | undefined
}

/** A resource that is held, and who holds it. */
export interface LockInfo {
  readonly resource: string
  readonly strategy: Strategy
  /** The holder's {@link Lock.owner}. */
  readonly owner: string
  /**
   * The holder's token; 0n if the backend has lost it. Not enumerable, because JSON has no bigint: a copy
   * such as `{ ...info, token: String(info.token) }` names it.
   */
  readonly token: bigint
  /**
   * How long the lease still lasts, in milliseconds, unless it is extended. `Infinity` for a key without TTL,
   * which fencelock did not write: it stays until {@link LockManager.forceRelease}, or until its writer
   * removes it.
   */
  readonly remainingMs: number
  /**
   * How many wait for it, as far as the backend knows. Callers of one manager that wait for the same without
   * `fair` count as one; Redis counts the first 1,000. Of local locks: those with `fair`, and the others of
   * this process.
   */
  readonly waiters: number
  /**
   * Who holds it, for people; `null` if that is unknown: it was granted a moment ago, its manager may not
   * write this, or is of an older version. Not proof of anything: {@link LockInfo.owner} and the token are.
   */
  readonly holder: LockHolder | null
  /** Plain data, with the token as a decimal string. JSON writes a `remainingMs` of `Infinity` as `null`. */
  toJSON(): object
}

/**
 * Whether mutual exclusion survives something.
 * - `'yes'`: no other owner gets the lock while its holder may still work.
 * - `'with a guard'`: another owner may get the lock while its holder still works, so the lock alone is not
 *   enough. Data stays correct where a guard checks the token, because tokens keep rising.
 * - `'not applicable'`: it cannot happen here.
 */
export type Verdict = 'yes' | 'with a guard' | 'not applicable'

/** A verdict and its reason. */
export interface Survival {
  readonly verdict: Verdict
  /** A one-sentence explanation. */
  readonly reason: string
}

/** The failures that are judged for a deployment. */
export interface Survives {
  /** The holder's process dies. */
  readonly processCrash: Survival
  /** The holder's process is paused for longer than its lease lasts, and then continues. */
  readonly pause: Survival
  /** The primary's process dies, and comes back. */
  readonly primaryCrash: Survival
  /** A replica takes the primary's place. */
  readonly failover: Survival
  /** Some of the hosts cannot reach the others. */
  readonly partition: Survival
  /** A wall clock is set. The reason also says how far the replicas' clocks differ from the primary's. */
  readonly clockStep: Survival
  /** All of the deployment loses power. */
  readonly powerLoss: Survival
}

/** What a Redis server reports about itself. `null` if it does not, or if its provider hides it. */
export interface ServerInfo {
  readonly product: 'Redis' | 'Valkey'
  readonly version: string | null
  readonly role: 'primary' | 'replica' | null
  readonly persistence: {
    /** Whether it writes an append-only file. */
    readonly aof: boolean | null
    /** When that is flushed to disk: `'always'`, `'everysec'` or `'no'`. Also set while `aof` is false. */
    readonly fsync: string | null
    /** Whether it writes snapshots on a schedule. */
    readonly rdb: boolean | null
  }
  /** Its `maxmemory-policy`. A lock store must not evict: `'noeviction'`, or no limit. */
  readonly evictionPolicy: string | null
  /** The memory limit, in bytes; 0 for none. */
  readonly maxMemoryBytes: number | null
  /**
   * Its clock compared with this host's: how far it is ahead, and how exact that is (half a round trip), in
   * ms.
   */
  readonly clock: { readonly skewMs: number; readonly errorMs: number } | null
}

/** What can be seen of a lock file. */
export interface LockFileInfo {
  /** Absolute. */
  readonly path: string
  /** Whether it exists. If not, the other fields say what it will be. */
  readonly exists: boolean
  /** For example `'ext4'`, `'tmpfs'`, `'NFS'`; `null` if it is not known. */
  readonly filesystem: string | null
  /** Whether other hosts, or another program, can also see it. */
  readonly network: boolean
  /** Whether a commit survives power loss (`'full'`), or only the end of processes. */
  readonly durability: 'normal' | 'full'
  /** SQLite's journal: `'wal'`, or `'delete'` on a network file system. */
  readonly journal: string
}

/** What a deployment guarantees. */
export interface Guarantee {
  readonly strategy: Strategy
  /** How many acknowledgements an acquire requires by default; `null` for quorum and local locks. */
  readonly acks: number | null
  /** Replicas as declared and as connected right now; `null` for local locks. */
  readonly replicas: { readonly declared: number; readonly connected: number | null } | null
  /** A paragraph in plain words. */
  readonly summary: string
  /** What the locks survive, alone or with a guard. */
  readonly survives: Survives
  /** The server; `null` for local locks. */
  readonly server: ServerInfo | null
  /** The lock file; `null` for locks of a server, and in memory. */
  readonly file: LockFileInfo | null
  /** What to check, each with what to do. */
  readonly warnings: readonly string[]
}

/** What a manager has done since it was created. */
export interface ManagerStats {
  /** Leases held right now: granted, and neither released, handed over, nor dropped, nor lost. */
  readonly held: number
  /** Calls of `acquire…`, `tryAcquire…`, `adopt` and `forceRelease` that have not settled. */
  readonly pending: number
  /** Those of them that may wait for another owner's lease to end: calls with `waitMs`. */
  readonly waiting: number
  /**
   * Leases that are still being released in the background, after an unknown outcome or a failed release. Of
   * local locks those of all managers of this process that use the file.
   */
  readonly cleanups: number
  /** Attempts that got the lease. */
  readonly granted: number
  /** Calls that ended because another owner holds the lock. Calls that still wait are `waiting`. */
  readonly busy: number
  /** Attempts with too few acknowledgements. */
  readonly insufficient: number
  /** Attempts whose outcome is unknown. */
  readonly unknown: number
  /** Attempts that failed in any other way. */
  readonly failed: number
  /** Extensions that were acknowledged, renewals among them. */
  readonly extended: number
  /** Releases that ended a lease. */
  readonly released: number
  /** Leases that were found lost, for any cause; each counts once. */
  readonly lost: number
  /** How many of them for each cause. */
  readonly losses: Readonly<Record<LossCause, number>>
  /** How long calls waited that found the lock held, however they ended. */
  readonly waitMs: Percentiles
  /** How long leases were held that have ended; see {@link ReleaseContext.heldMs}. */
  readonly holdMs: Percentiles
  /**
   * The servers that this manager was connected to, each with the number of its open connections: 0 after a
   * break, until a call connects again. None for local locks.
   */
  readonly connections: readonly {
    readonly strategy: Strategy
    /** A host, an IP address, or the path of a socket. */
    readonly serverAddress: string
    /** Undefined for a socket. */
    readonly serverPort?: number | undefined
    readonly open: number
  }[]
}

/** Durations since the manager was created, in milliseconds. Percentiles are at most a quarter too high. */
export interface Percentiles {
  readonly count: number
  readonly p50: number
  readonly p90: number
  readonly p99: number
  /** The longest, exactly. */
  readonly max: number
}

/**
 * Why a lease was lost: its holder had it, and neither released it nor closed its manager.
 *
 * - `'expired'`: its deadline passed, because it was not extended or renewed in time;
 * - `'taken'`: another owner took it, or it was released by force;
 * - `'failover'`: the server that answers after a failover or a restart does not have it;
 * - `'file'`: its lock file was deleted or replaced.
 */
export type LossCause = 'expired' | 'taken' | 'failover' | 'file'

/**
 * How a call that is published on a channel ended. `'busy'`, `'timeout'`, `'aborted'` and `'closed'` are
 * answers: the context has no `error` then, although the call may reject.
 *
 * - `'busy'`: another owner holds the lock, and the call did not wait; `'timeout'`: still so after `waitMs`;
 * - `'aborted'`: by the call's `signal`; `'closed'`: the manager was or is being closed;
 * - `'insufficient'`: too few acknowledgements; `'unknown'`: the outcome is unknown;
 * - `'unavailable'` and `'unsupported'`: as the errors with these codes; `'failed'`: any other error.
 */
export type CallOutcome =
  | 'busy'
  | 'timeout'
  | 'aborted'
  | 'closed'
  | 'insufficient'
  | 'unknown'
  | 'unavailable'
  | 'unsupported'
  | 'failed'

/** What all messages of `fencelock:acquire` and `fencelock:wait` have. */
interface AcquireFacts {
  readonly resources: readonly string[]
  readonly strategy: Strategy
  /** 0: the call does not wait. */
  readonly waitMs: number
  readonly fair: boolean
  /**
   * For how long the call waited because the lock was held, in milliseconds; 0 if it did not wait. Undefined
   * until it ends.
   */
  waitedMs: number | undefined
  /**
   * The server that has the strategy's locks; undefined before the first connection, for a cluster, for
   * quorum locks and for local locks.
   */
  serverAddress: string | undefined
  serverPort: number | undefined
  /** What the call rejects with, if that is an error; see {@link CallOutcome}. */
  error: unknown
}

/**
 * The context of the tracing channel `fencelock:acquire`: one acquire or adoption, whichever method made it.
 * Calls with invalid arguments are not published.
 */
export interface AcquireContext extends AcquireFacts {
  readonly ttlMs: number
  /** Whether the call was {@link LockManager.adopt}. */
  readonly adopted: boolean
  /**
   * Undefined until the call ends. `'late'`: a lease was granted, and had ended before the caller could have
   * it; `'lost'`: what was to be adopted had ended.
   */
  outcome: 'granted' | 'late' | 'lost' | CallOutcome | undefined
  /** Of the lock, if it was granted; as {@link Lock.owner}. */
  owner: string | undefined
  /** Of the lock, if it was granted. */
  token: bigint | undefined
  /** Of the lock, if it was granted; as {@link Lock.acks}. */
  acks: Lock['acks'] | undefined
}

/**
 * The context of the tracing channel `fencelock:wait`: the part of an acquire with `waitMs` from when it
 * found the lock held until it ends. `outcome` is that of the acquire.
 */
export interface WaitContext extends AcquireFacts {
  outcome: AcquireContext['outcome']
}

/** What all messages about a lease have. */
interface LeaseFacts {
  readonly resources: readonly string[]
  readonly strategy: Strategy
  readonly owner: string
  readonly token: bigint
}

/** What the contexts of calls on a lock have. */
interface LeaseCallFacts extends LeaseFacts {
  /**
   * For how long the lease had been held when the call was made, in milliseconds: from when its request was
   * sent, as its deadline. Undefined if the lease had ended before.
   */
  readonly heldMs: number | undefined
  readonly serverAddress: string | undefined
  readonly serverPort: number | undefined
  /** What the call rejects with, if that is an error; see {@link CallOutcome}. */
  error: unknown
}

/** The context of the tracing channel `fencelock:extend`: one call of {@link Lock.extend}; no renewal. */
export interface ExtendContext extends LeaseCallFacts {
  /** Undefined: as long as it was granted for. */
  readonly ttlMs: number | undefined
  outcome: 'extended' | 'lost' | CallOutcome | undefined
}

/**
 * The context of the tracing channel `fencelock:release`: the first call of {@link Lock.release}, also that
 * of `withLock` and `await using`; of {@link LocalLock.releaseSync}; or of {@link Lock.handOver}. `'lost'`:
 * the lease had already ended, so a release resolves with `false`.
 */
export interface ReleaseContext extends LeaseCallFacts {
  outcome: 'released' | 'handed-over' | 'lost' | CallOutcome | undefined
}

/** The context of the tracing channel `fencelock:connect`: {@link LockManager.connect}, for each strategy. */
export interface ConnectContext {
  readonly strategy: Strategy
  outcome: 'connected' | CallOutcome | undefined
  serverAddress: string | undefined
  serverPort: number | undefined
  error: unknown
}

/**
 * A message of the channel `fencelock:lost`: a lease ended, and neither its holder nor the closing of its
 * manager ended it. Once for a lease. A grant that came too late was never held, so it is no loss.
 */
export interface LostMessage extends LeaseFacts {
  readonly cause: LossCause
  readonly heldMs: number
  readonly error: LockLostError
}

/** A message of the channel `fencelock:renewed`: one attempt to renew a lease. */
export interface RenewedMessage extends LeaseFacts {
  readonly outcome: 'extended' | 'lost' | CallOutcome
  readonly heldMs: number
  /** How long after it was due the attempt began, in milliseconds. */
  readonly lagMs: number
  /** How long it took, in milliseconds. */
  readonly durationMs: number
  /** For how much longer the lease counts, in milliseconds. */
  readonly remainingMs: number
  /** Why it failed, if it did: a {@link LockError}. It is tried again until the lease is about to end. */
  readonly error: Error | undefined
}

/** A message of the channel `fencelock:connection`: a connection to a server with leases. */
export interface ConnectionMessage {
  readonly strategy: Strategy
  /**
   * `'closed'`: by this manager; `'broken'`: it ended without being asked to; `'failed'`: it could not be
   * made.
   */
  readonly state: 'opened' | 'closed' | 'broken' | 'failed'
  /** A host, an IP address, or the path of a socket. */
  readonly serverAddress: string
  readonly serverPort: number | undefined
  /** How many connections to this server are open now. */
  readonly open: number
  /** Why, unless it opened. */
  readonly reason: string | undefined
}

/** The context of each tracing channel, by its name. */
export interface TracingContexts {
  'fencelock:acquire': AcquireContext
  'fencelock:wait': WaitContext
  'fencelock:extend': ExtendContext
  'fencelock:release': ReleaseContext
  'fencelock:connect': ConnectContext
}

/** The message of each other channel, by its name. */
export interface ChannelMessages {
  'fencelock:lost': LostMessage
  'fencelock:renewed': RenewedMessage
  'fencelock:connection': ConnectionMessage
}

/** The options of {@link LockManager.close}. */
export interface CloseOptions {
  /**
   * How long locks may still be held, in milliseconds: an integer from 0 to 86,400,000 (24 h), or `Infinity`.
   * 0 releases all of them immediately, whatever still runs under them.
   * @default 4_000
   */
  drainMs?: number | undefined
}

/**
 * Acquires locks. Create one per process and keep it: all its locks share its connections.
 *
 * Every asynchronous method but `close` rejects with a {@link ClosedError} once the manager is closed (those
 * that acquire, `forceRelease` and `connect` as soon as {@link LockManager.close} is called), and with a
 * `TypeError` or `RangeError` of code `'INVALID_OPTION'` for invalid arguments. A resource is a string of 1
 * to 512 bytes of well-formed Unicode. Of several resources (at most 1,000) either all are locked or none,
 * with one token.
 *
 * The store remembers the last token of each resource: Redis in a key that stays for at least seven days
 * after the last lease, a lock file in a row. So names that are made from ids, each locked once, let the
 * store grow by as many entries as are locked within that time.
 *
 * @example
 * const locks = new LockManager({ redis: 'redis://127.0.0.1:6379' })
 * await locks.withLock('invoice:42', { ttlMs: 30_000 }, (lock) => pay(42, lock.token))
 */
export class LockManager implements AsyncDisposable {
  /**
   * Checks the options and throws immediately if they are invalid; connects on first use.
   * @example
   * new LockManager({ local: join(import.meta.dirname, 'locks.sqlite') })
   * new LockManager({ redis: { url: 'redis://127.0.0.1:6379', replicas: 0 } }) // a development server
   */
  constructor(options?: ManagerOptions)

  /**
   * Connects to Redis if it is configured, and opens the lock file if it is named or the default strategy is
   * local, so that a wrong configuration fails early. Optional: every other call connects when needed.
   * @example
   * await locks.connect()
   */
  connect(): Promise<void>

  /**
   * Acquires a strong lock, in one attempt or as many as `waitMs` allows.
   *
   * Rejects with {@link LockHeldError}, {@link InsufficientReplicasError}, {@link OutcomeUnknownError},
   * {@link BackendUnavailableError}, {@link UnsupportedError}; with {@link LockLostError} if the grant took
   * longer to arrive than its lease lasts.
   * @example
   * const lock = await locks.acquireStrong(['account:1', 'account:2'], { ttlMs: 5_000, acks: 'majority' })
   */
  acquireStrong(resource: string | readonly string[], options?: StrongOptions): Promise<Lock>
  /**
   * Like {@link LockManager.acquireStrong}, but resolves with `null` when another owner holds the lock.
   * @example
   * const lock = await locks.tryAcquireStrong('nightly-report')
   * if (lock === null) return // another instance is at it
   */
  tryAcquireStrong(
    resource: string | readonly string[],
    options?: TryOptions<StrongOptions>,
  ): Promise<Lock | null>

  /**
   * Acquires a quorum lock, in one attempt or as many as `waitMs` allows. {@link Lock.acks} has the votes.
   *
   * Rejects with {@link LockHeldError}, {@link OutcomeUnknownError}, {@link BackendUnavailableError} if fewer
   * than a majority of the nodes agree, which names each node and why, {@link UnsupportedError}; with
   * {@link LockLostError} if the grant took longer to arrive than its lease lasts.
   * @example
   * const lock = await locks.acquireQuorum('invoice:7', { ttlMs: 5_000, waitMs: 2_000 })
   */
  acquireQuorum(resource: string | readonly string[], options?: AcquireOptions): Promise<Lock>
  /**
   * Like {@link LockManager.acquireQuorum}, but resolves with `null` when another owner holds the lock.
   * @example
   * const lock = await locks.tryAcquireQuorum('nightly-report')
   */
  tryAcquireQuorum(resource: string | readonly string[], options?: TryOptions): Promise<Lock | null>

  /**
   * Acquires a local lock, in one attempt or as many as `waitMs` allows. The lease of a process that died is
   * taken over immediately. If another program keeps the file busy, this and every other call on it gives up
   * after two seconds.
   *
   * Rejects with {@link LockHeldError}, {@link BackendUnavailableError}, {@link UnsupportedError}.
   * @example
   * const lock = await locks.acquireLocal('import', { ttlMs: 60_000 })
   */
  acquireLocal(resource: string | readonly string[], options?: AcquireOptions): Promise<LocalLock>
  /**
   * Like {@link LockManager.acquireLocal}, but resolves with `null` when another owner holds the lock.
   * @example
   * const lock = await locks.tryAcquireLocal('thumbnails')
   */
  tryAcquireLocal(resource: string | readonly string[], options?: TryOptions): Promise<LocalLock | null>
  /**
   * Like {@link LockManager.tryAcquireLocal}, on the calling thread. Blocks it for the time of a small SQLite
   * transaction; for at most two seconds if another process keeps the file busy, or another thread of this
   * one is writing to a disk that does not answer. Its own writing may take as long as the disk does.
   * @example
   * const lock = locks.tryAcquireLocalSync('compile-cache')
   * if (lock === null) return // another process is compiling
   */
  tryAcquireLocalSync(resource: string | readonly string[], options?: TryOptions): LocalLock | null

  /**
   * Acquires a lock of the manager's `strategy`, in one attempt or as many as `waitMs` allows.
   * @example
   * const lock = await locks.acquire('order:7')
   */
  acquire(resource: string | readonly string[], options?: StrongOptions): Promise<Lock>
  /**
   * Like {@link LockManager.acquire}, but resolves with `null` when another owner holds the lock.
   * @example
   * const lock = await locks.tryAcquire('order:7')
   */
  tryAcquire(resource: string | readonly string[], options?: TryOptions<StrongOptions>): Promise<Lock | null>

  /**
   * Acquires a lock of the manager's `strategy`, runs the function with it, and releases it. The lease is
   * renewed meanwhile (`renew: true`), and `waitMs` is 10,000, unless the options or the manager's `defaults`
   * say otherwise.
   *
   * Resolves with what the function returned; rejects with what it threw, even if the lock was lost. If the
   * lock was lost before the function finished and it did not throw, rejects with a {@link LockLostError}
   * whose `result` is what the function returned, and whose `cause` says why. An unreachable backend at the
   * end is not an error: the lease is cleaned up in the background. Rejects like `acquire` if the lock cannot
   * be acquired; the function is not called then. `signal` cancels the wait, not the function: use
   * {@link Lock.signal} there.
   *
   * While the function runs and the lock is held, the process is kept alive. Locks are not reentrant: an
   * acquire of the same resource within the function waits until `waitMs` is over. After a second a process
   * warning (`FENCELOCK_WAITS_FOR_ITSELF`) says so, and so does the {@link LockHeldError} (`byCaller`).
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
   * const options = { ttlMs: 5_000, renew: { maxHoldMs: 60_000 } }
   * await locks.withLock(['account:1', 'account:2'], options, transfer)
   */
  withLock<T>(
    resource: string | readonly string[],
    options: StrongOptions | undefined,
    fn: (lock: Lock) => T | PromiseLike<T>,
  ): Promise<T>

  /**
   * Elects a leader among all callers that name this resource: waits until it has the lock, runs `fn` while
   * it is renewed, and releases it when `fn` settles. With the manager's strategy.
   *
   * - When `fn` returns, the promise resolves; when it throws, it rejects with the same error.
   * - When the lock is lost, {@link Lock.signal} aborts. `fn` must stop then: another leader may start at any
   *   time. Once `fn` has settled, a new campaign begins after a short, random pause. The error of a lost
   *   lock, alone or as a `cause`, is not passed on.
   * - When `signal` aborts, waiting ends, or {@link Lock.signal} aborts with the reason of `signal`; once
   *   `fn` has settled, the lock is released and the promise resolves.
   * - When {@link LockManager.close} is called, waiting ends and the promise resolves. A leader goes on until
   *   `fn` settles, for at most `drainMs`: {@link LockManager.closing} tells it to stop. Its reason as the
   *   error of `fn`, alone or as a `cause`, is not passed on.
   *
   * A backend that fails while this waits is tried again, after pauses that grow from 0.2 to 10 seconds; a
   * process warning (`FENCELOCK_CAMPAIGN_FAILED`) says why. It rejects for what time does not mend: {@link
   * UnsupportedError}, invalid options, and a manager that was closed before. Keeps the process alive. Two
   * leaders never have the lock at the same time, as far as the strategy guarantees that, but a paused one
   * may still be working: pass on {@link Lock.token}, which rises with each leader.
   * @example
   * await locks.elect('scheduler', { ttlMs: 5_000 }, async (lock) => {
   *   const signal = AbortSignal.any([lock.signal, locks.closing])
   *   while (!signal.aborted) await scheduleNext({ signal, token: lock.token })
   * })
   */
  elect(resource: string | readonly string[], fn: (lock: Lock) => unknown): Promise<void>
  /** The same with options. */
  elect(
    resource: string | readonly string[],
    options: ElectOptions | undefined,
    fn: (lock: Lock) => unknown,
  ): Promise<void>

  /**
   * Takes over the lease that another holder gave away with {@link Lock.handOver}: replaces its owner by a
   * new one, and takes a new, higher token, in one attempt that counts as an acquire does. So a ticket works
   * once, and a guard that has seen the new token refuses what the giver still writes. A lock whose strategy
   * is `'local'` is a {@link LocalLock}, and belongs to this process.
   *
   * Rejects with {@link LockLostError} when the lease has ended, was released by force, or was adopted
   * before; with a `TypeError` or `RangeError` (`INVALID_OPTION`) for what is no ticket, or one of a strategy
   * or prefix that is not this manager's; and like {@link LockManager.acquireStrong}. After
   * {@link InsufficientReplicasError} with `rolledBack` the ticket can be used again, as long as the lease
   * lasts; after {@link OutcomeUnknownError} the lease is being released.
   * @example
   * const { report, ticket } = await queue.next()
   * const lock = await locks.adopt(ticket, { renew: true })
   * try {
   *   await build(report, lock.token)
   * } finally {
   *   await lock[Symbol.asyncDispose]()
   * }
   */
  adopt(ticket: string, options?: AdoptOptions): Promise<Lock>

  /**
   * Reports the holder of a resource; `null` when it is free. A backend error rejects; it is never reported
   * as `null`.
   * @example
   * const info = await locks.inspect('order:7')
   * if (info) console.log(`held with token ${info.token} for ${info.remainingMs} ms more`)
   */
  inspect(resource: string, options?: { strategy?: Strategy | undefined }): Promise<LockInfo | null>
  /**
   * Lists the locks that are held, in no particular order. A lock that is held from the first step to the
   * last is listed; one that is granted or released meanwhile may be. It is listed once, unless more than
   * 524,288 others come between.
   *
   * Safe on a server with millions of other keys, and under load: it takes many steps, each of which is
   * short for the server (`SCAN` on every primary, read transactions of 256 rows). But it looks at all keys
   * of the server, so it takes long where there are many: about a second for each million, and twice that in
   * a cluster. Leave the loop early if one lock is enough.
   *
   * Ends with {@link BackendUnavailableError}, {@link UnsupportedError}, {@link ClosedError} or the signal's
   * reason. Wrong options reject with the first step.
   * @example
   * for await (const { resource, holder, waiters } of locks.list({ prefix: 'order:' })) {
   *   console.log(`${resource}: ${holder?.name ?? 'unknown'}, ${waiters} waiting`)
   * }
   */
  list(options?: ListOptions): AsyncIterableIterator<LockInfo>
  /**
   * Ends the current lease of the resource, no matter who holds it. Resolves with `false` if it was free. The
   * holder is not stopped: only fencing protects the data from it.
   * @example
   * await locks.forceRelease('order:7')
   */
  forceRelease(resource: string, options?: { strategy?: Strategy | undefined }): Promise<boolean>
  /**
   * Reports what this deployment guarantees, as far as it can be seen now: which failures its locks survive
   * alone and which they survive with a guard. For locks with the manager's default `acks`, `fsync` and
   * `ttlMs`. Does not create a lock file. Connects to the replicas of a Redis primary, to compare their
   * clocks with its own, for a second at most.
   *
   * Rejects with {@link BackendUnavailableError} or {@link UnsupportedError}.
   * @example
   * const { summary, survives, warnings } = await locks.describe()
   * for (const warning of warnings) console.warn(warning)
   * if (survives.failover.verdict !== 'yes') console.log(survives.failover.reason)
   */
  describe(options?: { strategy?: Strategy | undefined }): Promise<Guarantee>
  /**
   * Counts what this manager has done so far. No I/O, and cheap: it reads counters, and looks at each lease
   * that is held.
   * @example
   * const { held, pending } = locks.stats()
   */
  stats(): ManagerStats
  /**
   * Aborts when {@link LockManager.close} is called; the reason is a {@link ClosedError}. Stop long work
   * then: its lock is released at the latest when the time to drain is over.
   * @example
   * await locks.withLock('consumer', async (lock) => {
   *   const signal = AbortSignal.any([lock.signal, locks.closing])
   *   while (!signal.aborted) await consume({ signal, token: lock.token })
   * })
   */
  readonly closing: AbortSignal
  /**
   * Closes the manager when its locks have been released.
   *
   * It accepts no acquires from now on, and ends all waiting: these calls reject with a {@link ClosedError}.
   * Locks that are held go on, and are renewed, for at most `drainMs`: until they are released or lost, or
   * their leases end. The functions of {@link LockManager.withLock} so run to their end. `extend`, `release`,
   * `inspect`, `list`, `describe` and `stats` work meanwhile. Then what is still held is released, its
   * {@link Lock.signal} aborts, and a process warning (`FENCELOCK_CLOSED_WHILE_HELD`) names it. At last
   * attempts in flight are awaited, and connections and files closed. Renewed leases whose handles were
   * garbage-collected are not waited for.
   *
   * Without locks, and with a backend that responds, that takes milliseconds. With one that does not,
   * releases take up to their time limits (`connectTimeoutMs`, `commandTimeoutMs`), and attempts in flight up
   * to 10 seconds more. What is left is cleaned up in the background, or expires.
   *
   * Keeps the process alive. All calls return the same promise; a later call with a shorter `drainMs`
   * shortens the time. Rejects for invalid options only.
   * @example
   * process.once('SIGTERM', () => {
   *   // What the server still answers may need its locks, so they are closed after it.
   *   server.close(() => locks.close())
   * })
   */
  close(options?: CloseOptions): Promise<void>
  /** Called by `await using`: {@link LockManager.close} with its defaults. */
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

/** What every error of a lock can be made with; {@link LockErrorCode} follows from its class. */
export interface LockErrorFields {
  resource?: string | undefined
  strategy?: Strategy | undefined
  cause?: unknown
}

/**
 * The base class of the errors of locks. Invalid arguments cause native `TypeError`s and `RangeError`s with
 * the code `INVALID_OPTION`.
 *
 * Its classes can be made and extended, for tests of how a program handles them; LockError itself cannot,
 * because it has no code.
 * @example
 * const error = new LockHeldError('held by another test', { resource: 'invoice:42', remainingMs: 50 })
 */
export abstract class LockError extends Error {
  constructor(message: string, fields?: LockErrorFields)
  readonly code: LockErrorCode
  /**
   * Where the documentation explains the code and what to do: a file of this package, so below
   * `node_modules/fencelock`, and a heading in it, for example `docs/reference/errors.md#lock-held`. A site
   * that is built from these documents has the same heading on its page `reference/errors`. The native errors
   * of the code `INVALID_OPTION` have it, too.
   */
  readonly help: string
  /** The resource, if there is one; of several the first, unless the error is about another one. */
  readonly resource: string | undefined
  readonly strategy: Strategy | undefined
  /**
   * The underlying failure, if there is one. A failure of the operating system has the `code` that Node.js
   * has for it, such as `'ECONNREFUSED'`, `'ETIMEDOUT'`, `'ENOTFOUND'` or `'EACCES'`. An error reply of a
   * Redis server has its first word, such as `'WRONGPASS'`, `'NOAUTH'`, `'NOPERM'` or `'ERR'`.
   */
  readonly cause?: unknown
  /** Plain data, with tokens as decimal strings. */
  toJSON(): object
}

/**
 * Another owner holds the lock; nothing was granted. Of several resources, `resource` is the one that is
 * held, or for which others are queued; the one whose lease lasts longest, if several are held.
 */
export class LockHeldError extends LockError {
  /** Without it, `byCaller` is `false`. */
  constructor(
    message: string,
    fields?: LockErrorFields & {
      resources?: readonly string[] | undefined
      remainingMs?: number | undefined
      byCaller?: boolean | undefined
    },
  )
  readonly code: 'LOCK_HELD'
  /** All resources that were asked for, in that order; empty for an error that was made without them. */
  readonly resources: readonly string[]
  /** How long the holder's lease still lasts, in milliseconds, unless it is renewed; undefined if unknown. */
  readonly remainingMs: number | undefined
  /**
   * Whether the call was made in a function of {@link LockManager.withLock} that holds the lock: it waited
   * for itself, unless the function went on without it.
   */
  readonly byCaller: boolean
}

/**
 * Too few replicas acknowledged in time, or with `fsync` the primary or too few of them had it on disk. A
 * grant is then not valid, and is rolled back. An extension is not rolled back; the lease keeps its previous
 * deadline.
 */
export class InsufficientReplicasError extends LockError {
  /** Without them, `required` and `received` are 0 and `rolledBack` is `false`. */
  constructor(
    message: string,
    fields?: LockErrorFields & {
      required?: number | undefined
      received?: number | undefined
      connected?: number | undefined
      rolledBack?: boolean | undefined
    },
  )
  readonly code: 'INSUFFICIENT_REPLICAS'
  /** How many acknowledgements were required. */
  readonly required: number
  /** How many arrived. */
  readonly received: number
  /** How many connected replicas the primary reported; undefined if it could not be asked. */
  readonly connected: number | undefined
  /**
   * Whether this primary confirmed that nothing of the attempt is left on it. If not, cleanup continues.
   * Always `false` for an extension, which is not rolled back.
   */
  readonly rolledBack: boolean
}

/**
 * The connection broke after the request was sent: a lease may exist until its TTL expires. Cleanup
 * continues. From a guard: it is unknown whether the write took effect; advance the fence under the same
 * lock, then read.
 */
export class OutcomeUnknownError extends LockError {
  readonly code: 'OUTCOME_UNKNOWN'
}

/** The lease ended or was taken: the reason of {@link Lock.signal}. */
export class LockLostError extends LockError {
  readonly code: 'LOCK_LOST'
  /**
   * From {@link LockManager.withLock} only: what the function returned although its lock was lost. Not
   * enumerable.
   */
  readonly result?: unknown
}

/**
 * The backend cannot be reached, opened or logged into, or refuses to serve; nothing was granted. From a
 * guard: nothing was written.
 */
export class BackendUnavailableError extends LockError {
  readonly code: 'BACKEND_UNAVAILABLE'
}

/** The backend lacks what the strategy needs; nothing was granted. From a guard: nothing was written. */
export class UnsupportedError extends LockError {
  readonly code: 'UNSUPPORTED'
}

/**
 * The guarded data has seen a higher token: another owner got the lock after this holder's lease had ended.
 * Or it has seen the same token from another owner: in a network split with `acks` below the number of
 * replicas both sides can grant the lock, with one token. Nothing was written. Thrown by the guards of
 * `fencelock/guard`.
 */
export class StaleTokenError extends LockError {
  /** Without them, the tokens are 0n. */
  constructor(
    message: string,
    fields?: LockErrorFields & { token?: bigint | undefined; current?: bigint | undefined },
  )
  readonly code: 'STALE_TOKEN'
  /**
   * The token that was refused. Not enumerable, because much that copies an error cannot take a bigint: log
   * `String(error.token)`.
   */
  readonly token: bigint
  /**
   * The highest token that the data has seen; equal to `token` if that was another owner's. Not enumerable,
   * as `token`.
   */
  readonly current: bigint
}

/** The manager is being closed, or was closed. */
export class ClosedError extends LockError {
  readonly code: 'CLOSED'
}
