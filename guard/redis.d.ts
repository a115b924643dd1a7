import type { FencedLock } from './fenced-lock.js'

/** A client of node-redis (package `redis`, 5 or newer), or one of its clusters or pools. Its options are `{ keys, arguments }`. */
export interface NodeRedisLike {
  evalSha(sha: string, options: any): Promise<unknown>
  eval(script: string, options: any): Promise<unknown>
}

/** A client of ioredis, or one of its clusters. */
export interface IoredisLike {
  evalsha(sha: string, keys: number, ...rest: (string | Uint8Array)[]): Promise<unknown>
  eval(script: string, keys: number, ...rest: (string | Uint8Array)[]): Promise<unknown>
}

/** Bun's `RedisClient`, also `Bun.redis`. */
export interface BunRedisLike {
  send(command: string, args: any): Promise<unknown>
  readonly bufferedAmount: number
}

/** The options of {@link redisGuard}. Wrong or unknown ones are a `TypeError` or `RangeError` of code `INVALID_OPTION`. */
export interface RedisGuardOptions {
  /**
   * The application's own client, of the server that holds the data. It stays yours: the guard neither connects nor closes
   * it. Where it sends a command again after a broken connection (ioredis does, unless
   * `autoResendUnfulfilledCommands: false`), a script of {@link RedisGuard.run} may run twice; the token is checked each
   * time.
   */
  client: IoredisLike | NodeRedisLike | BunRedisLike
  /** Begins every fence key: 1 to 64 bytes without braces, spaces and control characters. Default `'fencelock'`. */
  prefix?: string | undefined
  /**
   * After how many milliseconds without a guarded write the fence is forgotten, at least 1,000. Default: never, because
   * it has to last as long as the data. With a TTL a holder that sleeps for longer than that is not refused any more.
   */
  fenceTtlMs?: number | undefined
}

/** The options of {@link RedisGuard.set}: those of SET. */
export interface RedisSetOptions {
  /** The value's TTL in milliseconds. Default: none, as with SET. */
  ttlMs?: number | undefined
  /** Keeps the TTL that the key has. Default `false`. */
  keepTtl?: boolean | undefined
  /** Writes only if the key is there, or is not. Default: always. */
  if?: 'absent' | 'present' | undefined
}

/** What a value may be. Numbers and bigints are written as decimals. */
export type RedisValue = string | number | bigint | Uint8Array

/** What {@link RedisGuard.run} gives to the script. */
export interface RedisScriptOptions {
  /** The keys that the script touches; all of them must be named. Default none. */
  keys?: readonly string[] | undefined
  /** What the script finds in ARGV. Default none. */
  args?: readonly RedisValue[] | undefined
}

/**
 * Writes to Redis only for those whose token is not lower than the highest that the data has seen. Token and write are
 * one script, so nothing can come between them. The holder of a lock on several resources passes only if none of them has
 * seen a higher token.
 *
 * Every write rejects with
 * - a `StaleTokenError` that has both tokens when the stored one is higher: nothing was written;
 * - a `LockLostError` when `lock.held` is false: nothing was sent;
 * - an `OutcomeUnknownError` when the connection broke before the answer: the write may have been done, or may still be.
 *   {@link RedisGuard.advance} under the same lock and then read, or write again: an equal token passes;
 * - a `BackendUnavailableError` when there is no connection, or the server refuses to write;
 * - an `UnsupportedError` when the keys are not in one slot of a cluster, or scripts are not allowed;
 * - the client's own error when the write itself fails, for example with WRONGTYPE; of {@link RedisGuard.run} an `Error` with
 *   what the script failed with;
 * - a `TypeError` or `RangeError` of code `INVALID_OPTION` for arguments it cannot take.
 *
 * A server that evicts (`maxmemory-policy` other than `noeviction`) may forget a fence. In a cluster the keys of the data
 * must lie in the slot of the fence: name them like the resource, or give them the resource as hash tag
 * (`{account:1}:balance`).
 */
export interface RedisGuard {
  /**
   * SET, if the token passes. Resolves with whether it was written: `false` only where the option `if` said no.
   * @example
   * await guard.set(lock, 'account:1', JSON.stringify(account))
   */
  set(lock: FencedLock, key: string, value: RedisValue, options?: RedisSetOptions): Promise<boolean>
  /**
   * HSET, if the token passes. Resolves with the number of fields that are new. At most 3,500 fields.
   * @example
   * await guard.hset(lock, 'account:1', { balance: 10, changedAt: Date.now() })
   */
  hset(
    lock: FencedLock,
    key: string,
    fields: Readonly<Record<string, RedisValue>> | ReadonlyMap<string | Uint8Array, RedisValue>,
  ): Promise<number>
  /**
   * DEL, if the token passes. Resolves with the number of keys that were there. At most 7,000 keys.
   * @example
   * await guard.del(lock, ['account:1', 'account:1:history'])
   */
  del(lock: FencedLock, key: string | readonly string[]): Promise<number>
  /**
   * Runs the body of a Lua script, if the token passes. It has KEYS and ARGV as given here, and TOKEN as a decimal string;
   * what it returns is what this resolves with (`null` for nothing). Redis undoes nothing when a script fails half-way: then
   * this rejects with an `Error` that has the script's message, whatever it says.
   * @example
   * const balance = await guard.run(lock, "return redis.call('INCRBY', KEYS[1], ARGV[1])", {
   *   keys: ['account:1'],
   *   args: [10],
   * })
   */
  run(lock: FencedLock, script: string, options?: RedisScriptOptions): Promise<unknown>
  /**
   * Only advances the fence, for those who must read before they write: what is read after it can no longer be changed by
   * an older holder.
   * @example
   * await guard.advance(lock)
   * const account = JSON.parse(await client.get('account:1'))
   * await guard.set(lock, 'account:1', JSON.stringify(change(account)))
   */
  advance(lock: FencedLock): Promise<void>
  /**
   * The highest token that the data has seen; `null` if none. To seed `minToken` when the lock service was restored from a
   * backup. Rejects with an `UnsupportedError` when the key of the fence holds no token.
   * @example
   * const minToken = (await guard.highWater('account:1')) ?? undefined
   * const lock = await locks.acquire('account:1', { minToken })
   */
  highWater(resource: string): Promise<bigint | null>
  /**
   * The key that holds the fence of a resource: `<prefix>:{<tag>}:guard:<resource>`. The tag is the resource, or what it has
   * in braces itself. No I/O.
   * @example
   * guard.fenceKey('account:1') // 'fencelock:{account:1}:guard:account:1'
   */
  fenceKey(resource: string): string
}

/**
 * Guards data in Redis. No I/O.
 * @example
 * import { redisGuard } from 'fencelock/guard'
 * const guard = redisGuard({ client: new Redis() })
 * await locks.withLock('account:1', (lock) => guard.set(lock, 'account:1', balance))
 */
export function redisGuard(options: RedisGuardOptions): RedisGuard
