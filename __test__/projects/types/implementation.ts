/**
 * Ties the JavaScript in lib/ and guard/ to its declarations: what is declared and what is implemented must
 * be the same. The classes say `@implements`, the tables of options have the declared keys; this is the
 * rest. Only types: nothing here is run.
 */

import type * as http from '../../../guard/http/fence.js'
import type * as guards from '../../../guard/index.js'
import type * as redis from '../../../guard/redis/guard.js'
import type * as sql from '../../../guard/sql/guard.js'
import type * as sync from '../../../guard/sql/sync-guard.js'
import type * as declared from '../../../index.js'
import type * as errors from '../../../lib/errors.js'
import type * as manager from '../../../lib/lock-manager.js'
import type * as lock from '../../../lib/lock/lock.js'

type Equal<A, B> = [A, B] extends [B, A] ? true : false
/** Fails to compile unless it is given `true`. */
type Assert<T extends true> = T
/** Fails to compile unless it is given `never`, and then names what is left over. */
type Nothing<T extends never> = T

type Implemented = InstanceType<(typeof manager)['LockManager']>
type Lock = InstanceType<(typeof lock)['Lock']>
type LocalLock = InstanceType<(typeof lock)['LocalLock']>

/** Members that are public but not declared. Symbols are left out: Node's inspection is not declared. */
type Extra<Actual, Declared> = Exclude<keyof Actual & string, keyof Declared>
export type Undeclared = [
  Nothing<Extra<Implemented, declared.LockManager>>,
  Nothing<Extra<Lock, declared.Lock>>,
  Nothing<Extra<LocalLock, declared.LocalLock>>,
  Nothing<Extra<InstanceType<(typeof sql)['SqlGuard']>, guards.SqlGuard<unknown>>>,
  Nothing<Extra<InstanceType<(typeof sync)['SyncSqliteGuard']>, guards.SqliteGuard<unknown>>>,
  Nothing<Extra<ReturnType<(typeof redis)['redisGuard']>, guards.RedisGuard>>,
  Nothing<Extra<ReturnType<(typeof http)['httpFence']>, guards.HttpFence>>,
]

type Call<T> = T extends (...args: infer Args) => unknown ? Args : never

/**
 * Methods whose parameters are not those declared. A method of a class may demand more than its interface
 * allows.
 */
type Drifted<Actual, Declared> = {
  [K in keyof Actual & keyof Declared]: Equal<Call<Actual[K]>, Call<Declared[K]>> extends true ? never : K
}[keyof Actual & keyof Declared]
export type Arguments = [
  // The overloads of each are one implementation, which `@implements` compares.
  Nothing<Exclude<Drifted<Implemented, declared.LockManager>, 'withLock' | 'elect'>>,
  Nothing<Drifted<LocalLock, declared.LocalLock>>,
  Assert<
    Equal<
      ConstructorParameters<(typeof manager)['LockManager']>,
      ConstructorParameters<typeof declared.LockManager>
    >
  >,
]

/** Each strategy has its methods. */
type Methods = `${'acquire' | 'tryAcquire'}${Capitalize<declared.Strategy>}`
export type Missing = Nothing<Exclude<Methods, keyof Implemented>>

/** The exports. */
type Exported = keyof typeof errors | keyof typeof manager
type Internal = 'closing' | 'fromFailure' | 'held' | 'internalsOf' | 'invalid' | 'lost' | 'lostDuring'
export type Exports = [
  Nothing<Exclude<Exported, keyof typeof declared | Internal>>,
  Nothing<Exclude<keyof typeof declared, Exported>>,
]

/** What all errors have in common. The fields of each class are assigned, and checked by the tests. */
export type Errors = Assert<
  Equal<Pick<InstanceType<(typeof errors)['LockError']>, 'code' | 'resource' | 'strategy'>, Writable>
>
type Writable = { -readonly [K in 'code' | 'resource' | 'strategy']: declared.LockError[K] }
