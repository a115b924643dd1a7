import type { FencedLock } from './fenced-lock.js'

/**
 * A client, cluster or pool of node-redis (package `redis`, 5 or newer). Its options are
 * `{ keys, arguments }`.
 */
export interface NodeRedisLike {
  evalSha(sha: string, options: any): Promise<unknown>
  eval(script: string, options: any): Promise<unknown>
}

/** A client or cluster of ioredis. */
export interface IoredisLike {
  evalsha(sha: string, keys: number, ...rest: (string | Uint8Array)[]): Promise<unknown>
  eval(script: string, keys: number, ...rest: (string | Uint8Array)[]): Promise<unknown>
}

/** Bun's `RedisClient`, such as `Bun.redis`. */
export interface BunRedisLike {
  send(command: string, args: any): Promise<unknown>
  readonly bufferedAmount: number
}

/**
 * The options of {@link redisGuard}. Invalid or unknown ones throw a `TypeError` or `RangeError` with the
 * code `INVALID_OPTION`.
 */
export interface RedisGuardOptions {
  /**
   * The application's own client, connected to the server with the data. The guard neither connects nor
   * closes it. If it sends a command again after a broken connection (ioredis does, unless
   * `autoResendUnfulfilledCommands: false`; a cluster or sentinel of node-redis may), a script of
   * {@link RedisGuard.run} may run twice; the token is checked each time. A refusal of the repeated script is
   * then an `OutcomeUnknownError`, because the first one may have written. With that option ioredis 6.0 never
   * settles what it had sent when the connection broke: the guard ends its wait then.
   */
  client: IoredisLike | NodeRedisLike | BunRedisLike
  /**
   * How every fence key begins: 1 to 64 bytes without braces, spaces and control characters. Default
   * `'fencelock'`.
   */
  prefix?: string | undefined
  /**
   * The fence expires after this many milliseconds without a guarded write, at least 1,000. Default: never,
   * because it has to last as long as the data. With a TTL, a holder that sleeps for longer than that is no
   * longer rejected.
   */
  fenceTtlMs?: number | undefined
  /**
   * How long a call waits for the client, in milliseconds: an integer from 1 to 86,400,000, or `Infinity`. A
   * client that reconnects may wait for its server for ever. After that a write rejects with an
   * `OutcomeUnknownError`, because the client may still send what it has queued, and a read with a
   * `BackendUnavailableError`. Fake timers of tests do not change this limit.
   * @default 10_000
   */
  timeoutMs?: number | undefined
}

/** The options of every call of a {@link RedisGuard}. */
export interface RedisCallOptions {
  /** As in {@link RedisGuardOptions.timeoutMs}. Default: that of the guard. */
  timeoutMs?: number | undefined
  /**
   * Ends the wait. Before anything is sent, the call rejects with `signal.reason`; afterwards a write rejects
   * with an `OutcomeUnknownError`, because it may be done.
   */
  signal?: AbortSignal | undefined
}

/** The options of {@link RedisGuard.set}: those of SET, and of every call. */
export interface RedisSetOptions extends RedisCallOptions {
  /** The value's TTL in milliseconds. Default: none, as with SET. */
  ttlMs?: number | undefined
  /** Keeps the current TTL of the key. Default `false`. */
  keepTtl?: boolean | undefined
  /** Writes only if the key is absent, or only if it is present. Default: always. */
  if?: 'absent' | 'present' | undefined
}

/** The value of a key or field. Numbers and bigints are written as decimals. */
export type RedisValue = string | number | bigint | Uint8Array

/** The options of {@link RedisGuard.run}: what the script gets, and those of every call. */
export interface RedisScriptOptions extends RedisCallOptions {
  /** All keys that the script uses. Default: none. */
  keys?: readonly string[] | undefined
  /** The script's ARGV. Default: none. */
  args?: readonly RedisValue[] | undefined
}

/**
 * Writes to Redis only if the token is not lower than the highest one that the data has seen, and not the
 * same as that of another owner. The check and the write are one script, so nothing can come between them. A
 * lock on several resources passes only if its token passes for each of them.
 *
 * Every write rejects with
 * - a `StaleTokenError` with both tokens if the stored one is higher, or is equal and another owner's:
 *   nothing was written;
 * - a `LockLostError` if `lock.held` is false: nothing was sent;
 * - an `OutcomeUnknownError` if the connection broke before the answer, or there was none within `timeoutMs`:
 *   the write may have been done, or may still be. {@link RedisGuard.advance} under the same lock and then
 *   read, or write again: an equal token passes. Also if the connection broke, the client sent the script
 *   again, and that was refused: then `cause` is the refusal, and the first one may have written;
 * - a `BackendUnavailableError` if there is no connection, or the server refuses to write;
 * - an `UnsupportedError` if the keys are not in one slot of a cluster, or scripts are not allowed;
 * - the client's own error if the write itself fails, for example with WRONGTYPE; with {@link RedisGuard.run}
 *   an `Error` with the script's message;
 * - a `TypeError` or `RangeError` with the code `INVALID_OPTION` for invalid arguments.
 *
 * A server that evicts keys (`maxmemory-policy` other than `noeviction`) may lose a fence. In a cluster the
 * keys of the data must be in the slot of the fence: name them like the resource, or use the resource as
 * their hash tag (`{account:1}:balance`).
 */
export interface RedisGuard {
  /**
   * SET, if the token passes. Resolves with `false` if the option `if` prevented the write, otherwise with
   * `true`.
   * @example
   * await guard.set(lock, 'account:1', JSON.stringify(account))
   */
  set(lock: FencedLock, key: string, value: RedisValue, options?: RedisSetOptions): Promise<boolean>
  /**
   * HSET, if the token passes. Resolves with the number of new fields: fewer if the client had to send the
   * script again. At most 3,500 fields.
   * @example
   * await guard.hset(lock, 'account:1', { balance: 10, changedAt: Date.now() })
   */
  hset(
    lock: FencedLock,
    key: string,
    fields: Readonly<Record<string, RedisValue>> | ReadonlyMap<string | Uint8Array, RedisValue>,
    options?: RedisCallOptions,
  ): Promise<number>
  /**
   * DEL, if the token passes. Resolves with the number of deleted keys: fewer if the client had to send the
   * script again. At most 7,000 keys.
   * @example
   * await guard.del(lock, ['account:1', 'account:1:history'])
   */
  del(lock: FencedLock, key: string | readonly string[], options?: RedisCallOptions): Promise<number>
  /**
   * Runs the body of a Lua script, if the token passes. It has KEYS and ARGV as passed here, and TOKEN as a
   * decimal string. Resolves with what it returns (`null` for nothing). If the script fails, this rejects
   * with an `Error` with the script's message; Redis does not undo what the script had written by then.
   * @example
   * const balance = await guard.run(lock, "return redis.call('INCRBY', KEYS[1], ARGV[1])", {
   *   keys: ['account:1'],
   *   args: [10],
   * })
   */
  run(lock: FencedLock, script: string, options?: RedisScriptOptions): Promise<unknown>
  /**
   * Only advances the fence, for a read before a write: an older holder can no longer change what you read
   * after it.
   * @example
   * await guard.advance(lock)
   * const account = JSON.parse(await client.get('account:1'))
   * await guard.set(lock, 'account:1', JSON.stringify(change(account)))
   */
  advance(lock: FencedLock, options?: RedisCallOptions): Promise<void>
  /**
   * The highest token that the data has seen; `null` if none. Pass it as `minToken` when the lock service was
   * restored from a backup. Writes nothing. Rejects with an `UnsupportedError` if the key of the fence does
   * not hold a token, or scripts are not allowed; with a `BackendUnavailableError` if there is no answer, in
   * which case it can be repeated; and with `signal.reason` when the signal aborts.
   * @example
   * const minToken = (await guard.highWater('account:1')) ?? undefined
   * const lock = await locks.acquire('account:1', { minToken })
   */
  highWater(resource: string, options?: RedisCallOptions): Promise<bigint | null>
  /**
   * The key that holds the fence of a resource: `<prefix>:guard{<tag>}:<resource>`. The tag is the resource,
   * or its part in braces. The owner of the token is next to it, in `<prefix>:guard{<tag>}owner:<resource>`.
   * No key of a lock has either shape, whatever its prefix. No I/O.
   * @example
   * guard.fenceKey('account:1') // 'fencelock:guard{account:1}:account:1'
   */
  fenceKey(resource: string): string
}

/**
 * A guard of data in Redis. No I/O.
 * @example
 * import { redisGuard } from 'fencelock/guard'
 * const guard = redisGuard({ client: new Redis() })
 * await locks.withLock('account:1', (lock) => guard.set(lock, 'account:1', balance))
 */
export function redisGuard(options: RedisGuardOptions): RedisGuard
