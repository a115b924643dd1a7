import { Inject } from '@nestjs/common'
import { LockManager, type StrongOptions } from 'fencelock'

import { runWithLock } from './current-lock.js'

type AsyncMethod<Args extends any[]> = (...args: Args) => Promise<any>

const locksOf = Symbol('the lock manager of a decorated class')

/**
 * Runs the method under a lock, which is renewed meanwhile: `@WithLock((id: string) => `invoice:${id}`)`. The
 * class must be a provider of Nest. Calls wait for the lock for `waitMs`, and then fail with a LockHeldError.
 */
export function WithLock<Args extends any[]>(
  resource: (...args: Args) => string,
  options: StrongOptions = {},
) {
  return wrap<Args>((locks, args, run) =>
    locks.withLock(resource(...args), options, (lock) => runWithLock(lock, run)),
  )
}

/** Replaces a method by `around`, which gets the lock manager, the arguments, and the call of the method. */
export function wrap<Args extends any[]>(
  around: (locks: LockManager, args: Args, run: () => Promise<unknown>) => Promise<unknown>,
) {
  return (
    target: object,
    _key: string | symbol,
    descriptor: TypedPropertyDescriptor<AsyncMethod<Args>>,
  ): void => {
    const method = descriptor.value!
    Inject(LockManager)(target, locksOf)
    descriptor.value = function (this: { [locksOf]: LockManager }, ...args: Args) {
      return around(this[locksOf], args, () => method.apply(this, args))
    }
    // What other decorators said about the method holds for this one.
    for (const key of Reflect.getOwnMetadataKeys(method)) {
      Reflect.defineMetadata(key, Reflect.getOwnMetadata(key, method), descriptor.value)
    }
  }
}
