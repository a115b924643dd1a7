import type { Lock } from 'fencelock'
import { AsyncLocalStorage } from 'node:async_hooks'

const storage = new AsyncLocalStorage<Lock>()

/** The lock of the method that is running: pass on its token and its signal. */
export function currentLock(): Lock {
  const lock = storage.getStore()
  if (lock === undefined) throw new Error('not called in a method with a lock')
  return lock
}

/** Runs a function in which {@link currentLock} is this lock. */
export function runWithLock<T>(lock: Lock, run: () => T): T {
  return storage.run(lock, run)
}
